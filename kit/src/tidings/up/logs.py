"""Log lines of all processes: kept in bounded files, and made readable for people."""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import msgspec

from tidings.up.state import Role

MAX_BYTES = 10_000_000
"""A log grows to this size, then becomes `<name>.log.1`, over the one before: 20 MB per process at most."""
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
"""What they say below a warning is for their files only, unless `--verbose`."""
EXPECTED_OF_SIDECARS = (
    "mTLS is disabled",
    "The default value for 'spec.metric.http.increasedCardinality'",
    "Actor runtime disabled",
    "No scheduler host addresses provided",
    "Redis does not support transaction rollbacks",  # of actors; docs/decisions/0003 says how we live with it
    "nats: error while unsubscribing from topic",  # it was already closed: at every stop
)
"""Warnings of every daprd that runs without a control plane, as it does here on purpose, and is stopped."""

MESSAGE_KEYS = ("event", "message", "msg")
CORRELATION_KEYS = ("correlation_id", "correlationid", "correlationId")
TIME_KEYS = ("timestamp", "time", "ts")
CLOCK = re.compile(r"[T ](\d\d:\d\d:\d\d)")
HIDDEN_KEYS = {*TIME_KEYS, "level", "service", "logger", "scope", "instance", "app_id", "type", "ver", "app"}


class LogFile:
    """The output of one process, kept in a bounded file; its last lines are at hand for when it dies."""

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES) -> None:
        self._path, self._max = path, max_bytes
        self._file = path.open("ab")
        self._last: deque[str] = deque(maxlen=LAST_LINES)

    def write(self, line: bytes) -> str:
        """Keep one line; returns it as text."""
        if self._file.tell() + len(line) > self._max:
            self._file.close()
            self._path.replace(self._path.with_name(f"{self._path.name}.1"))
            self._file = self._path.open("ab")
        self._file.write(line)
        self._file.flush()
        text = line.decode(errors="replace").rstrip()
        self._last.append(text)
        return text

    def begin(self) -> None:
        """A new process writes from here on: what the one before said last is no longer asked for."""
        self._last.clear()

    def last(self) -> list[str]:
        """The last lines of the present process."""
        return list(self._last)

    def close(self) -> None:
        """Give the file back."""
        self._file.close()


@dataclass(frozen=True, slots=True)
class Entry:
    """A log line, understood."""

    level: int
    """0 debug, 1 info, 2 warning, 3 error, 4 fatal."""
    message: str
    correlation: str = ""
    details: tuple[tuple[str, str], ...] = ()
    """Further fields, in the order they stood."""
    time: str = ""
    """When it was written, as `HH:MM:SS` of the clock the program used; empty where the line does not say."""

    @property
    def text(self) -> str:
        return " ".join([self.message, *(f"{key}={value}" for key, value in self.details)])


def understand(line: str) -> Entry:
    """Take a line of JSON apart; any other line is its own message, of level info unless it begins with a level."""
    if line.startswith("{"):
        try:
            fields = msgspec.json.decode(line, type=dict[str, Any])
        except msgspec.DecodeError:
            return Entry(1, line)
        return _of_fields(fields)
    word = line.partition(":")[0].strip("[] ").lower()
    return Entry(LEVELS.get(word, 3 if line.startswith("Traceback") else 1), line)


def _of_fields(fields: Mapping[str, Any]) -> Entry:
    message = next((key for key in MESSAGE_KEYS if key in fields), "")
    correlation = next((str(fields[key]) for key in CORRELATION_KEYS if fields.get(key)), "")
    hidden = {message, *CORRELATION_KEYS, *HIDDEN_KEYS}
    return Entry(
        LEVELS.get(str(fields.get("level", "info")).lower(), 1),
        str(fields.get(message, "")),
        correlation,
        tuple((key, _plain(value)) for key, value in fields.items() if key not in hidden),
        next((match[1] for key in TIME_KEYS if (match := CLOCK.search(str(fields.get(key, ""))))), ""),
    )


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def worth_showing(entry: Entry, role: Role, *, verbose: bool) -> bool:
    """Whether people should see the line while the system runs."""
    if verbose:
        return True
    expected = role == "sidecar" and entry.message.startswith(EXPECTED_OF_SIDECARS)
    return entry.level >= (2 if role in QUIET_ROLES else 1) and not expected


def tail(path: Path, lines: int) -> Iterable[str]:
    """The last lines of a log file, the rotated part included where it is needed."""
    kept: deque[str] = deque(maxlen=lines)
    for part in (path.with_name(f"{path.name}.1"), path):
        if part.exists():
            with part.open(encoding="utf-8", errors="replace") as file:
                kept.extend(line.rstrip("\n") for line in file)
    return kept


def follow(path: Path) -> Iterator[str]:
    """Lines as they are written from now on, over rotations; an empty text whenever there is nothing new."""
    whence = os.SEEK_END
    while True:
        with path.open(encoding="utf-8", errors="replace") as file:
            file.seek(0, whence)
            yield from _until_rotated(file, path)
        whence = os.SEEK_SET


def _until_rotated(file: TextIO, path: Path) -> Iterator[str]:
    began = ""
    while True:
        began += file.readline()
        if began.endswith("\n"):
            yield began.rstrip("\n")
            began = ""
        elif path.exists() and path.stat().st_ino != os.fstat(file.fileno()).st_ino:
            return
        else:
            yield ""
