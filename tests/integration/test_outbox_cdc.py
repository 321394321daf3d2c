"""The table and cdc strategies on a real PostgreSQL with `wal_level=logical`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import psycopg
import pytest
import structlog
from psycopg.conninfo import make_conninfo
from tests.conformance import poll
from tests.conformance.outbox import OutboxConformance
from tests.conformance.shop import TOPIC, counted
from tests.conformance.support import PATIENCE
from tests.conformance.worlds import CdcWorld, TableWorld, World
from tests.support.cancelling import cancelled_deliveries
from tests.support.postgres import drop_slots, own_database

from tidings.errors import DefinitionError, PublishRefused
from tidings.observability import metrics
from tidings.outbox import cdc
from tidings.outbox.cdc import CdcOutbox
from tidings.outbox.table import TableOutbox
from tidings.testing import MemorySidecar

pytestmark = [
    pytest.mark.real,
    # The dead return and close no connections.
    pytest.mark.filterwarnings("ignore:The garbage collector is trying to clean up:sqlalchemy.exc.SAWarning"),
    pytest.mark.filterwarnings("ignore:.*was deleted while still open:ResourceWarning"),
]


async def ask(url: str, statement: str) -> list[tuple[object, ...]]:
    async with await psycopg.AsyncConnection.connect(make_conninfo(url), autocommit=True) as other:
        answer = await other.execute(statement)
        return list(await answer.fetchall()) if answer.description else []


@pytest.fixture
async def database_url(logical: str) -> AsyncIterator[str]:
    """Yield a database of the test's own, and the slot with it."""
    async with own_database(logical) as url:
        yield url


class TestCdc(OutboxConformance):
    @pytest.fixture
    def world(self, database_url: str, monkeypatch: pytest.MonkeyPatch) -> World:
        monkeypatch.setattr(cdc, "_STANDBY", 0.05)
        return CdcWorld(database_url)


class TestTable(OutboxConformance):
    @pytest.fixture
    def world(self, database_url: str) -> World:
        return TableWorld(database_url)


@pytest.mark.parametrize("strategy", [CdcWorld, TableWorld])
async def test_cancelled_deliveries_lose_and_double_nothing(strategy: type[TableWorld], database_url: str) -> None:
    await cancelled_deliveries(strategy(database_url), 100)


async def test_between_table_and_cdc_a_service_may_change_at_any_time(database_url: str) -> None:
    table, log = TableWorld(database_url), CdcWorld(database_url)
    log.broker = table.broker
    expected: list[int] = []
    for number, world in enumerate([table, log, table, log], 1):
        async with world.process() as process:
            await world.until({"apple": expected} if expected else {})
            process.sidecar.down = True
            assert await process.deliver(counted(number=number))
        expected.append(number)
    async with log.process():
        await log.until({"apple": expected})


async def test_one_instance_streams_for_all_and_another_goes_on_when_its_session_ends(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cdc, "_STANDBY", 0.05)
    world = CdcWorld(database_url)
    async with world.process("shop-0") as one, world.process("shop-1") as other:
        for number, process in enumerate([one, other] * 3, 1):
            assert await process.deliver(counted(number=number))
        await world.until({"apple": [1, 2, 3, 4, 5, 6]})
        await poll(lambda: one.service.outbox.depth == other.service.outbox.depth == 0)
        ended = await ask(database_url, "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory'")
        assert ended
        for number, process in enumerate([one, other], 7):
            async with asyncio.timeout(PATIENCE):
                while not await process.deliver(counted(number=number)):  # noqa: ASYNC110 - a broker asks again, too
                    await asyncio.sleep(0.01)
        await world.until({"apple": [1, 2, 3, 4, 5, 6, 7, 8]})


async def test_a_slot_that_lost_its_log_is_recreated_and_nothing_is_lost(database_url: str) -> None:
    world = CdcWorld(database_url)
    async with world.process() as process:
        assert await process.deliver(counted())
        await world.until({"apple": [1]})
        process.sidecar.down = True
        assert await process.deliver(counted(number=2))
        await poll(lambda: process.service.outbox.depth == 1)
    async with await psycopg.AsyncConnection.connect(make_conninfo(database_url), autocommit=True) as admin:
        await drop_slots(admin, admin.info.dbname)
    async with world.process():
        await world.until({"apple": [1, 2]})


