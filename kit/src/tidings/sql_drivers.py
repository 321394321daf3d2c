"""The drivers' connections, whose commit can carry statements along: one trip instead of one for each.

The last thing that a unit of work writes are its messages, and what follows is the commit. Sent one after the other,
each is a trip to the server or, for SQLite, to the connection's thread: more than the statement itself costs.

A commit that fails rolls back: SQLAlchemy (2.1) gives the connection back to its pool with the transaction still open.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, NamedTuple

import aiosqlite
import psycopg
from psycopg.pq import TransactionStatus


class Statement(NamedTuple):
    """A statement and the values that it is run with, as the driver takes them; more than one: once for each."""

    text: str
    values: Sequence[Any]


class SqliteConnection(aiosqlite.Connection):
    """A SQLite connection with statements that wait for the commit."""

    last: Sequence[Statement] = ()
    """What the next commit runs first; forgotten by a rollback."""

    async def commit(self) -> None:
        """Run what waits, and commit; all or nothing."""
        last, self.last = self.last, ()
        await self._execute(self._finish, last)  # type: ignore[no-untyped-call]

    async def rollback(self) -> None:
        """Forget what waits, and roll back."""
        self.last = ()
        await super().rollback()

    def _finish(self, last: Sequence[Statement]) -> None:
        try:
            for each in last:
                self._conn.executemany(each.text, each.values)
            self._conn.commit()
        except sqlite3.Error:
            self._conn.rollback()
            raise

    @classmethod
    def connect(cls, database: str, **settings: Any) -> SqliteConnection:
        """Make a connection whose thread does not keep the process alive; await it to open it."""
        made = cls(lambda: sqlite3.connect(database, **settings), iter_chunk_size=64)
        made._thread.daemon = True  # as SQLAlchemy does with those that it makes
        return made


class PostgresConnection(psycopg.AsyncConnection[Any]):
    """A PostgreSQL connection with statements that wait for the commit."""

    last: Sequence[Statement] = ()
    """What the next commit runs first; forgotten by a rollback."""

    async def commit(self) -> None:
        """Run what waits, and commit; all or nothing.

        Raises:
            psycopg.errors.InFailedSqlTransaction: A statement failed and its error was caught: PostgreSQL would take
                the commit for a rollback, and say nothing.

        """
        last, self.last = self.last, ()
        try:
            if self.pgconn.transaction_status == TransactionStatus.INERROR:
                raise psycopg.errors.InFailedSqlTransaction(
                    "a statement of this transaction failed, so that none of it can be committed: let its error pass, "
                    "or run it inside `async with connection.begin_nested()`"
                )
            if last:
                cursor = psycopg.AsyncClientCursor(self)
                texts = [cursor.mogrify(each.text, values) for each in last for values in each.values]
                await cursor.execute("; ".join([*texts, "COMMIT"]).encode(), prepare=False)
            else:
                await super().commit()
        except psycopg.Error:
            if not self.closed:
                await super().rollback()
            raise

    async def rollback(self) -> None:
        """Forget what waits, and roll back."""
        self.last = ()
        await super().rollback()
