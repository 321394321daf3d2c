"""Which port everything listens on: fixed ones must be free, the others come from a block reserved for this run."""

from __future__ import annotations

import fcntl
import os
import random
import socket
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from tidings.up.errors import PortTaken, UpError

HOST = "127.0.0.1"
BLOCK = 150
"""Ports reserved for one run: five for each of some 25 processes."""
FIRST, LAST = 18_000, 32_700
"""Below the range from which the kernel takes the local end of connections (32768 up): a port of a sidecar that was
killed is still free when it comes back."""


@contextmanager
def block() -> Iterator[Iterator[int]]:
    """Free ports that no other run on this machine is given as long as the context lasts."""
    folder = _own_folder(Path(tempfile.gettempdir()) / f"tidings-ports-{os.getuid()}")
    starts = list(range(FIRST, LAST - BLOCK, BLOCK))
    random.shuffle(starts)
    for start in starts:
        with os.fdopen(os.open(folder / str(start), os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)) as reservation:
            try:
                fcntl.flock(reservation, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            yield (port for port in range(start, start + BLOCK) if is_free(port))
            return
    raise UpError(f"all ports from {FIRST} to {LAST} are reserved by other runs: stop one (`tidings down`)")


def _own_folder(folder: Path) -> Path:
    """Make a folder in a place where everybody may write, and see that it is ours and no link to elsewhere.

    Raises:
        UpError: Somebody else has put something in its place.

    """
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise UpError(f"{folder} is not a folder of your own, so ports cannot be reserved there: remove it")
    return folder


def is_free(port: int) -> bool:
    """Whether a server could listen on the port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def assign(wanted: Mapping[str, int | None], free: Iterable[int], base: int | None = None) -> dict[str, int]:
    """Give every name its port: the wanted one, or the next free one.

    With `base`, all wanted ports are replaced by `base`, `base + 1`, … in the order of `wanted`.
    """
    rest = iter(free)
    taken = {port for port in wanted.values() if port is not None}
    moved = iter(range(base, 1 << 16)) if base is not None else None
    return {
        name: next(port for port in rest if port not in taken)
        if port is None
        else next(moved)
        if moved is not None
        else port
        for name, port in wanted.items()
    }


def check(fixed: Mapping[str, int]) -> None:
    """Make sure that nothing listens on any of these ports.

    Raises:
        PortTaken: names every taken port, who holds it where that can be known, and how to choose another; or two
            names that want the same one.

    """
    problems = list(_twice(fixed))
    problems += [f"port {port} ({name}) is taken{_by(port)}" for name, port in fixed.items() if not is_free(port)]
    if problems:
        mend = "stop it, move everything with --port-base 9000, or change `port:` in tidings.yaml"
        raise PortTaken(f"{'; '.join(problems)}: {mend}")


def _twice(fixed: Mapping[str, int]) -> Iterator[str]:
    first: dict[int, str] = {}
    for name, port in fixed.items():
        if first.setdefault(port, name) != name:
            yield f"port {port} is wanted by both {first[port]} and {name}"


def _by(port: int) -> str:
    try:
        connections = psutil.net_connections("tcp")
        holder = next(
            (
                c.pid
                for c in connections
                if c.status == psutil.CONN_LISTEN and c.laddr and c.laddr.port == port and c.pid
            ),
            None,
        )
        if holder is None:
            return ""
        process = psutil.Process(holder)
        command = " ".join(process.cmdline())
    except psutil.Error:  # who holds it is a courtesy: the system may hide it from us
        return ""
    return f" by {process.name()} (pid {holder}: {command[:80]})"
