"""Access to a service's relational database: SQLite in a file, or PostgreSQL.

Shared by the SDK and by services that store rows: an engine with durable settings, transactions, creation of tables at
startup, and exceptions that tell whether a retry may help.
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
"""Updates a service's tables, for example with Alembic. It runs in a transaction under a lock."""

_DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}
_READS = "tidings_reads"
_CREATING = 7_463_214_501  # advisory-lock id for creating tables
# PostgreSQL's errors by SQLSTATE or its class (the first two characters); the first match counts.
_POSTGRESQL: Mapping[frozenset[str], type[SidecarError]] = {
    # serialization failure, deadlock, lock not available
    frozenset({"40001", "40P01", "55P03"}): StateConflict,
    # statement_timeout
    frozenset({"57014"}): StatementTimeout,
    # connection, insufficient resources, operator intervention, system error, a standby server
    frozenset({"08", "53", "57", "58", "25006"}): SidecarUnavailable,
    # unique and exclusion constraints
    frozenset({"23505", "23P01"}): KeyTaken,
    # cardinality, data, constraints, triggers, syntax and access, WITH CHECK OPTION, program limits, RAISE
    frozenset({"21", "22", "23", "27", "42", "44", "54", "P0"}): StateRefused,
}
_BOOKKEEPING = {
    "synchronous_commit": "off",
    # Statistics are usually taken while the queue is empty; PostgreSQL would therefore sort all rows for every batch,
    # even with a million rows. Reading in index order avoids that. JIT does not pay off for short statements.
    "enable_sort": "off",
    "enable_bitmapscan": "off",
    "jit": "off",
}
# SQLite's errors caused by a statement. All others concern the file, the disk or the memory.
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
    """A database and its connections.

    A commit is durable when it returns: SQLite uses a write-ahead log with `synchronous=FULL`, PostgreSQL its
    configured `synchronous_commit`. SQLite allows one writer: writers of this process queue up in order, and wait for
    those of other processes.

    Args:
        url: `sqlite:///path/to/file.db` or `postgresql://user@host/name`.
        deadline: Seconds to wait for a connection, a lock or (PostgreSQL) the result of a statement.
        pool: Number of pooled connections; up to the same number is opened in addition when all are busy.

    Raises:
        DefinitionError: The URL is not that of a SQLite file or a PostgreSQL database.

    """

    def __init__(self, url: str | sa.URL, *, deadline: float = 5.0, pool: int = 10) -> None:
        self.url = _checked(url)
        self.dialect: Dialect = "sqlite" if self.url.get_backend_name() == "sqlite" else "postgresql"
        self.deadline = deadline
        self._pool = pool
        self._writing = asyncio.Lock() if self.dialect == "sqlite" else contextlib.nullcontext()
        self.engine = self._open(durable=True)
        self._relaxed: AsyncEngine | None = None
        self._autocommit: AsyncEngine | None = None
        self._closed = False

    def _open(self, *, durable: bool) -> AsyncEngine:
        opened = _sqlite if self.dialect == "sqlite" else _postgresql
        engine = opened(self.url, self.deadline, self._pool, durable=durable)
        _wrap_values(engine)
        return engine

    @asynccontextmanager
    async def connect(self, *, write: bool = True, durable: bool = True) -> AsyncIterator[AsyncConnection]:
        """Open a transaction that is rolled back unless `await connection.commit()` is called.

        Args:
            write: False for reading only: SQLite then does not wait for its writer.
            durable: False for the SDK's queue bookkeeping: the commit does not wait for the disk, and may be lost if
                the machine (not only the process) crashes shortly after it.

        Raises:
            SidecarUnavailable: The database does not answer; a commit in progress may or may not have succeeded.
            StateConflict: Conflict with another transaction; nothing was written, and a retry may succeed.
            StateRefused: The database rejects this statement with these values permanently; nothing was written.

        """
        engine = self.engine if durable else self._relaxed_engine()
        with _translated(self.url):
            async with self._checked_out(engine, write=write) as connection:
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
        """Create missing tables and run migrations in one transaction. Several processes may do so concurrently.

        Raises:
            SidecarUnavailable: The database does not answer.

        """
        async with self.transaction() as connection:
            # SQLite takes its write lock with the first statement.
            is_postgres = self.dialect == "postgresql"
            await connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_CREATING) if is_postgres else sa.true()))
            for definition in tables:
                create = definition.create_all if isinstance(definition, sa.MetaData) else definition
                await connection.run_sync(create)

    @asynccontextmanager
    async def _checked_out(self, engine: AsyncEngine, *, write: bool) -> AsyncIterator[AsyncConnection]:
        async with self._writing if write else contextlib.nullcontext():
            if self._is_closed():
                raise SidecarUnavailable(f"{_place(self.url)}: closed")
            async with engine.connect() as connection:
                try:
                    yield connection
                finally:
                    # The pool that it would return to is disposed of, and would leave it open.
                    if self._is_closed() and not connection.closed:
                        await connection.invalidate()

    def _is_closed(self) -> bool:  # a call, because mypy takes it that an attribute keeps its value
        return self._closed

    async def close(self) -> None:
        """Close every connection; those in use as soon as they are no longer. No more are opened afterwards."""
        self._closed = True
        for engine in (self.engine, self._relaxed, self._autocommit):
            if engine is not None:
                await engine.dispose()

    def _relaxed_engine(self) -> AsyncEngine:
        if self._relaxed is None:
            self._relaxed = self._open(durable=False)
        return self._relaxed

    def _autocommit_engine(self) -> AsyncEngine:
        """Return an engine in autocommit mode that does not wait for the disk.

        PostgreSQL needs separate connections: switching others to autocommit and back could be interrupted by a
        cancellation. SQLite's connections do not begin transactions implicitly.
        """
        if self.dialect == "sqlite":
            return self._relaxed_engine()
        if self._autocommit is None:
            self._autocommit = _postgresql(self.url, self.deadline, self._pool, durable=False, autocommit=True)
        return self._autocommit

    def among(self, column: sa.Column[Any], name: str) -> sa.ColumnElement[bool]:
        """Return a condition that a column is one of many numbers, which are bound as one parameter: `numbers(…)`."""
        if self.dialect == "postgresql":
            return column == sa.any_(sa.bindparam(name, type_=postgresql.ARRAY(sa.BigInteger)))
        rows = sa.func.json_each(sa.bindparam(name, type_=sa.Text)).table_valued("value")
        return column.in_(sa.select(rows.c.value))

    def numbers(self, values: Iterable[int]) -> list[int] | str:
        """Return many numbers as the one parameter for `among`."""
        return list(values) if self.dialect == "postgresql" else json.dumps(list(values))

    async def run_single(
        self, statement: sa.Select[Any] | sa.Delete, values: Mapping[str, object], *, write: bool = True
    ) -> Sequence[Sequence[Any]]:
        """Run one bookkeeping statement as its own transaction, in one round trip instead of the five of `connect`.

        The statement must not contain lists to expand. As with `durable=False`, it does not wait for the disk.

        Raises:
            SidecarUnavailable: The database does not answer; a change may or may not have been made.
            StateConflict: Conflict with another transaction; nothing was written, and a retry may succeed.

        """
        engine = self._autocommit_engine()
        compiled = _compiled(statement, engine.dialect)
        with _translated(self.url):
            async with self._checked_out(engine, write=write) as connection:
                return await through_driver(connection, compiled, values)


