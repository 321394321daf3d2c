"""Log lines of all processes: bounded log files, and parsing for display."""

import os
import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import msgspec

from tidings.messages.envelope import UNREADABLE
from tidings_cli.up.state import Role

MAX_BYTES = 10_000_000
"""Size at which a log is rotated to `<name>.log.1`, replacing an earlier one: at most 20 MB per process."""
LAST_LINES = 15
LEVELS = {
    "trace": 0,
    "debug": 0,
    "info": 1,
    "notice": 1,
    "warning": 2,
    "warn": 2,
    "error": 3,
    "critical": 4,
    "fatal": 4,
}
QUIET_ROLES: frozenset[Role] = frozenset({"sidecar", "broker", "store"})
"""Roles whose lines below a warning are shown with `--verbose` only; their log files have all."""
EXPECTED_OF_SIDECARS = (
    "mTLS is disabled",
    "The default value for 'spec.metric.http.increasedCardinality'",
    "Actor runtime disabled",
    "No scheduler host addresses provided",
    "Redis does not support transaction rollbacks",  # concerns actors; see docs/decisions/0003
    "nats: error while unsubscribing from topic",  # logged at every stop
)
"""Warnings that daprd always logs without a control plane, which is intended here, and when it stops."""

MESSAGE_KEYS = ("event", "message", "msg")
CORRELATION_KEYS = ("correlation_id", "correlationid", "correlationId")
TIME_KEYS = ("timestamp", "time", "ts")
CLOCK = re.compile(r"[T ](\d\d:\d\d:\d\d)")
HIDDEN_KEYS = {*TIME_KEYS, "level", "service", "logger", "scope", "instance", "app_id", "type", "ver", "app"}


def _open_log(path: Path) -> BinaryIO:
    """Open a log file for appending; only its owner can read it. Symbolic links are not followed."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600), "ab")


class LogFile:
    """Bounded log file of one process; keeps the last lines in memory for reporting a crash."""

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES) -> None:
        self._path, self._max = path, max_bytes
        self._file = _open_log(path)
        self._last: deque[str] = deque(maxlen=LAST_LINES)

    def write(self, line: bytes) -> str:
        """Write a line; return it as text."""
        if self._file.tell() + len(line) > self._max:
            self._file.close()
            self._path.replace(self._path.with_name(f"{self._path.name}.1"))
            self._file = _open_log(self._path)
        self._file.write(line)
        self._file.flush()
        text = line.decode(errors="replace").rstrip()
        self._last.append(text)
        return text

    def forget_last_lines(self) -> None:
        """Forget the last lines, for a new process."""
        self._last.clear()

    def last(self) -> list[str]:
        """Return the last lines of the current process."""
        return list(self._last)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


@dataclass(frozen=True, slots=True)
class Entry:
    """A parsed log line."""

    level: int
    """0 debug, 1 info, 2 warning, 3 error, 4 fatal."""
    message: str
    correlation: str = ""
    details: tuple[tuple[str, str], ...] = ()
    """Further fields in their original order."""
    time: str = ""
    """Time as `HH:MM:SS` in the program's time zone; empty if unknown."""

    @property
    def text(self) -> str:
        return " ".join([self.message, *(f"{key}={value}" for key, value in self.details)])


def parse_line(line: str) -> Entry:
    """Parse a line of JSON. Any other line is a message of level info, unless it begins with a level."""
    if line.startswith("{"):
        try:
            fields = msgspec.json.decode(line, type=dict[str, Any])
        except UNREADABLE:
            return Entry(1, line)
        message = next((key for key in MESSAGE_KEYS if key in fields), "")
        correlation = next((str(fields[key]) for key in CORRELATION_KEYS if fields.get(key)), "")
        hidden = {message, *CORRELATION_KEYS, *HIDDEN_KEYS}
        return Entry(
            LEVELS.get(str(fields.get("level", "info")).lower(), 1),
            str(fields.get(message, "")),
            correlation,
            tuple(
                (key, value if isinstance(value, str) else msgspec.json.encode(value).decode())
                for key, value in fields.items()
                if key not in hidden
            ),
            next((match[1] for key in TIME_KEYS if (match := CLOCK.search(str(fields.get(key, ""))))), ""),
        )
    word = line.partition(":")[0].strip("[] ").lower()
    return Entry(LEVELS.get(word, 3 if line.startswith("Traceback") else 1), line)


def worth_showing(entry: Entry, role: Role, *, verbose: bool) -> bool:
    """Return whether to show a line in the terminal."""
    if verbose:
        return True
    expected = role == "sidecar" and entry.message.startswith(EXPECTED_OF_SIDECARS)
    return entry.level >= (2 if role in QUIET_ROLES else 1) and not expected


def tail(path: Path, lines: int) -> Iterable[str]:
    """Return the last lines of a log file, including the rotated part if necessary."""
    last: deque[str] = deque(maxlen=lines)
    for part in (path.with_name(f"{path.name}.1"), path):
        if part.exists():
            with part.open(encoding="utf-8", errors="replace") as file:
                last.extend(line.rstrip("\n") for line in file)
    return last


def follow(path: Path) -> Iterator[str]:
    """Yield lines as they are written from now on, across rotations; yield "" whenever there is no new line."""
    start = os.SEEK_END
    while True:
        with path.open(encoding="utf-8", errors="replace") as file:
            file.seek(0, start)
            yield from _until_rotated(file, path)
        start = os.SEEK_SET


def _until_rotated(file: TextIO, path: Path) -> Iterator[str]:
    partial = ""
    while True:
        partial += file.readline()
        if partial.endswith("\n"):
            yield partial.rstrip("\n")
            partial = ""
        elif path.exists() and path.stat().st_ino != os.fstat(file.fileno()).st_ino:
            return
        else:
            yield ""
