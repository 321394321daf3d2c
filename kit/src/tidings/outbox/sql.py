"""A relational database under a service: SQLite in a file, or PostgreSQL.

What every part of the kit and of a service that keeps rows needs, and nothing of what the rows mean: an engine with
settings that keep what was committed, transactions, tables made at start, and errors that say whether trying again
may help.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, Literal

import psycopg
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from tidings.errors import (
    DefinitionError,
    KeyTaken,
    SidecarError,
    SidecarUnavailable,
    StateConflict,
    StatementTimeout,
    StateRefused,
)
from tidings.outbox.sql_drivers import PostgresConnection, SqliteConnection, Statement

Dialect = Literal["sqlite", "postgresql"]
Migrate = Callable[[sa.Connection], None]
"""Bring a service's tables up to date, for example with Alembic. It runs in a transaction under a lock."""

_DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}
_READS = "tidings_reads"
_CREATING = 7_463_214_501  # any number, the same everywhere: it names the lock under which tables are made
# PostgreSQL's answers, by SQLSTATE or its class (the first two characters); the first that fits holds.
_POSTGRESQL: Mapping[frozenset[str], type[SidecarError]] = {
    # serialization failure, deadlock, lock not available
    frozenset({"40001", "40P01", "55P03"}): StateConflict,
    # statement_timeout
    frozenset({"57014"}): StatementTimeout,
    # connection, insufficient resources, operator intervention, system error, a server that is only a standby yet
    frozenset({"08", "53", "57", "58", "25006"}): SidecarUnavailable,
    # unique and exclusion constraints
    frozenset({"23505", "23P01"}): KeyTaken,
    # cardinality, data, constraints, triggers, syntax and access, WITH CHECK OPTION, program limits, RAISE
    frozenset({"21", "22", "23", "27", "42", "44", "54", "P0"}): StateRefused,
}
_BOOKKEEPING = {
    "synchronous_commit": "off",
    # A queue is empty whenever statistics are taken, so that PostgreSQL, a million rows later, would still sort them
    # all for every batch. Rows are read in the order of an index, and statements are too short to be compiled.
    "enable_sort": "off",
    "enable_bitmapscan": "off",
    "jit": "off",
}
# SQLite's answers. Every other one is about the file, the disk or the memory, and no fault of a statement's.
_SQLITE_REFUSED = {
    sqlite3.SQLITE_ERROR,  # syntax, no such table, raised by a trigger
    sqlite3.SQLITE_TOOBIG,
    sqlite3.SQLITE_CONSTRAINT,
    sqlite3.SQLITE_MISMATCH,
    sqlite3.SQLITE_RANGE,
}
_SQLITE_TAKEN = {
    sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY,
    sqlite3.SQLITE_CONSTRAINT_ROWID,
    sqlite3.SQLITE_CONSTRAINT_UNIQUE,
}