async def insert_new(connection: AsyncConnection, table: sa.Table, row: Mapping[str, object]) -> bool:
    """Insert a row unless its key exists; return True if it was inserted.

    If another transaction is inserting the same key, wait for its end. The result is taken from RETURNING, because
    `rowcount` is unreliable for INSERT on PostgreSQL.
    """
    return (await connection.execute(_insert_new(table, connection.dialect.name), dict(row))).first() is not None


async def insert_all_new(connection: AsyncConnection, table: sa.Table, rows: Sequence[Mapping[str, object]]) -> int:
    """Insert the rows whose keys do not exist, in few statements; return the number of inserted rows.

    Pass rows in a globally consistent order, so that concurrent transactions with the same rows do not deadlock.
    """
    if not rows:
        return 0
    return len((await connection.execute(_insert_new(table, connection.dialect.name), list(map(dict, rows)))).all())


async def commit_with(connection: AsyncConnection, rows: Mapping[sa.Table, Sequence[Mapping[str, object]]]) -> None:
    """Commit the open transaction of a connection with additional rows; the rows of a table have the same columns.

    The rows are sent together with the commit, in one round trip, directly through the driver, without type processing.
    """
    statements = []
    for table, new in rows.items():
        compiled = _compiled(_insert(table), connection.dialect, tuple(new[0]))
        statements.append(Statement(compiled.text, [compiled.bound(row) for row in new]))
    if statements and not connection.in_transaction():
        await connection.begin()
    if statements:
        _driver(connection).last = statements
    await connection.commit()


async def through_driver(
    connection: AsyncConnection, statement: _Compiled, values: Mapping[str, object]
) -> Sequence[Sequence[Any]]:
    """Run a statement without SQLAlchemy, which saves a third of the time; return the rows, if any."""
    driver, bound = _driver(connection), statement.bound(values)
    if connection.dialect.name == "sqlite":
        return list(await driver.execute_fetchall(statement.text, bound))
    cursor = await driver.execute(statement.text, bound, prepare=True)
    return await cursor.fetchall() if cursor.description else []


def _driver(connection: AsyncConnection) -> Any:
    return connection.sync_connection.connection.driver_connection  # type: ignore[union-attr] # it is open


@dataclass(frozen=True, slots=True)
class _Compiled:
    """A statement in the driver's form."""

    text: str
    order: Sequence[str] | None
    """Names of the positional parameters; None if the driver takes them by name."""
    constants: Mapping[str, object]

    def bound(self, values: Mapping[str, object]) -> Any:
        parameters = {**self.constants, **values}
        return parameters if self.order is None else [parameters[name] for name in self.order]


