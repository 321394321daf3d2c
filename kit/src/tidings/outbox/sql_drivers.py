"""The drivers' connections, whose commit can carry statements along: one trip instead of one for each.

The last thing that a unit of work writes are its messages, and what follows is the commit. Sent one after the other,
each is a trip to the server or, for SQLite, to the connection's thread: more than the statement itself costs.

A commit that fails rolls back: SQLAlchemy (2.1) gives the connection back to its pool with the transaction still open.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, Self, TypeVar
from weakref import WeakSet

import aiosqlite
import psycopg
from psycopg.pq import TransactionStatus

T = TypeVar("T")


class Statement(NamedTuple):
    """A statement and the values that it is run with, as the driver takes them; more than one: once for each."""

    text: str
    values: Sequence[Any]


class _Sqlite(sqlite3.Connection):
    """A sqlite3 connection whose rollback and close release every lock.

    A statement that has not been read to its end holds a lock, also beyond a rollback, and even beyond a close. The
    cursor of a cancelled call is one that nobody can close any more: its locks would last until it is garbage
    collected.
    """

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._cursors: WeakSet[sqlite3.Cursor] = WeakSet()

    def cursor(self, *args: Any) -> Any:
        """Make a cursor; sqlite3's shortcut methods call this, too."""
        made: sqlite3.Cursor = super().cursor(*args)
        self._cursors.add(made)
        return made

    def rollback(self) -> None:
        """Roll back, and end what has not been read."""
        self._close_cursors()
        super().rollback()

    def close(self) -> None:
        """Close the connection and its cursors."""
        with contextlib.suppress(sqlite3.ProgrammingError):  # closed before, and its cursors with it
            self._close_cursors()
        super().close()

    def _close_cursors(self) -> None:
        for each in list(self._cursors):
            each.close()


class SqliteConnection(aiosqlite.Connection):
    """A SQLite connection with statements that wait for the commit; await it to open it.

    Its thread finishes whatever it has begun, so a call that is cancelled waits for that before it raises. The
    connection is then in a known state: it can be rolled back and used again.

    Args:
        database: The file.
        durable: Whether a commit waits for the disk.
        settings: What `sqlite3.connect` takes.

    """

    last: Sequence[Statement] = ()
    """What the next commit runs first; forgotten by a rollback."""
    _stopped: asyncio.Future[Any] | None = None

    def __init__(self, database: str, *, durable: bool, **settings: Any) -> None:
        # Transactions are begun explicitly: the driver would begin one only at the first write.
        super().__init__(partial(sqlite3.connect, database, factory=_Sqlite, isolation_level=None, **settings), 64)
        self._durable = durable
        self._thread.daemon = True  # it does not keep the process alive

    async def commit(self) -> None:
        """Run what waits, and commit; all or nothing."""
        last, self.last = self.last, ()
        await self._execute(self._finish, last)

    async def rollback(self) -> None:
        """Forget what waits, and roll back."""
        self.last = ()
        await super().rollback()

    def stop(self) -> asyncio.Future[Any] | None:
        """End the thread. Return the future of the first call: after that one, the thread answers no more."""
        if self._stopped is None:
            self._stopped = super().stop()
        return self._stopped

    async def _connect(self) -> SqliteConnection:
        try:
            await self._finished(self._open)
        except BaseException:
            if (ended := self.stop()) is not None:
                await asyncio.wait([ended])
            raise
        return self

    async def _execute(self, fn: Callable[..., T], *args: Any, **named: Any) -> T:
        if not self._running or not self._connection:
            raise ValueError("Connection closed")  # SQLAlchemy knows it by this text
        return await self._finished(partial(fn, *args, **named))

    async def _finished(self, work: Callable[[], T]) -> T:
        """Let the thread do something, and raise a cancellation only once it is done."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._tx.put_nowait((future, work))
        return await _finished(future)

    def _open(self) -> None:
        self._connection = self._connector()
        self._conn.execute("PRAGMA journal_mode=WAL")
        self._conn.execute(f"PRAGMA synchronous={'FULL' if self._durable else 'NORMAL'}")
        self._conn.execute("PRAGMA foreign_keys=ON")

    def _finish(self, last: Sequence[Statement]) -> None:
        try:
            for each in last:
                self._conn.executemany(each.text, each.values)
            self._conn.commit()
        except sqlite3.Error:
            self._conn.rollback()
            raise


class PostgresConnection(psycopg.AsyncConnection[Any]):
    """A PostgreSQL connection with statements that wait for the commit."""

    last: Sequence[Statement] = ()
    """What the next commit runs first; forgotten by a rollback."""

    @classmethod
    async def connect(cls, conninfo: str = "", **settings: Any) -> Self:
        """Open a connection; where this is cancelled, it is opened all the same, and closed."""
        opening = asyncio.ensure_future(super().connect(conninfo, **settings))
        try:
            return await _finished(opening)
        except asyncio.CancelledError:
            if not opening.cancelled() and opening.exception() is None:
                await opening.result().close()
            raise

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


async def _finished(future: asyncio.Future[T]) -> T:
    """Wait for what goes on anyway, and raise a cancellation only once it is done."""
    cancelled = None
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        if not future.cancelled():
            future.exception()  # nobody asks for it any more
        raise cancelled
    return future.result()
