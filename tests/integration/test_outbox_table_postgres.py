"""The table outbox on a real PostgreSQL: the suite that SQLite passes too, and what only a server can do."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from psycopg.conninfo import make_conninfo
from tests.conformance.table import (
    Counted,
    Shop,
    TableConformance,
    count,
    counted,
    deliver,
    published,
)
from tests.support.cancelling import cancelled, checked_out, uncollected
from tests.support.postgres import own_database
from tests.support.refused_writes import (
    ANYWHERE,
    POSTGRESQL,
    Write,
    check_race,
    check_refused,
    parametrized,
    run,
    writing,
)

from tidings import Event, Handlers, event
from tidings.context import request, utc_now
from tidings.errors import SidecarUnavailable, StateConflict, StateRefused
from tidings.messages.delivery import DeliveryContext
from tidings.outbox import table_relay, table_schema
from tidings.outbox.sql import Database, commit_with
from tidings.outbox.table import SqlContext, TableOutbox
from tidings.testing import MemorySidecar

pytestmark = pytest.mark.real


@event("shop.doorOpened", subject="door")
class Opened(Event, kw_only=True):
    door: str


@pytest.fixture
async def database_url(postgres: str) -> AsyncIterator[str]:
    """Yield a database of the test's own."""
    async with own_database(postgres) as url:
        yield url


class TestTableOnPostgresql(TableConformance):
    pass


async def sessions(database_url: str, statement: str) -> None:
    async with await psycopg.AsyncConnection.connect(make_conninfo(database_url), autocommit=True) as other:
        await other.execute(statement)


async def test_connections_that_the_server_ends_are_reopened(database_url: str) -> None:
    shop = Shop(database_url)
    async with shop.process() as (service, _):
        await deliver(service, counted())
        await published(service)
        await sessions(
            database_url,
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where pid <> pg_backend_pid() and datname = current_database()",
        )
        again = counted()
        answers = [await deliver(service, again) for _ in range(3)]  # the first to find a connection broken is refused
        assert set(answers) <= {b'{"status":"RETRY"}', b'{"status":"SUCCESS"}'}
        assert answers[-1] == b'{"status":"SUCCESS"}'
        await published(service)
    assert shop.published_all() == [1, 2]


async def test_a_deadlock_is_a_conflict_and_a_long_statement_a_database_that_does_not_answer(
    database_url: str,
) -> None:
    database, hasty = Database(database_url, deadline=60.0), Database(database_url, deadline=1.0)
    both = asyncio.Barrier(2)
    numbers = sa.Table("numbers", sa.MetaData(), sa.Column("n", sa.Integer, primary_key=True), sa.Column("v", sa.Text))
    await database.create(numbers.metadata)
    async with database.transaction() as connection:
        await connection.execute(sa.insert(numbers), [{"n": 1, "v": ""}, {"n": 2, "v": ""}])

    async def change(first: int, second: int) -> None:
        async with database.transaction() as connection:
            for number in (first, second):
                await connection.execute(sa.update(numbers).where(numbers.c.n == number).values(v="x"))
                if number == first:
                    await both.wait()

    outcomes = await asyncio.gather(change(1, 2), change(2, 1), return_exceptions=True)
    assert sorted(map(type, outcomes), key=str) == [type(None), StateConflict]
    with pytest.raises(SidecarUnavailable, match="timeout"):
        async with hasty.connect() as connection:
            await connection.execute(sa.select(sa.func.pg_sleep(30)))
    await hasty.close()
    with pytest.raises(StateRefused):
        async with database.connect() as connection:
            await connection.execute(sa.text("select nothing from nowhere"))
    await database.close()


async def test_a_handler_that_hides_a_failed_statement_is_tried_again_and_not_taken_for_done(database_url: str) -> None:
    shop = Shop(database_url)
    tries: list[int] = []

    async def careless(message: Counted, context: SqlContext) -> None:
        await count(message, context)
        tries.append(1)
        if len(tries) == 1:
            with contextlib.suppress(sa.exc.DBAPIError):
                await context.connection.execute(sa.text("select nothing from nowhere"))

    shop.handlers = Handlers()
    shop.handlers.on(Counted)(careless)
    async with shop.process() as (service, _):
        service.ingress.delayed.enabled = False  # the delivery itself shows that it was not handled
        cause = counted()
        assert await deliver(service, cause) == b'{"status":"RETRY"}', "PostgreSQL would roll back and call it a commit"
        assert await deliver(service, cause) == b'{"status":"SUCCESS"}'
        await published(service)
    assert (await shop.totals(), shop.published_all()) == ({"apple": 1}, [1])