class Database:
    """One database and how it is used.

    A commit is on disk when it returns: SQLite keeps a write-ahead log with `synchronous=FULL`, PostgreSQL its own
    `synchronous_commit`. SQLite has one writer: within this process writers queue up in order, others are waited for.

    Args:
        url: `sqlite:///path/to/file.db` or `postgresql://user@host/name`.
        deadline: Seconds to wait for a connection, a lock or (PostgreSQL) the answer to a statement.
        pool: How many connections are kept; as many again are opened when all are busy.

    Raises:
        DefinitionError: Not the URL of a SQLite file or a PostgreSQL database.

    """

    def __init__(self, url: str | sa.URL, *, deadline: float = 5.0, pool: int = 10) -> None:
        self.url = _checked(url)
        self.dialect: Dialect = "sqlite" if self.url.get_backend_name() == "sqlite" else "postgresql"
        self.deadline = deadline
        self._pool = pool
        self._writing = asyncio.Lock() if self.dialect == "sqlite" else contextlib.nullcontext()
        self.engine = self._open(durable=True)
        self._hasty: AsyncEngine | None = None
        self._alone: AsyncEngine | None = None

    def _open(self, *, durable: bool) -> AsyncEngine:
        opened = _sqlite if self.dialect == "sqlite" else _postgresql
        engine = opened(self.url, self.deadline, self._pool, durable=durable)
        _wrap_values(engine)
        return engine

    @asynccontextmanager
    async def connect(self, *, write: bool = True, durable: bool = True) -> AsyncIterator[AsyncConnection]:
        """Open a transaction that is rolled back unless `await connection.commit()` is called.

        Args:
            write: False where nothing is written: then SQLite needs not wait for its writer.
            durable: False for the kit's bookkeeping, short statements over a queue, which may be forgotten when the
                machine (not only the process) dies just after the commit: it does not wait for the disk.

        Raises:
            SidecarUnavailable: The database does not answer; what was being committed may or may not be.
            StateConflict: Another transaction was in the way; nothing has happened, and again it may pass.
            StateRefused: It will never take this statement with these values; nothing has happened.

        """
        engine = self.engine if durable else self._without_waiting()
        with _translated(self.url):
            async with self._writing if write else contextlib.nullcontext(), engine.connect() as connection:
                yield connection if write else await connection.execution_options(**{_READS: True})

    @asynccontextmanager
    async def transaction(self, *, durable: bool = True) -> AsyncIterator[AsyncConnection]:
        """Open a transaction that is committed at the end, and rolled back on an error.

        The arguments and errors are those of `connect`.
        """
        async with self.connect(durable=durable) as connection:
            yield connection
            await connection.commit()

    async def create(self, *tables: sa.MetaData | Migrate) -> None:
        """Create missing tables, and run migrations, in one transaction. Several processes may do so at once.

        Raises:
            SidecarUnavailable: The database does not answer.

        """
        async with self.transaction() as connection:
            # SQLite takes its write lock with the first statement. Migrations of one process may not interleave
            is_postgres = self.dialect == "postgresql"
            await connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_CREATING) if is_postgres else sa.true()))
            for each in tables:
                await connection.run_sync(each.create_all if isinstance(each, sa.MetaData) else each)

    async def close(self) -> None:
        """Close every connection."""
        await self.engine.dispose()
        for engine in (self._hasty, self._alone):
            if engine is not None:
                await engine.dispose()

    def _without_waiting(self) -> AsyncEngine:
        if self._hasty is None:
            self._hasty = self._open(durable=False)
        return self._hasty

    def _by_itself(self) -> AsyncEngine:
        """Connections that do not wait for the disk and on which each statement commits itself.

        PostgreSQL has some of their own: to turn others over and back would be a moment in which a cancellation leaks.
        SQLite's begin nothing by themselves.
        """
        if self.dialect == "sqlite":
            return self._without_waiting()
        if self._alone is None:
            self._alone = _postgresql(self.url, self.deadline, self._pool, durable=False, autocommit=True)
        return self._alone

    def among(self, column: sa.Column[Any], name: str) -> sa.ColumnElement[bool]:
        """Whether a column is one of many numbers, which are given as one parameter of that name: `numbers(…)`."""
        if self.dialect == "postgresql":
            return column == sa.any_(sa.bindparam(name, type_=postgresql.ARRAY(sa.BigInteger)))
        found = sa.func.json_each(sa.bindparam(name, type_=sa.Text)).table_valued("value")
        return column.in_(sa.select(found.c.value))

    def numbers(self, values: Iterable[int]) -> list[int] | str:
        """Many numbers as the one parameter that `among` compares with."""
        return list(values) if self.dialect == "postgresql" else json.dumps(list(values))

    async def alone(
        self, statement: sa.Select[Any] | sa.Delete, values: Mapping[str, object], *, write: bool = True
    ) -> Sequence[Sequence[Any]]:
        """Run one statement of the kit's bookkeeping as a transaction of its own: one trip where `connect` takes five.

        The driver is given the statement itself, which may hold no list to be expanded. As with `durable=False` it
        does not wait for the disk.

        Raises:
            SidecarUnavailable: The database does not answer; a change may or may not have been made.
            StateConflict: Another transaction was in the way; nothing has happened, and again it may pass.

        """
        engine = self._by_itself()
        compiled = _compiled(statement, engine.dialect)
        with _translated(self.url):
            async with self._writing if write else contextlib.nullcontext(), engine.connect() as connection:
                return await through_driver(connection, compiled, values)


