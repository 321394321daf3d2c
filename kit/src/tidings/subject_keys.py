"""Keys of persons in a file: an SQLite database that only its owner may read.

The file suits one machine. A destroyed key leaves its row as a tombstone, so that no new key is made for that person;
SQLite overwrites the key with zeros. A key is kept in memory for at most `KEPT` seconds, which bounds how long a
forgotten person stays readable.
"""

import os
import sqlite3
import stat
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any

from tidings.dapr.port import Sidecar
from tidings.errors import DefinitionError
from tidings.settings import Settings

KEPT = 60.0
"""Seconds that a key is kept in memory."""
_MAX_KEPT = 10_000  # persons
LENGTH = 32  # bytes of a key: AES-256
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_WAIT = 5.0  # seconds for another process that writes
_TABLES = (
    "CREATE TABLE IF NOT EXISTS subject_keys (subject TEXT PRIMARY KEY, key BLOB) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS announced_subjects (subject TEXT PRIMARY KEY) WITHOUT ROWID",
)
SELECT = "SELECT key FROM subject_keys WHERE subject = ?"
DESTROY = "INSERT INTO subject_keys VALUES (?, NULL) ON CONFLICT (subject) DO UPDATE SET key = NULL"
_FORGOTTEN = (
    "SELECT subject FROM subject_keys WHERE key IS NULL AND subject NOT IN (SELECT subject FROM announced_subjects)"
)
Execute = Callable[..., Any]
"""Executes an SQL statement with its parameters; returns its cursor."""


class KeyStore(ABC):
    """Keys of persons, cached in memory."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[bytes | None, float]] = {}

    def key(self, subject: str) -> bytes | None:
        """Return a person's key, or None if there is none or it was destroyed."""
        return self._cached(subject, create=False)

    def create(self, subject: str) -> bytes | None:
        """Return a person's key, creating it if there is none yet; None if it was destroyed."""
        return self._cached(subject, create=True)

    def destroy(self, subject: str) -> bool:
        """Destroy a person's key for good; return whether there was one. Other processes notice within a minute."""
        existed = self._destroy(subject)
        self._kept[subject] = (None, time.monotonic() + KEPT)
        return existed

    async def unlock(self, sidecar: Sidecar) -> None:  # noqa: B027 - only some stores need a secret
        """Read what the store needs from a Dapr secret store.

        Raises:
            SidecarUnavailable: The secret cannot be read now.
            DefinitionError: The secret does not have what the store needs.

        """

    def close(self) -> None:  # noqa: B027 - only some stores have something to release
        """Release connections."""

    def forgotten(self) -> list[str]:
        """Return the persons whose key was destroyed and who were not announced yet."""
        with self._session() as execute:
            return [subject for (subject,) in execute(_FORGOTTEN)]

    def announced(self, subject: str) -> None:
        """Record that the services were told to forget a person."""
        with self._session() as execute:
            execute("INSERT INTO announced_subjects VALUES (?) ON CONFLICT DO NOTHING", (subject,))

    @abstractmethod
    def _session(self) -> AbstractContextManager[Execute]:
        """Open the database; return what executes a statement, whose parameters are written as `?`."""

    @abstractmethod
    def _destroy(self, subject: str) -> bool: ...

    def _wrapped(self, subject: str, key: bytes) -> bytes:  # noqa: ARG002 - some stores bind the key to the person
        """Return a key as it is stored."""
        return key

    def _unwrapped(self, subject: str, stored: bytes) -> bytes:  # noqa: ARG002
        """Return a key from what is stored."""
        return stored

    def _read(self, subject: str, *, create: bool) -> tuple[bytes | None, bool]:
        """Return a key, and whether the person is known; None for a person who is known stands for a tombstone."""
        with self._session() as execute:
            row = execute(SELECT, (subject,)).fetchone()
            if row is None and create:
                new = (subject, self._wrapped(subject, os.urandom(LENGTH)))
                execute("INSERT INTO subject_keys VALUES (?, ?) ON CONFLICT DO NOTHING", new)
                row = execute(SELECT, (subject,)).fetchone()
        if row is None:
            return None, False
        return (None if row[0] is None else self._unwrapped(subject, row[0])), True

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


class KeyFile(KeyStore):
    """Keys in a file.

    Args:
        path: The file; it is created with mode 0600 if it does not exist.

    Raises:
        DefinitionError: The file cannot be opened, or others may read it.

    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            mode = path.stat().st_mode
            if mode & _OTHERS:
                raise DefinitionError(
                    f"others may read the keys in {path} ({stat.filemode(mode)}): run chmod 600 {path}"
                )
            with self._session() as execute:
                for table in _TABLES:
                    execute(table)
        except (OSError, sqlite3.Error) as error:
            raise DefinitionError(f"TIDINGS_KEYS: the keys in {path} cannot be opened: {error}") from error

    def _destroy(self, subject: str) -> bool:
        with self._session() as execute:
            known = execute(SELECT, (subject,)).fetchone()
            execute(DESTROY, (subject,))
        return bool(known and known[0])

    @contextmanager
    def _session(self) -> Iterator[Execute]:
        with closing(sqlite3.connect(self._path, timeout=_WAIT, isolation_level=None)) as database:
            database.execute("PRAGMA secure_delete = ON")
            yield database.execute


def from_settings(settings: Settings) -> KeyStore | None:
    """Return the keys that a service uses, or None if it uses none.

    Raises:
        DefinitionError: The file cannot be used, a setting is missing or contradicts another, or a package is missing.

    """
    url, master_key, secret = settings.tidings_keys_url, settings.tidings_master_key, settings.tidings_master_key_secret
    if url is None:
        return None if settings.tidings_keys is None else KeyFile(settings.tidings_keys)
    if settings.tidings_keys is not None:
        raise DefinitionError("TIDINGS_KEYS and TIDINGS_KEYS_URL are both set: remove one")
    if (master_key is None) == (secret is None):
        raise DefinitionError(
            "TIDINGS_KEYS_URL is set: set either TIDINGS_MASTER_KEY or TIDINGS_MASTER_KEY_SECRET, too"
        )
    try:
        from tidings.subject_keys_postgres import KeyTable  # noqa: PLC0415 - needs optional packages
    except ImportError as error:
        raise DefinitionError("TIDINGS_KEYS_URL needs psycopg and cryptography: install tidings[personal]") from error
    return KeyTable(url.get_secret_value(), None if master_key is None else master_key.get_secret_value(), secret)