async def test_several_processes_create_the_tables_concurrently(database_url: str) -> None:
    databases = [Database(database_url) for _ in range(5)]
    await asyncio.gather(*(database.create(table_schema.metadata) for database in databases))
    for item in databases:
        await item.close()


async def test_a_database_that_is_missing_is_waited_for() -> None:
    database = Database("postgresql://nobody@127.0.0.1:1/nothing", deadline=0.2)
    outbox = TableOutbox(database, MemorySidecar("shop"), "shop-0")

    async def never(_: object) -> None:
        raise AssertionError

    starting = asyncio.create_task(outbox.start(never))
    await asyncio.sleep(0.3)
    assert not starting.done()
    with pytest.raises(SidecarUnavailable, match="has not started"):
        async with outbox.unit(DeliveryContext("shop", request()), utc_now()):
            pass
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    await outbox.stop(0.1)


async def test_a_million_rows_do_not_slow_a_batch_down(database_url: str) -> None:
    """PostgreSQL has no statistics of a table that was empty a moment ago: the plan must be good without."""
    outbox = TableOutbox(Database(database_url, deadline=120.0), MemorySidecar("shop"), "shop-0")
    await outbox.database.create(table_schema.metadata)
    async with outbox.database.transaction() as connection:
        fill = """
            insert into tidings_outbox (lane, subject, topic, event, written)
            select n % 2, 's' || n, 't', '{}', 0 from generate_series(1, 300000) n"""
        await connection.execute(sa.text(fill))
    async with outbox.database.connect(durable=False) as connection:
        values = {"lane": 1, "after": 0, "now": 1.0, "batch": table_relay.BATCH}
        query = table_relay._batch.compile(dialect=outbox.database.engine.dialect)
        text = str(query)
        explained = await connection.exec_driver_sql(f"explain (analyze, format json) {text}", query.params | values)
        ((plan,),) = explained.all()
    await outbox.database.close()
    rows = [node["Actual Rows"] for node in _nodes(plan[0]["Plan"])]
    assert max(rows) <= table_relay.BATCH, plan


def _nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for item in plan.get("Plans", []) for node in _nodes(item))]


async def test_a_cancelled_transaction_leaves_neither_lock_nor_session_behind(database_url: str) -> None:
    database = Database(database_url, pool=4)
    rows = sa.Table("rows", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True), sa.Column("n", sa.Integer))
    await database.create(rows.metadata)
    await database.run_single(sa.delete(rows), {})
    async with database.transaction() as connection:
        await connection.execute(sa.insert(rows).values(id=1, n=0))

    async def count_up() -> None:
        own = uuid.uuid4().int % 2**31
        async with database.transaction() as connection:
            await connection.execute(sa.update(rows).where(rows.c.id == 1).values(n=rows.c.n + 1))
            await commit_with(connection, {rows: [{"id": own, "n": 0}]})
        await database.run_single(sa.delete(rows).where(rows.c.id == own), {})

    busy = sa.text("datname = current_database() and pid <> pg_backend_pid() and state <> 'idle'")
    sessions = sa.select(sa.func.count()).select_from(sa.table("pg_stat_activity")).where(busy)
    watcher = Database(database_url)

    async def nothing_is_left() -> None:
        assert checked_out(database) == 0
        async with asyncio.timeout(60):  # a session ends once its server has seen that the client has gone
            while (await watcher.run_single(sessions, {}, write=False))[0][0]:  # noqa: ASYNC110 - the server tells nobody
                await asyncio.sleep(0.001)

    with uncollected():
        assert await cancelled(count_up, 400, concurrency=16, after_round=nothing_is_left)
    await count_up()
    await database.close()
    await watcher.close()


@parametrized(ANYWHERE | POSTGRESQL)
async def test_a_write_that_postgresql_refuses_is_a_dead_letter_immediately(write: Write, database_url: str) -> None:
    await check_refused(database_url, write)


async def test_a_key_that_another_unit_of_work_has_just_inserted_is_looked_for_again(database_url: str) -> None:
    await check_race(database_url)


async def test_a_statement_that_waits_too_long_postpones_its_event_and_frees_the_queue(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIDINGS_DEADLINE", "3")
    slow = run("select pg_sleep(60)")
    async with writing(database_url, slow) as (service, sidecar, calls):
        assert await deliver(service, counted()) == b'{"status":"SUCCESS"}', "it is retried outside of the queue"
        assert len(calls) == 1
        assert sidecar.broker.events("deadletter.shop") == []
        assert await Shop(database_url).rows(table_schema.scheduled) == 1
