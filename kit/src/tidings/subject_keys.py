"""Keys of persons in a file: an SQLite database that only its owner may read.

The file suits one machine. A destroyed key leaves its row as a tombstone, so that no new key is made for that person;
SQLite overwrites the key with zeros. A key is kept in memory for at most `KEPT` seconds, which bounds how long a
forgotten person stays readable.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from contextlib import closing
from pathlib import Path

from tidings.errors import DefinitionError

KEPT = 60.0
"""Seconds that a key is kept in memory."""
_MAX_KEPT = 10_000  # persons
_LENGTH = 32  # bytes of a key: AES-256
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_WAIT = 5.0  # seconds for another process that writes
_TABLE = "CREATE TABLE IF NOT EXISTS subject_keys (subject TEXT PRIMARY KEY, key BLOB) WITHOUT ROWID"
_SELECT = "SELECT key FROM subject_keys WHERE subject = ?"


class KeyFile:
    """Keys in a file.

    Args:
        path: The file; it is created with mode 0600 if it does not exist.

    Raises:
        DefinitionError: The file cannot be opened, or others may read it.

    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._kept: dict[str, tuple[bytes | None, float]] = {}
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            mode = path.stat().st_mode
            if mode & _OTHERS:
                raise DefinitionError(
                    f"others may read the keys in {path} ({stat.filemode(mode)}): run chmod 600 {path}"
                )
            with closing(self._open()) as database:
                database.execute(_TABLE)
        except (OSError, sqlite3.Error) as error:
            raise DefinitionError(f"TIDINGS_KEYS: the keys in {path} cannot be opened: {error}") from error

    def key(self, subject: str) -> bytes | None:
        """Return a person's key, or None if there is none or it was destroyed."""
        return self._cached(subject, create=False)

    def create(self, subject: str) -> bytes | None:
        """Return a person's key, creating it if there is none yet; None if it was destroyed."""
        return self._cached(subject, create=True)

    def destroy(self, subject: str) -> bool:
        """Destroy a person's key for good; return whether there was one. Other processes notice within a minute."""
        with closing(self._open()) as database:
            known = database.execute(_SELECT, (subject,)).fetchone()
            database.execute(
                "INSERT INTO subject_keys VALUES (?, NULL) ON CONFLICT (subject) DO UPDATE SET key = NULL", (subject,)
            )
        self._kept[subject] = (None, time.monotonic() + KEPT)
        return bool(known and known[0])

    def _cached(self, subject: str, *, create: bool) -> bytes | None:
        now = time.monotonic()
        kept = self._kept.get(subject)
        if kept is not None and now < kept[1]:
            return kept[0]
        key, is_known = self._read(subject, create=create)
        if is_known:  # somebody else may create a missing key at any time
            if len(self._kept) >= _MAX_KEPT:
                self._kept.clear()
            self._kept[subject] = (key, now + KEPT)
        return key

    def _read(self, subject: str, *, create: bool) -> tuple[bytes | None, bool]:
        with closing(self._open()) as database:
            row = database.execute(_SELECT, (subject,)).fetchone()
            if row is None and create:
                new = (subject, os.urandom(_LENGTH))
                database.execute("INSERT INTO subject_keys VALUES (?, ?) ON CONFLICT DO NOTHING", new)
                row = database.execute(_SELECT, (subject,)).fetchone()
        return (row[0], True) if row else (None, False)

    def _open(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._path, timeout=_WAIT, isolation_level=None)
        database.execute("PRAGMA secure_delete = ON")
        return database