@lru_cache(maxsize=64)
def _compiled(statement: Any, dialect: sa.Dialect, columns: tuple[str, ...] | None = None) -> _Compiled:
    compiled = statement.compile(dialect=dialect, column_keys=columns)
    return _Compiled(str(compiled), compiled.positiontup, {} if columns else compiled.params)


@cache
def _insert(table: sa.Table) -> sa.Insert:
    return sa.insert(table).inline()  # no RETURNING


@cache
def _insert_new(table: sa.Table, dialect: str) -> sa.Executable:
    insert = postgresql.insert if dialect == "postgresql" else sqlite.insert
    return insert(table).on_conflict_do_nothing().returning(*table.primary_key.columns)


def _checked(url: str | sa.URL) -> sa.URL:
    try:
        read = sa.make_url(url)
    except sa.exc.ArgumentError as error:
        raise DefinitionError(f"not a database URL: {error}: use sqlite:///file.db or postgresql://…") from error
    name = read.get_backend_name()
    if name not in _DRIVERS:
        raise DefinitionError(f"{name} is not supported: use sqlite:///file.db or postgresql://user@host/name")
    if name == "sqlite" and (not read.database or ":memory:" in read.database):
        raise DefinitionError("a SQLite database in memory is lost on restart: specify a file")
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
            context.is_disconnect = False  # the driver has finished the call: rollback is possible

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: sa.Connection) -> None:
        # A read transaction cannot become a write transaction after a concurrent write: writers begin as such.
        reads = connection.get_execution_options().get(_READS)
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    return engine


def _wrap_values(engine: AsyncEngine) -> None:
    """Let SQLAlchemy wrap exceptions of a driver that cannot convert a value, which it does not recognise by itself."""

    @event.listens_for(engine.sync_engine, "handle_error")
    def failed(context: sa.engine.ExceptionContext) -> None:
        error = context.original_exception
        if isinstance(error, OverflowError | ValueError | TypeError) and context.sqlalchemy_exception is None:
            raise sa.exc.StatementError(str(error), context.statement, context.parameters, error) from error


def _postgresql(url: sa.URL, deadline: float, pool: int, *, durable: bool, autocommit: bool = False) -> AsyncEngine:
    settings = {"statement_timeout": str(int(deadline * 1000)), **({} if durable else _BOOKKEEPING)}
    options = [*(f"-c {name}={value}" for name, value in settings.items()), str(url.query.get("options", ""))]
    return create_async_engine(
        url,
        pool_size=pool,
        max_overflow=pool,
        pool_timeout=deadline,
        pool_pre_ping=False,  # saves a round trip per transaction; a broken connection is handled like other errors
        connect_args={
            "async_creator_fn": PostgresConnection.connect,
            "autocommit": autocommit,
            "connect_timeout": max(int(deadline), 2),
            "options": " ".join(options),
        },
    )


@contextmanager
def _translated(url: sa.URL) -> Iterator[None]:
    try:
        yield
    except sa.exc.TimeoutError as error:
        raise SidecarUnavailable(f"{_place(url)}: all connections are in use") from error
    except (sa.exc.StatementError, psycopg.Error, sqlite3.Error) as error:
        kind = meaning(error)
        if kind is None:
            raise
        orig = error.orig if isinstance(error, sa.exc.StatementError) else error
        raise kind(f"{_place(url)}: {orig}") from error


def _place(url: sa.URL) -> str:
    return f"database {url.render_as_string(hide_password=True)}"


def meaning(error: BaseException) -> type[SidecarError] | None:
    """Return the exception type for an error of the database or its driver, or None if unknown.

    `StateConflict`: conflict with another transaction. `SidecarUnavailable`: the database failed. `KeyTaken` and
    `StateRefused`: it rejects the statement with these values permanently.
    """
    orig = error.orig if isinstance(error, sa.exc.StatementError) else error
    if getattr(error, "connection_invalidated", False):
        return SidecarUnavailable
    if isinstance(orig, sqlite3.Error):
        return _sqlite_meaning(orig)
    if isinstance(orig, psycopg.Error):
        return _postgresql_meaning(orig)
    # SQLAlchemy or the driver could not convert a value, such as an unpaired surrogate or a huge number.
    return StateRefused if isinstance(error, sa.exc.StatementError) else None


def _sqlite_meaning(error: sqlite3.Error) -> type[SidecarError]:
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:  # raised by the module itself: the value has an unsupported type
        return SidecarUnavailable if "closed" in str(error) else StateRefused
    if code in _SQLITE_TAKEN:
        return KeyTaken
    return StateRefused if code & 0xFF in _SQLITE_REFUSED else SidecarUnavailable


def _postgresql_meaning(error: psycopg.Error) -> type[SidecarError] | None:
    state = error.sqlstate
    if state is None:  # raised by the driver itself
        if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):  # no connection
            return SidecarUnavailable
        return StateRefused if isinstance(error, psycopg.DataError | psycopg.ProgrammingError) else None
    for states, kind in _POSTGRESQL.items():
        if state in states or state[:2] in states:
            return kind
    return None
