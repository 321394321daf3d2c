"""Assignment of ports: fixed ones must be free, the others come from a block reserved for this run."""

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

from tidings_cli.up.errors import PortTaken, UpError

HOST = "127.0.0.1"
BLOCK = 150
"""Number of ports reserved for one run: five for each of about 25 processes."""
FIRST, LAST = 18_000, 32_700
"""Range of reserved ports, below the kernel's ephemeral ports (from 32768): otherwise an outgoing connection could take
the port of a killed sidecar before it is restarted."""


@contextmanager
def block() -> Iterator[Iterator[int]]:
    """Yield free ports that are reserved for this run for the duration of the context.

    A file lock per block keeps other runs on this machine from using them.
    """
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
    """Create a folder in a world-writable place, and make sure that it is a folder of the current user.

    Raises:
        UpError: Another user has created the path, or it is a link or writable for others.

    """
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise UpError(f"{folder} is not a private folder of yours, so ports cannot be reserved there: remove it")
    return folder


def is_free(port: int) -> bool:
    """Return whether a server could listen on the port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def assign(requested: Mapping[str, int | None], free: Iterable[int], base: int | None = None) -> dict[str, int]:
    """Assign a port to each name: the requested one, or the next free one.

    With `base`, requested ports are replaced by `base`, `base + 1`, … in the order of `requested`.
    """
    rest = iter(free)
    taken = {port for port in requested.values() if port is not None}
    moved = iter(range(base, 1 << 16)) if base is not None else None
    return {
        name: next(port for port in rest if port not in taken)
        if port is None
        else next(moved)
        if moved is not None
        else port
        for name, port in requested.items()
    }


def check(fixed: Mapping[str, int]) -> None:
    """Check that all ports are free and assigned only once.

    Raises:
        PortTaken: A port is in use, or assigned to two names. The message lists all problems, with the processes that
            use the ports as far as they can be determined.

    """
    problems: list[str] = []
    first: dict[int, str] = {}
    for name, port in fixed.items():
        if first.setdefault(port, name) != name:
            problems.append(f"port {port} is assigned to both {first[port]} and {name}")
        if not is_free(port):
            problems.append(f"port {port} ({name}) is taken{_process_on(port)}")
    if problems:
        fix = "stop it, use other ports with --port-base 9000, or change `port:` in tidings.yaml"
        raise PortTaken(f"{'; '.join(problems)}: {fix}")


def _process_on(port: int) -> str:
    try:
        connections = psutil.net_connections("tcp")
        listening = (item for item in connections if item.status == psutil.CONN_LISTEN and item.pid)
        holder = next((item.pid for item in listening if item.laddr and item.laddr.port == port), None)
        if holder is None:
            return ""
        process = psutil.Process(holder)
        command = " ".join(process.cmdline())
    except psutil.Error:  # the process may belong to another user; the message is useful without it
        return ""
    return f" by {process.name()} (pid {holder}: {command[:80]})"