async def insert_new(connection: AsyncConnection, table: sa.Table, row: Mapping[str, object]) -> bool:
    """Insert a row unless its key is there; whether it was not.

    Where another transaction is inserting the same key, this waits until that one has ended. The answer is told by
    what was returned: `rowcount` says nothing of an INSERT on PostgreSQL.
    """
    return (await connection.execute(_insert_new(table, connection.dialect.name), dict(row))).first() is not None


async def insert_all_new(connection: AsyncConnection, table: sa.Table, rows: Sequence[Mapping[str, object]]) -> int:
    """Insert the rows whose keys are not there, in few statements; how many that were.

    Give them in one order everywhere: then two transactions that insert the same ones wait for, and do not block, each
    other.
    """
    if not rows:
        return 0
    return len((await connection.execute(_insert_new(table, connection.dialect.name), list(map(dict, rows)))).all())


async def commit_with(connection: AsyncConnection, rows: Mapping[sa.Table, Sequence[Mapping[str, object]]]) -> None:
    """Commit what is open on a connection together with more rows; those of one table have the same columns.

    The rows are sent with the commit, in the same trip, and straight through the driver: values as they are.
    """
    statements = [(_compiled(_insert(table), connection.dialect, tuple(new[0])), new) for table, new in rows.items()]
    if statements and not connection.in_transaction():
        await connection.begin()
    if statements:
        _driver(connection).last = [Statement(each.text, [each.bound(row) for row in new]) for each, new in statements]
    await connection.commit()


async def through_driver(
    connection: AsyncConnection, statement: _Compiled, values: Mapping[str, object]
) -> Sequence[Sequence[Any]]:
    """Run a statement past SQLAlchemy, which costs a third of the time; what it found, where that is one."""
    driver, bound = _driver(connection), statement.bound(values)
    if connection.dialect.name == "sqlite":
        return list(await driver.execute_fetchall(statement.text, bound))
    cursor = await driver.execute(statement.text, bound, prepare=True)
    return await cursor.fetchall() if cursor.description else []


def _driver(connection: AsyncConnection) -> Any:
    return connection.sync_connection.connection.driver_connection  # type: ignore[union-attr] # it is open


@dataclass(frozen=True, slots=True)
class _Compiled:
    """A statement as the driver takes it."""

    text: str
    order: Sequence[str] | None
    """The parameters' names in their order; None where the driver takes them by name."""
    constants: Mapping[str, object]

    def bound(self, values: Mapping[str, object]) -> Any:
        given = {**self.constants, **values}
        return given if self.order is None else [given[name] for name in self.order]


@lru_cache(maxsize=64)
def _compiled(statement: Any, dialect: sa.Dialect, columns: tuple[str, ...] | None = None) -> _Compiled:
    compiled = statement.compile(dialect=dialect, column_keys=columns)
    return _Compiled(str(compiled), compiled.positiontup, {} if columns else compiled.params)


@cache
def _insert(table: sa.Table) -> sa.Insert:
    return sa.insert(table).inline()  # nothing is to be returned


@cache
def _insert_new(table: sa.Table, dialect: str) -> sa.Executable:
    insert = postgresql.insert if dialect == "postgresql" else sqlite.insert
    return insert(table).on_conflict_do_nothing().returning(*table.primary_key.columns)


def _checked(url: str | sa.URL) -> sa.URL:
    try:
        read = sa.make_url(url)
    except sa.exc.ArgumentError as error:
        raise DefinitionError(f"no database URL: {error}: write sqlite:///file.db or postgresql://…") from error
    name = read.get_backend_name()
    if name not in _DRIVERS:
        raise DefinitionError(f"{name} is not supported: use sqlite:///file.db or postgresql://user@host/name")
    if name == "sqlite" and (not read.database or ":memory:" in read.database):
        raise DefinitionError("a SQLite database in memory would keep nothing over a restart: name a file")
    return read.set(drivername=_DRIVERS[name])