async def test_the_log_is_let_go_and_its_lag_is_shown(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cdc, "_CHECK", 0.05)
    world = CdcWorld(database_url)
    async with world.process() as process:
        assert await process.deliver(counted())
        await world.until({"apple": [1]})  # the slot exists: what was written before it is not behind it
        process.sidecar.down = True
        assert await process.deliver(counted(number=2))
        await ask(database_url, "create table big as select repeat('x', 1000) x from generate_series(1, 5000)")
        await poll(lambda: metrics.SLOT_LAG._value.get() > 1_000_000)
        assert 0 < metrics.SLOT_LEFT._value.get() < 80_000_000
        process.sidecar.down = False
        await world.until({"apple": [1, 2]})
        await poll(lambda: metrics.SLOT_LAG._value.get() < 1_000_000)


async def test_an_endangered_slot_is_reported_and_a_lost_one_recreated_while_the_log_stays_bounded(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server keeps 64 MB for it at most: a broker that stays away costs no more, and nothing is lost."""
    monkeypatch.setattr(cdc, "_CHECK", 0.05)
    world = CdcWorld(database_url)
    async with world.process() as process:
        with structlog.testing.capture_logs() as output:
            process.sidecar.fail("publish", times=1_000_000)
            assert await process.deliver(counted())
            await ask(database_url, "create table filling (x text)")
            while "outbox.slot_in_danger" not in {item["event"] for item in output}:
                assert metrics.SLOT_LAG._value.get() < 200_000_000
                await _write_much(database_url)
            for _ in range(30):
                await _write_much(database_url)
        process.sidecar.heal()
        assert await process.deliver(counted(number=2))
        await world.until({"apple": [1, 2]})
    ((kept,),) = await ask(database_url, "select sum(size)::bigint from pg_ls_waldir()")
    assert int(str(kept)) < 300_000_000


async def _write_much(url: str) -> None:
    await ask(url, "insert into filling select repeat(md5(random()::text), 60) from generate_series(1, 4000)")
    await ask(url, "select pg_switch_wal()")
    await ask(url, "checkpoint")
    await asyncio.sleep(0.1)


async def test_what_is_refused_is_parked_and_the_stream_goes_on(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cdc, "TRIES", 2)
    send = MemorySidecar.publish

    async def refusing(sidecar: MemorySidecar, topic: str, data: bytes, **how: object) -> None:
        if b'"total":1}' in data:
            raise PublishRefused("too large for the broker")
        await send(sidecar, topic, data)

    monkeypatch.setattr(MemorySidecar, "publish", refusing)
    world = CdcWorld(database_url)
    async with world.process() as process:
        for number in (1, 2):
            assert await process.deliver(counted(number=number))
        await world.until({"apple": [2]})
        outbox = process.service.outbox
        assert isinstance(outbox, TableOutbox)
        (parked,) = await outbox.parked()
        assert (parked.subject, parked.reason) == ("apple", "too large for the broker")
        monkeypatch.setattr(MemorySidecar, "publish", send)
        assert await outbox.unpark(parked.id) == 1
        await world.until({"apple": [2, 1]})


async def test_a_server_without_logical_decoding_is_named_at_the_start(postgres: str) -> None:
    outbox = CdcOutbox(postgres, MemorySidecar("shop"), "shop-0")

    async def never(_: object) -> None:
        raise AssertionError

    with pytest.raises(DefinitionError, match="set wal_level=logical"):
        await outbox.start(never)
    await outbox.stop(0.1)


def test_sqlite_has_no_log_to_read() -> None:
    with pytest.raises(DefinitionError, match="use TableOutbox"):
        CdcOutbox("sqlite:///shop.db", MemorySidecar("shop"), "shop-0")


async def test_who_is_silent_loses_the_stream_and_who_is_slow_keeps_it(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A suspended process says nothing; one whose broker is slow still does."""
    monkeypatch.setattr(cdc, "_SILENCE", "5s")
    monkeypatch.setattr(cdc, "_BEAT", 0.3)
    monkeypatch.setattr(cdc, "_STANDBY", 0.05)
    send = MemorySidecar.publish

    async def slow(sidecar: MemorySidecar, topic: str, data: bytes, **how: object) -> None:
        await asyncio.sleep(8.0)
        await send(sidecar, topic, data)

    world = CdcWorld(database_url)
    async with world.process("shop-0") as one, world.process("shop-1"):
        monkeypatch.setattr(MemorySidecar, "publish", slow)
        assert await one.deliver(counted())
        await world.until({"apple": [1]})
        assert len(await world.published()) == 1, "nobody took over meanwhile"
        monkeypatch.setattr(cdc, "_BEAT", 60.0)
        assert await one.deliver(counted(number=2))
        await world.until({"apple": [1, 2]})
        await poll(lambda: len(world.broker.events(TOPIC)) > 2)  # taken for dead: told again, with the same id
        await world.until({"apple": [1, 2]})
