"""Keys of persons in a PostgreSQL database that all services share, wrapped by a master key that it does not have.

The database, its backups and its log hold wrapped keys only (AES-256-GCM, bound to the person), so that neither they
nor the master key alone decrypt anything. A destroyed key leaves its row as a tombstone. Its old version stays in
backups: keep those no longer than the deadline for erasure.

A call to the database blocks the process, because events are encoded synchronously: about a millisecond once a minute
for each person, and at most `_DEADLINE` while the database does not answer.
"""

import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tidings.dapr.port import Sidecar
from tidings.errors import DefinitionError, SidecarUnavailable
from tidings.subject_keys import DESTROY, SELECT, Execute, KeyStore

MIN_MASTER_KEY = 32  # characters
_DEADLINE = 3  # seconds
_NONCE = 12  # bytes
_LOCK = 7_463_214_511  # id of an advisory lock: concurrent services create the tables one after the other
_TABLES = (
    "CREATE TABLE IF NOT EXISTS subject_keys (subject text PRIMARY KEY, key bytea)",
    "CREATE TABLE IF NOT EXISTS announced_subjects (subject text PRIMARY KEY)",
)
_OPTIONS: dict[str, Any] = {
    "connect_timeout": _DEADLINE,
    "options": f"-c statement_timeout={_DEADLINE}s",
    "tcp_user_timeout": _DEADLINE * 1000,
    "autocommit": True,
}


class KeyTable(KeyStore):
    """Keys in PostgreSQL. The database may come up later: until then, units of work are postponed.

    Args:
        url: The database; its tables are created if they are missing.
        master_key: A random text of at least 32 characters; it wraps the keys.
        secret: Without `master_key`: where `unlock` reads it, as STORE/NAME/KEY. Until then, units of work are
            postponed.

    Raises:
        DefinitionError: The master key is too short.

    """

    def __init__(self, url: str, master_key: str | None = None, secret: str | None = None) -> None:
        super().__init__()
        self._url = url
        self._secret = secret
        self._master = None if master_key is None else _cipher(master_key, "TIDINGS_MASTER_KEY")
        self._lock = threading.Lock()
        self._connection: psycopg.Connection[Any] | None = None

    async def unlock(self, sidecar: Sidecar) -> None:
        """Read the master key from its secret.

        Raises:
            SidecarUnavailable: The secret cannot be read now.
            DefinitionError: The secret has no such key, or a master key that is too short.

        """
        if self._master is None and self._secret is not None:
            store, _, path = self._secret.partition("/")
            name, _, key = path.rpartition("/")
            texts = await sidecar.get_secret(store, name)
            where = f"TIDINGS_MASTER_KEY_SECRET: secret {name} in {store}"
            if key not in texts:
                raise DefinitionError(f"{where} has no key {key}, but {', '.join(sorted(texts)) or 'none'}")
            self._master = _cipher(texts[key], f"{where}, key {key},")

    def close(self) -> None:
        """Close the connection; the next call opens another one."""
        with self._lock:
            self._disconnect()

    def _destroy(self, subject: str) -> bool:
        with self._connected() as connection:
            execute = _executor(connection)
            with connection.transaction():
                known = execute(f"{SELECT} FOR UPDATE", (subject,)).fetchone()
                execute(DESTROY, (subject,))
            connection.execute("VACUUM subject_keys")
        return bool(known and known[0])

    def _wrapped(self, subject: str, key: bytes) -> bytes:
        nonce = os.urandom(_NONCE)
        return nonce + self._unlocked().encrypt(nonce, key, subject.encode())

    def _unwrapped(self, subject: str, stored: bytes) -> bytes:
        try:
            return self._unlocked().decrypt(stored[:_NONCE], stored[_NONCE:], subject.encode())
        except InvalidTag as error:
            raise DefinitionError(
                f"the key of {subject} was wrapped by another TIDINGS_MASTER_KEY: set the one that all services use"
            ) from error

    @contextmanager
    def _session(self) -> Iterator[Execute]:
        with self._connected() as connection:
            yield _executor(connection)

    def _unlocked(self) -> AESGCM:
        if self._master is None:
            raise SidecarUnavailable(f"the master key of personal data was not read yet from {self._secret}")
        return self._master

    @contextmanager
    def _connected(self) -> Iterator[psycopg.Connection[Any]]:
        with self._lock:
            try:
                yield self._connect()
            except psycopg.Error as error:
                self._disconnect()
                raise SidecarUnavailable(f"the database with the keys of persons: {error}") from error

    def _connect(self) -> psycopg.Connection[Any]:
        if self._connection is not None and not self._connection.closed:
            return self._connection
        connection = psycopg.connect(self._url, **_OPTIONS)
        try:
            with connection.transaction():
                connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
                for table in _TABLES:
                    connection.execute(table)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                connection.close()


def _executor(connection: psycopg.Connection[Any]) -> Execute:
    """Return what executes the statements of `KeyStore`, whose parameters are written as `?`."""
    return lambda statement, values=(): connection.execute(statement.replace("?", "%s"), values)


def _cipher(master_key: str, where: str) -> AESGCM:
    if len(master_key) < MIN_MASTER_KEY:
        raise DefinitionError(
            f"{where} has {len(master_key)} characters: set a random text of {MIN_MASTER_KEY} or more"
        )
    return AESGCM(hashlib.sha256(master_key.encode()).digest())