def _sqlite(url: sa.URL, deadline: float, pool: int, *, durable: bool) -> AsyncEngine:
    engine = create_async_engine(
        url,
        pool_size=pool,
        max_overflow=pool,
        pool_timeout=deadline,
        connect_args={"timeout": deadline, "durable": durable, "async_creator_fn": SqliteConnection},
    )

    @event.listens_for(engine.sync_engine, "handle_error")
    def failed(context: sa.engine.ExceptionContext) -> None:
        if isinstance(context.original_exception, asyncio.CancelledError):
            context.is_disconnect = False  # the driver has finished the call: what is open can be rolled back

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: sa.Connection) -> None:
        # A reader that becomes a writer fails at once where another has written meanwhile: writers begin as such.
        reads = connection.get_execution_options().get(_READS)
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    return engine


def _wrap_values(engine: AsyncEngine) -> None:
    """Let SQLAlchemy wrap what a driver raises where it cannot make a parameter of a value: it knows only its own."""

    @event.listens_for(engine.sync_engine, "handle_error")
    def failed(context: sa.engine.ExceptionContext) -> None:
        error = context.original_exception
        if isinstance(error, OverflowError | ValueError | TypeError) and context.sqlalchemy_exception is None:
            raise sa.exc.StatementError(str(error), context.statement, context.parameters, error) from error


def _postgresql(url: sa.URL, deadline: float, pool: int, *, durable: bool, autocommit: bool = False) -> AsyncEngine:
    options = {"statement_timeout": str(int(deadline * 1000)), **({} if durable else _BOOKKEEPING)}
    given = url.query.get("options")
    return create_async_engine(
        url,
        pool_size=pool,
        max_overflow=pool,
        pool_timeout=deadline,
        pool_pre_ping=False,  # it would cost a round trip a transaction: a broken connection is an error like others
        connect_args={
            "async_creator_fn": PostgresConnection.connect,
            "autocommit": autocommit,
            "connect_timeout": max(int(deadline), 2),
            "options": " ".join([*(f"-c {name}={value}" for name, value in options.items()), str(given or "")]),
        },
    )


@contextmanager
def _translated(url: sa.URL) -> Iterator[None]:
    try:
        yield
    except sa.exc.TimeoutError as error:
        raise SidecarUnavailable(f"{_place(url)}: every connection is busy") from error
    except (sa.exc.StatementError, psycopg.Error, sqlite3.Error) as error:
        kind = meaning(error)
        if kind is None:
            raise
        orig = error.orig if isinstance(error, sa.exc.StatementError) else error
        raise kind(f"{_place(url)}: {orig}") from error


def _place(url: sa.URL) -> str:
    return f"database {url.render_as_string(hide_password=True)}"


def meaning(error: BaseException) -> type[SidecarError] | None:
    """Return what an error of the database or its driver means; None where that is not known.

    `StateConflict`: another transaction was in the way. `SidecarUnavailable`: the database is what failed. `KeyTaken`
    and `StateRefused`: it will never take this statement with these values.
    """
    orig = error.orig if isinstance(error, sa.exc.StatementError) else error
    if getattr(error, "connection_invalidated", False):
        return SidecarUnavailable
    if isinstance(orig, sqlite3.Error):
        return _sqlite_meaning(orig)
    if isinstance(orig, psycopg.Error):
        return _postgresql_meaning(orig)
    # SQLAlchemy or the driver could not make a parameter of a value, such as half a surrogate pair or a huge number.
    return StateRefused if isinstance(error, sa.exc.StatementError) else None


def _sqlite_meaning(error: sqlite3.Error) -> type[SidecarError]:
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:  # the module's own: a value that is no parameter
        return SidecarUnavailable if "closed" in str(error) else StateRefused
    if code in _SQLITE_TAKEN:
        return KeyTaken
    return StateRefused if code & 0xFF in _SQLITE_REFUSED else SidecarUnavailable


def _postgresql_meaning(error: psycopg.Error) -> type[SidecarError] | None:
    state = error.sqlstate
    if state is None:  # the driver's own
        if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):  # it could not connect
            return SidecarUnavailable
        return StateRefused if isinstance(error, psycopg.DataError | psycopg.ProgrammingError) else None
    for states, kind in _POSTGRESQL.items():
        if state in states or state[:2] in states:
            return kind
    return None
