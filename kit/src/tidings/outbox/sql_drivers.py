"""Driver connections whose commit includes further statements, which saves a round trip for each.

The last writes of a unit of work are its messages, followed by the commit. Sent separately, each costs a round trip to
the server or, for SQLite, to the connection's thread: more than the statement itself.

A failed commit rolls back, because SQLAlchemy (2.1) returns the connection to its pool with the transaction still open.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any, NamedTuple, Self, TypeVar

import aiosqlite
import psycopg
from psycopg.pq import TransactionStatus

T = TypeVar("T")


class Statement(NamedTuple):
    """A statement with its parameters in the driver's form; it is executed once per set of parameters."""

    text: str
    values: Sequence[Any]


class _Result(NamedTuple):
    rows: Sequence[Any]
    description: Any
    rowcount: int
    lastrowid: int | None


class _Cursor:
    """A cursor for SQLAlchemy that opens, runs, reads and closes SQLite's own in one call to the connection's thread.

    Separately, these are four calls, each of which costs more than a small statement. A statement that has not been
    read to its end would also hold a lock, even after a rollback, if its call was cancelled.
    """

    description: Any = None
    rowcount, arraysize = -1, 1
    lastrowid: int | None = None

    def __init__(self, connection: SqliteConnection) -> None:
        self._connection = connection
        self._rows: Iterator[Any] = iter(())

    async def __aenter__(self) -> Self:
        return self

    async def execute(self, text: str, values: Any = ()) -> None:
        self._set(await self._connection.complete(sqlite3.Cursor.execute, text, values))

    async def executemany(self, text: str, values: Iterable[Any]) -> None:
        self._set(await self._connection.complete(sqlite3.Cursor.executemany, text, values))

    def _set(self, result: _Result) -> None:
        self._rows = iter(result.rows)
        self.description, self.rowcount, self.lastrowid = result.description, result.rowcount, result.lastrowid

    async def fetchone(self) -> Any:
        return next(self._rows, None)

    async def fetchmany(self, size: int | None = None) -> list[Any]:
        return list(islice(self._rows, self.arraysize if size is None else size))

    async def fetchall(self) -> list[Any]:
        return list(self._rows)

    async def __aiter__(self) -> AsyncIterator[Any]:
        for row in self._rows:
            yield row

    async def close(self) -> None:
        self._rows = iter(())


class SqliteConnection(aiosqlite.Connection):
    """A SQLite connection with statements to run on commit; await it to open it.

    Its thread completes every call, so a cancelled call waits for that before it raises. The connection is then in a
    known state: it can be rolled back and reused.

    Args:
        database: Path of the file.
        durable: True if a commit waits for the disk.
        settings: Arguments of `sqlite3.connect`.

    """

    last: Sequence[Statement] = ()
    """What the next commit runs first; forgotten by a rollback."""
    _stopped: asyncio.Future[Any] | None = None

    def __init__(self, database: str, *, durable: bool, **settings: Any) -> None:
        # isolation_level=None: transactions are begun explicitly; the driver would begin them at the first write.
        super().__init__(partial(sqlite3.connect, database, isolation_level=None, **settings), 64)
        self._durable = durable
        self._thread.daemon = True  # does not keep the process alive

    async def commit(self) -> None:
        """Run the pending statements and commit, atomically."""
        last, self.last = self.last, ()
        await self._execute(self._finish, last)

    async def rollback(self) -> None:
        """Discard the pending statements, and roll back if a transaction is open."""
        self.last = ()
        if self.in_transaction:
            await super().rollback()

    def cursor(self) -> Any:
        """Create a cursor; it opens SQLite's own when it runs a statement."""
        return _Cursor(self)

    async def complete(self, run: Callable[..., object], text: str, values: Any) -> _Result:
        """Run a statement with a cursor of its own, and read all of its rows, in one call to the thread."""
        return await self._execute(self._completed, run, text, values)

    def _completed(self, run: Callable[..., object], text: str, values: Any) -> _Result:
        with contextlib.closing(self._conn.cursor()) as cursor:
            run(cursor, text, values)
            return _Result(cursor.fetchall(), cursor.description, cursor.rowcount, cursor.lastrowid)

    def stop(self) -> asyncio.Future[Any] | None:
        """End the thread. Return the future of the first call; later calls would not be answered."""
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
            raise ValueError("Connection closed")  # SQLAlchemy recognises this message
        return await self._finished(partial(fn, *args, **named))

    async def _finished(self, work: Callable[[], T]) -> T:
        """Run a function in the thread; raise a cancellation only after its completion."""
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
            for statement in last:
                self._conn.executemany(statement.text, statement.values)
            self._conn.commit()
        except sqlite3.Error:
            self._conn.rollback()
            raise


class PostgresConnection(psycopg.AsyncConnection[Any]):
    """A PostgreSQL connection with statements to run on commit."""

    last: Sequence[Statement] = ()
    """What the next commit runs first; forgotten by a rollback."""

    @classmethod
    async def connect(cls, conninfo: str = "", **settings: Any) -> Self:
        """Open a connection; if this is cancelled, close it once it is open."""
        opening = asyncio.ensure_future(super().connect(conninfo, **settings))
        try:
            return await _finished(opening)
        except asyncio.CancelledError:
            if not opening.cancelled() and opening.exception() is None:
                await opening.result().close()
            raise

    async def commit(self) -> None:
        """Run the pending statements and commit, atomically.

        Raises:
            psycopg.errors.InFailedSqlTransaction: A statement failed and its error was caught: PostgreSQL would
                silently roll back instead of committing.

        """
        last, self.last = self.last, ()
        try:
            if self.pgconn.transaction_status == TransactionStatus.INERROR:
                raise psycopg.errors.InFailedSqlTransaction(
                    "a statement of this transaction failed, so that it cannot be committed: do not catch its error, "
                    "or run it inside `async with connection.begin_nested()`"
                )
            if last:
                cursor = psycopg.AsyncClientCursor(self)
                texts = [cursor.mogrify(statement.text, values) for statement in last for values in statement.values]
                await cursor.execute("; ".join([*texts, "COMMIT"]).encode(), prepare=False)
            else:
                await super().commit()
        except psycopg.Error:
            if not self.closed:
                await super().rollback()
            raise

    async def rollback(self) -> None:
        """Discard the pending statements and roll back."""
        self.last = ()
        await super().rollback()


async def _finished(future: asyncio.Future[T]) -> T:
    """Wait for a future to complete; raise a cancellation only afterwards."""
    cancelled = None
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        if not future.cancelled():
            future.exception()  # mark the error as retrieved
        raise cancelled
    return future.result()
