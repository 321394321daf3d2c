"""A database under a service: SQLite here, PostgreSQL in tests/integration/test_outbox_table_postgres.py."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import threading
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from tests.conformance import poll
from tests.support.cancelling import SEED, cancelled, checked_out, uncollected

from tidings.errors import DefinitionError, KeyTaken, SidecarUnavailable, StateRefused
from tidings.outbox.sql import Database, insert_new
from tidings.outbox.sql_drivers import SqliteConnection

_tables = sa.MetaData()
numbers = sa.Table("numbers", _tables, sa.Column("n", sa.Integer, primary_key=True), sa.Column("v", sa.Text))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "some.db"


@pytest.fixture
async def database(file: Path) -> AsyncIterator[Database]:
    opened = Database(f"sqlite:///{file}", deadline=0.3, pool=2)
    await opened.create(_tables)
    yield opened
    await opened.close()


async def add(database: Database, number: int, *, fails: bool = False) -> None:
    async with database.transaction() as connection:
        await connection.execute(sa.insert(numbers).values(n=number))
        if fails:
            raise ZeroDivisionError


async def stored(database: Database) -> list[int]:
    async with database.connect(write=False) as connection:
        return list((await connection.execute(sa.select(numbers.c.n).order_by(numbers.c.n))).scalars())


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("sqlite://", "lost on restart"),
        ("sqlite:///:memory:", "lost on restart"),
        ("mysql://db/shop", "mysql is not supported"),
        ("shop.db", "not a database URL"),
    ],
)
def test_what_cannot_hold_an_outbox_is_refused_immediately(url: str, why: str) -> None:
    with pytest.raises(DefinitionError, match=why):
        Database(url)


@pytest.mark.parametrize(
    ("url", "driver"),
    [
        ("sqlite:///a.db", "sqlite+aiosqlite"),
        ("postgres://db/a", "postgresql+psycopg"),
        ("postgresql+asyncpg://db/a", "postgresql+psycopg"),
    ],
)
def test_the_driver_is_the_kits_choice(url: str, driver: str) -> None:
    assert Database(url).url.drivername == driver


async def test_nothing_stays_unless_it_is_committed(database: Database) -> None:
    async with database.connect() as connection:
        await connection.execute(sa.insert(numbers).values(n=1))
    with pytest.raises(ZeroDivisionError):
        await add(database, 2, fails=True)
    await add(database, 3)
    assert await stored(database) == [3]


async def test_only_a_new_row_is_inserted(database: Database) -> None:
    async with database.transaction() as connection:
        assert await insert_new(connection, numbers, {"n": 1, "v": "first"})
        assert not await insert_new(connection, numbers, {"n": 1, "v": "second"})
        assert (await connection.execute(sa.select(numbers.c.v))).scalars().all() == ["first"]


async def test_many_numbers_are_one_parameter(database: Database) -> None:
    async with database.transaction() as connection:
        await connection.execute(sa.insert(numbers), [{"n": n, "v": ""} for n in range(50_000)])
        missing = sa.delete(numbers).where(database.among(numbers.c.n, "gone"))
        removed = await connection.execute(missing, {"gone": database.numbers(range(1, 50_000))})
        assert removed.rowcount == 49_999
    assert await stored(database) == [0]


async def test_a_statement_alone_is_committed_by_itself(database: Database) -> None:
    async with database.transaction() as connection:
        await connection.execute(sa.insert(numbers), [{"n": n, "v": str(n)} for n in range(5)])
    later = sa.select(numbers.c.v).where(numbers.c.n > sa.bindparam("after")).order_by(numbers.c.n).limit(2)
    assert [*map(tuple, await database.run_single(later, {"after": 1}, write=False))] == [("2",), ("3",)]
    removed = sa.delete(numbers).where(database.among(numbers.c.n, "gone"))
    await database.run_single(removed, {"gone": database.numbers([0, 1, 2])})
    assert await stored(database) == [3, 4]


async def test_a_single_statement_reports_an_unavailable_database(database: Database, file: Path) -> None:
    other = Database(f"sqlite:///{file}", deadline=0.05)
    async with database.connect() as connection:
        await connection.execute(sa.insert(numbers).values(n=1))
        with pytest.raises(SidecarUnavailable, match="locked"):
            await other.run_single(sa.delete(numbers), {})
    await other.run_single(sa.delete(numbers), {})
    await other.close()


@pytest.mark.parametrize(("durable", "synchronous"), [(True, 2), (False, 1)])
async def test_a_commit_waits_for_the_disk_unless_it_may_be_forgotten(
    database: Database, *, durable: bool, synchronous: int
) -> None:
    async with database.connect(durable=durable) as connection:
        assert (await connection.exec_driver_sql("PRAGMA synchronous")).scalar() == synchronous
        assert (await connection.exec_driver_sql("PRAGMA journal_mode")).scalar() == "wal"


async def test_each_statement_on_sqlite_takes_one_call_to_its_thread(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    finished = SqliteConnection._finished

    async def counted(connection: SqliteConnection, work: Any) -> Any:
        calls.append(work.func.__name__)
        return await finished(connection, work)

    monkeypatch.setattr(SqliteConnection, "_finished", counted)
    async with database.connect() as connection:
        assert await insert_new(connection, numbers, {"n": 1, "v": "first"})
        assert (await connection.execute(sa.select(numbers.c.v))).scalars().all() == ["first"]
        await connection.commit()
    assert calls == ["_completed", "_completed", "_completed", "_finish"]  # BEGIN, INSERT, SELECT, COMMIT


async def test_rows_can_be_read_as_a_stream(database: Database) -> None:
    async with database.transaction() as connection:
        await connection.execute(sa.insert(numbers), [{"n": n, "v": str(n)} for n in range(10)])
    async with database.connect(write=False) as connection:
        rows = await connection.stream(sa.select(numbers.c.n).order_by(numbers.c.n))
        assert [*await rows.fetchmany(2), await rows.fetchone()] == [(0,), (1,), (2,)]
        assert [row.n async for row in rows] == [*range(3, 10)]


async def test_a_reader_waits_for_no_writer(database: Database) -> None:
    async with database.connect() as connection:
        await connection.execute(sa.insert(numbers).values(n=1))
        assert await stored(database) == []


async def test_writers_of_one_process_queue_up_however_long_the_queue(database: Database) -> None:
    async def count(number: int) -> None:
        async with database.transaction() as connection:
            result = (await connection.execute(sa.select(sa.func.count()).select_from(numbers))).scalar_one()
            await asyncio.sleep(0.005)
            await connection.execute(sa.insert(numbers).values(n=number, v=str(result)))

    await asyncio.gather(*(count(number) for number in range(100)))
    async with database.connect(write=False) as connection:
        seen = (await connection.execute(sa.select(numbers.c.v))).scalars()
        assert sorted(map(int, seen)) == list(range(100)), "each saw what those before it had written"


async def test_another_process_that_writes_for_too_long_makes_it_unavailable(database: Database, file: Path) -> None:
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(SidecarUnavailable, match=r"some\.db.*locked"):
        await add(database, 1)
    other.execute("ROLLBACK")
    other.close()
    await add(database, 1)
    assert await stored(database) == [1]


async def test_a_leaked_connection_makes_it_unavailable(database: Database) -> None:
    returned = asyncio.Event()

    async def read() -> None:
        async with database.connect(write=False):
            await returned.wait()

    readers = [asyncio.ensure_future(read()) for _ in range(5)]
    await asyncio.wait(readers, return_when=asyncio.FIRST_EXCEPTION)
    returned.set()
    outcomes = await asyncio.gather(*readers, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes if outcome] == [SidecarUnavailable], (
        "two are kept, two more are opened"
    )


async def test_a_wrong_statement_is_the_callers_error(database: Database) -> None:
    for statement in ("select * from nowhere", "selec"):
        with pytest.raises(StateRefused):
            async with database.connect() as connection:
                await connection.exec_driver_sql(statement)
    with pytest.raises(KeyTaken, match="UNIQUE constraint failed"):
        async with database.transaction() as connection:
            await connection.execute(sa.insert(numbers), [{"n": 1}, {"n": 1}])


async def test_a_file_that_cannot_be_opened_makes_it_unavailable(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/missing/some.db")
    with pytest.raises(SidecarUnavailable, match="unable to open database file"):
        await database.create(_tables)
    await database.close()


async def test_an_error_shows_no_password() -> None:
    database = Database("postgresql://shop:s3cret@127.0.0.1:1/shop", deadline=2.0)
    with pytest.raises(SidecarUnavailable) as caught:
        async with database.connect():
            pass
    assert "s3cret" not in str(caught.value)
    assert "shop:***@127.0.0.1:1/shop" in str(caught.value)
    await database.close()


# -- cancellation -------------------------------------------------------------------------------------------------


async def count_up(database: Database) -> None:
    async with database.transaction() as connection:
        await connection.execute(sa.update(numbers).values(v=sa.cast(numbers.c.v, sa.Integer) + 1))
        await connection.execute(sa.select(numbers))


async def look(database: Database) -> None:
    async with database.connect(write=False) as connection:
        await connection.execute(sa.select(numbers))


async def count_alone(database: Database) -> None:
    await database.run_single(sa.delete(numbers).where(numbers.c.n == 7), {})
    await database.run_single(sa.select(numbers), {}, write=False)


async def test_a_cancelled_transaction_leaves_neither_lock_nor_connection(file: Path) -> None:
    database, chance = Database(f"sqlite:///{file}", pool=2), random.Random(SEED)
    await database.create(_tables)
    await add(database, 1)
    other = sqlite3.connect(file, isolation_level=None, timeout=0)

    async def nothing_is_locked() -> None:
        other.execute("BEGIN IMMEDIATE")
        other.execute("ROLLBACK")
        busy, *_ = other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        assert not busy, "a reader has been left behind"
        assert checked_out(database) == 0

    def work() -> Awaitable[None]:
        return chance.choice([count_up, look, count_alone])(database)

    with uncollected():
        assert await cancelled(work, 600, after_round=nothing_is_locked)
        assert await cancelled(work, 1200, concurrency=8, after_round=nothing_is_locked)
    other.close()
    await database.close()
    await poll(lambda: not [item for item in threading.enumerate() if "_connection_worker_thread" in item.name])


async def test_a_connection_in_use_is_closed_when_it_is_returned_after_the_database_was_closed(tmp_path: Path) -> None:
    database, opened = Database(f"sqlite:///{tmp_path / 'shop.db'}"), list[Any]()
    for durable in (True, False):
        async with database.connect(write=False, durable=durable):
            pass  # both pools hold a connection
    async with database.connect(write=False) as used:
        opened.append((await used.get_raw_connection()).driver_connection)
        async with database.connect(write=False) as other:
            opened.append((await other.get_raw_connection()).driver_connection)
            await database.close()
        assert (await used.execute(sa.select(sa.literal(1)))).scalar() == 1, "it can be used to its end"
    assert [connection._running for connection in opened] == [False, False]


async def test_a_closed_database_opens_no_more_connections(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'shop.db'}")
    await database.create(sa.MetaData())
    await database.close()
    with pytest.raises(SidecarUnavailable, match="closed"):
        async with database.connect():
            pass
    await database.close()
