"""Conformance tests of a relational outbox: one suite for SQLite and PostgreSQL.

    class TestOnMyDatabase(TableConformance):
        @pytest.fixture
        def database_url(self): ...

Every process of the suite dies without a word: its tasks end, its connections break, nothing is said to anybody.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection
from tests.conformance.shop import Changed, bump, tables, totals
from tests.conformance.support import PATIENCE, poll

from tidings import Drop, Event, Handlers, Retry, Service, command, event
from tidings.errors import PublishRefused, SidecarUnavailable
from tidings.messages.envelope import Envelope, new_id
from tidings.outbox import sql, table_lease, table_relay, table_schema
from tidings.outbox.table import SqlContext, TableOutbox
from tidings.settings import Settings
from tidings.testing import Crash, MemoryBroker, MemorySidecar

NO_EVENTS = ["an apple", "[1]", '{"subject": []}', '{"data":' + "[" * 9_000 + "]" * 9_000 + "}"]
_notes = sa.Table("notes", sa.MetaData(), sa.Column("n", sa.Integer, primary_key=True), sa.Column("text", sa.Text))
_DONE, _RETRY = b'{"status":"SUCCESS"}', b'{"status":"RETRY"}'


@event("shop.itemCounted", subject="item")
class Counted(Event, kw_only=True):
    """Adds one to an item's total; `slow` in seconds."""

    item: str
    slow: float = 0.0


@command("shop.recount", subject="item")
class Recount(Event, kw_only=True):
    """Counts an item later."""

    item: str


async def count(message: Counted | Recount, context: SqlContext) -> None:
    """Add one to a total and publish it."""
    total = await bump(message.item, context)
    await asyncio.sleep(getattr(message, "slow", 0.0))
    context.publish(Changed(item=message.item, total=total))


async def postpone(message: Counted, context: SqlContext) -> None:
    """Schedule the count."""
    context.schedule(Recount(item=message.item), after=timedelta(seconds=message.slow))


class Shop:
    """One app on a broker and a database that outlive its processes."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.broker = MemoryBroker()
        self.handlers = Handlers()
        self.handlers.on(Counted, Recount)(count)

    @asynccontextmanager
    async def process(self, instance: str = "shop-0") -> AsyncIterator[tuple[Service, MemorySidecar]]:
        """Run a process that dies at the end."""
        sidecar = MemorySidecar("shop", self.broker)
        settings = Settings(tidings_instance=instance)
        outbox = TableOutbox.on(self.url, tables=tables)
        service = Service("shop", self.handlers, sidecar=sidecar, settings=settings, outbox=outbox)
        await service.start()
        try:
            assert service._starting is not None
            await service._starting
            yield service, sidecar
        finally:
            await _die(service)

    async def query(self, statement: sa.Executable) -> list[Any]:
        """Ask the database."""
        outbox = TableOutbox(self.url, MemorySidecar("shop"), "asking")
        try:
            async with outbox.database.connect() as connection:
                answer = [tuple(row) for row in await connection.execute(statement)]
                await connection.commit()
                return answer
        finally:
            await outbox.database.close()

    async def rows(self, table: sa.Table) -> int:
        """Return the number of rows of a table."""
        ((result,),) = await self.query(sa.select(sa.func.count()).select_from(table))
        return int(result)

    async def totals(self) -> dict[str, int]:
        """Return the stored totals."""
        return dict(await self.query(sa.select(totals)))

    def published(self) -> list[dict[str, Any]]:
        """Return all published events, including duplicates."""
        return self.broker.events("shop.totalChanged.v1")

    def published_all(self, item: str = "apple") -> list[int]:
        """Return the totals of an item as a consumer sees them that handles each id once."""
        effects = {entry["id"]: entry["data"]["total"] for entry in self.published() if entry["subject"] == item}
        return list(effects.values())

    def is_published(self, totals: dict[str, list[int]]) -> bool:
        """Wait until a consumer has these totals; return True on success."""
        return all(self.published_all(item) == expected for item, expected in totals.items())


async def _die(service: Service) -> None:
    outbox = service.outbox
    assert isinstance(outbox, TableOutbox)
    tasks = [*outbox._tasks, *outbox._schedules._handling, *([service._starting] if service._starting else [])]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await outbox.database.close()


async def _dies_after(number: int, causes: list[Envelope], service: Service, steps: _Steps) -> bool:
    """Return True if a process that handles the causes and publishes dies within the given number of steps."""
    with steps.dying_after(number):
        try:
            for cause in causes:
                await deliver(service, cause)
            await poll(lambda: steps.dead or not service.outbox.depth)
        except Crash:
            pass
        await _die(service)
    return steps.dead


def counted(item: str = "apple", *, slow: float = 0.0) -> Envelope:
    """Return an event to deliver."""
    data = msgspec.Raw(msgspec.json.encode({"item": item, "slow": slow}))
    return Envelope(id=new_id(), source="test", type="shop.itemCounted", specversion="1.0", version="1", data=data)


async def deliver(service: Service, envelope: Envelope) -> bytes:
    """Do what a sidecar does."""
    return await service.ingress.deliver("/events/shop.itemCounted.v1", envelope.encode())


async def published(service: Service) -> None:
    """Wait until the outbox is empty."""
    await poll(lambda: service.outbox.depth == 0)


class _Steps:
    """Lets a process die before or after its n-th step: a statement, a commit, a publish."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left: float = float("inf")
        self.dead = False
        for name in ("execute", "commit"):
            monkeypatch.setattr(AsyncConnection, name, self._stepping(getattr(AsyncConnection, name)))
        monkeypatch.setattr(sql, "through_driver", self._stepping(sql.through_driver))
        monkeypatch.setattr(MemorySidecar, "publish", self._stepping(MemorySidecar.publish))

    def _stepping(self, call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def step(*provided: Any, **named: Any) -> Any:
            self._die_here()
            answer = await call(*provided, **named)
            self._die_here()
            return answer

        return step

    def _die_here(self) -> None:
        self.left -= 1
        if self.left < 0:
            self.dead = True
            raise Crash

    @contextmanager
    def dying_after(self, steps: int) -> Iterator[None]:
        """Count down."""
        self.left, self.dead = steps, False
        yield
        self.left = float("inf")


class TableConformance:
    """Units of work, publishing, scheduling and what crashes make of them."""

    pytestmark = pytest.mark.asyncio

    @pytest.fixture
    def shop(self, database_url: str) -> Shop:
        """Run one app on the database that the suite's subclass provides."""
        return Shop(database_url)

    # -- units of work ----------------------------------------------------------------------------------------------

    async def test_writes_and_messages_are_committed_together_and_no_row_is_left(self, shop: Shop) -> None:
        async with shop.process() as (service, _):
            cause = counted()
            assert await deliver(service, cause) == _DONE
            await published(service)
        assert (await shop.totals(), shop.published_all()) == ({"apple": 1}, [1])
        assert await shop.rows(table_schema.outbox) == 0
        assert shop.published()[0]["causationid"] == cause.id

    async def test_rows_sent_with_the_commit_are_atomic_with_it(self, database_url: str) -> None:
        text = "it's 100% -- '$1'; \\ %(n)s"
        database = sql.Database(database_url)
        await database.create(_notes.metadata)
        async with database.connect() as connection:
            await connection.execute(sa.insert(_notes).values(n=1, text="with the others"))
            await sql.commit_with(connection, {_notes: [{"n": n, "text": text} for n in (2, 3)]})
        async with database.connect() as connection:
            await connection.execute(sa.insert(_notes).values(n=4, text="rolled back"))
            with pytest.raises(sa.exc.IntegrityError):
                await sql.commit_with(connection, {_notes: [{"n": n, "text": "there already"} for n in (5, 3)]})
        async with database.connect() as connection:
            await sql.commit_with(connection, {_notes: [{"n": 6, "text": text}]})
        async with database.connect() as connection:
            await connection.execute(sa.insert(_notes).values(n=7, text="nothing was left behind"))
            await sql.commit_with(connection, {})
        async with database.connect(write=False) as connection:
            result = {row.n: row.text for row in await connection.execute(sa.select(_notes))}
        await database.close()
        assert sorted(result) == [1, 2, 3, 6, 7]
        assert result[2] == result[3] == result[6] == text

    async def test_an_event_is_handled_a_single_time_despite_redelivery(self, shop: Shop) -> None:
        again = counted(slow=0.05)
        async with shop.process("shop-0") as (service, _), shop.process("shop-1") as (other, _):
            answers = await asyncio.gather(*(deliver(item, again) for item in [service, other] * 4))
            assert set(answers) == {_DONE}
            await published(service)
            await published(other)
        assert (await shop.totals(), shop.published_all()) == ({"apple": 1}, [1])

    async def test_a_handler_that_fails_or_declines_leaves_nothing_behind(self, shop: Shop) -> None:
        outcomes: list[object] = [ValueError("no"), Retry("later"), Drop("unwanted"), None]

        async def moody(message: Counted, context: SqlContext) -> object:
            await count(message, context)
            outcome = outcomes.pop(0)
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        shop.handlers = Handlers()
        shop.handlers.on(Counted)(moody)
        async with shop.process() as (service, _):
            service.ingress.delayed.enabled = False  # here each attempt is a delivery
            again = counted()
            answers = [await deliver(service, again) for _ in range(4)]
            await published(service)
        assert answers == [_RETRY, _RETRY, _DONE, _DONE]
        assert (await shop.totals(), shop.published_all()) == ({"apple": 1}, [1])

    async def test_requests_are_units_of_work_too(self, shop: Shop) -> None:
        async with shop.process() as (service, _):
            for _ in range(2):
                await service.execute(count, Counted(item="pear"), correlation_id="c-1")
            await published(service)
        assert shop.published_all("pear") == [1, 2]
        assert {item["correlationid"] for item in shop.published()} == {"c-1"}

    async def test_units_of_work_side_by_side_lose_nothing(self, shop: Shop) -> None:
        async with shop.process("shop-0") as (service, _), shop.process("shop-1") as (other, _):
            await deliver(service, counted())
            await asyncio.gather(*(deliver(item, counted()) for item in [service, other] * 8))
            await published(service)
            await published(other)
        assert await shop.totals() == {"apple": 17}
        assert shop.published_all() == list(range(1, 18)), "in the order of the commits, across two replicas"

    # -- what fails -------------------------------------------------------------------------------------------------

    async def test_events_wait_while_the_broker_is_down_and_go_in_order_after(self, shop: Shop) -> None:
        async with shop.process() as (service, sidecar):
            sidecar.fail("publish", times=1_000_000, error=SidecarUnavailable("broker down"))
            for number in range(30):
                await deliver(service, counted(f"item-{number % 3}"))
            assert service.outbox.depth == 30
            sidecar.heal()
            await published(service)
        assert [shop.published_all(f"item-{number}") for number in range(3)] == [list(range(1, 11))] * 3
        assert await shop.rows(table_schema.parked) == 0

    async def test_an_answer_that_was_lost_is_published_again_with_the_same_id(self, shop: Shop) -> None:
        async with shop.process() as (service, sidecar):
            sidecar.fail("publish", error=SidecarUnavailable("answer lost"), when="after")
            await deliver(service, counted())
            await published(service)
        assert len(shop.published()) == 2
        assert shop.published_all() == [1]

    async def test_a_dead_instances_lane_is_adopted_immediately_by_its_next_start(self, shop: Shop) -> None:
        async with shop.process() as (service, sidecar):
            sidecar.down = True
            await deliver(service, counted())
        assert shop.published() == []
        async with shop.process() as (service, _):
            await poll(lambda: shop.published_all() == [1])

    async def test_a_silent_instances_lane_is_adopted_after_its_lease(
        self, shop: Shop, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(table_lease, "LEASE", 0.4)
        async with shop.process("shop-0") as (service, sidecar):
            sidecar.down = True
            for number in range(3):
                await deliver(service, counted(f"item-{number}"))
        async with shop.process("shop-1"):
            await poll(lambda: len(shop.published()) == 3)

    async def test_another_instance_waits_for_earlier_events_of_the_same_subject(
        self, shop: Shop, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(table_lease, "LEASE", 0.4)
        async with shop.process("shop-0") as (service, sidecar):
            sidecar.down = True
            await deliver(service, counted())
        async with shop.process("shop-1") as (other, _):
            await deliver(other, counted())
            await deliver(other, counted("pear"))
            await poll(lambda: shop.published_all("pear") == [1])
            await poll(lambda: shop.published_all() == [1, 2])

    async def test_an_instance_that_slept_past_its_lease_goes_on_in_a_new_lane(self, shop: Shop) -> None:
        async with shop.process("shop-0") as (sleeper, sidecar):
            sidecar.down = True
            await deliver(sleeper, counted())
            await shop.query(sa.update(table_schema.lanes).values(until=0.0).returning(table_schema.lanes.c.lane))
            async with shop.process("shop-1"):
                await poll(lambda: shop.published_all() == [1])
                outbox = sleeper.outbox
                assert isinstance(outbox, TableOutbox)
                before, outbox._lease._until = outbox._lease.lane, 0.0
                sidecar.down = False
                await deliver(sleeper, counted())
                await poll(lambda: shop.published_all() == [1, 2])
                await poll(lambda: outbox._lease.lane != before)  # the other may have published the second, too
        assert len(await shop.query(sa.select(table_schema.lanes.c.lane))) == 3

    async def test_a_refused_event_holds_up_its_subject_only_and_is_parked_at_last(
        self, shop: Shop, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(table_relay, "TRIES", 3)
        refuse = MemorySidecar.publish

        async def refusing(sidecar: MemorySidecar, topic: str, data: bytes, **how: Any) -> None:
            if b'"item":"apple","total":1}' in data:
                raise PublishRefused("too large for the broker")
            await refuse(sidecar, topic, data, **how)

        monkeypatch.setattr(MemorySidecar, "publish", refusing)
        async with shop.process() as (service, _):
            outbox = service.outbox
            assert isinstance(outbox, TableOutbox)
            for item in ("apple", "apple", "pear"):
                await deliver(service, counted(item))
            await poll(lambda: shop.published_all("pear") == [1])
            assert shop.published_all("apple") == []
            await published(service)
            (parked,) = await outbox.parked()
            assert (parked.subject, parked.attempts, parked.reason) == ("apple", 3, "too large for the broker")
            assert shop.published_all("apple") == [2]
            monkeypatch.setattr(MemorySidecar, "publish", refuse)
            assert await outbox.unpark(parked.id) == 1
            await published(service)
            assert shop.published_all("apple") == [2, 1]
            assert await outbox.parked() == []

    @pytest.mark.parametrize("event", NO_EVENTS, ids=["text", "list", "a list as subject", "deep"])
    async def test_what_is_no_event_is_parked_and_the_others_go(
        self, shop: Shop, monkeypatch: pytest.MonkeyPatch, event: str
    ) -> None:
        """Whatever another program left in the table."""
        monkeypatch.setattr(table_relay, "TRIES", 2)
        async with shop.process() as (service, _):
            outbox = service.outbox
            assert isinstance(outbox, TableOutbox)
            row = {"lane": outbox._lease.lane, "subject": "odd", "topic": "a.b.v1", "event": event, "written": 0.0}
            await shop.query(sa.insert(table_schema.outbox).values(row).returning(table_schema.outbox.c.id))
        async with shop.process() as (service, _):
            outbox = service.outbox
            assert isinstance(outbox, TableOutbox)
            for item in ("apple", "pear", "apple"):
                await deliver(service, counted(item))
            async with asyncio.timeout(PATIENCE):
                while not await outbox.parked():  # noqa: ASYNC110 - only the table holds it
                    await asyncio.sleep(0.01)
            await published(service)
            (parked,) = await outbox.parked()
            assert (parked.subject, "only structured CloudEvents" in parked.reason) == ("odd", True)
        assert [shop.published_all("apple"), shop.published_all("pear")] == [[1, 2], [1]]

    async def test_a_process_may_die_between_any_two_steps(self, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
        steps, causes = _Steps(monkeypatch), list[Envelope]()
        for number in itertools.count():
            async with shop.process() as (service, _):
                for cause in causes:  # what was not acknowledged is brought again; what was, may be
                    assert await deliver(service, cause) == _DONE
                await poll(partial(shop.is_published, {f"item-{number - 1}": [1, 2] for _ in causes}))
                causes = [counted(f"item-{number}") for _ in range(2)]
                if not await _dies_after(number, causes, service, steps):
                    break
        assert number > 20, "steps that a process can die at"
        assert set((await shop.totals()).values()) == {2}
        assert (await shop.rows(table_schema.outbox), await shop.rows(table_schema.parked)) == (0, 0)

    # -- scheduled messages -----------------------------------------------------------------------------------------

    async def test_a_scheduled_message_is_handled_when_it_is_due(self, shop: Shop) -> None:
        async with shop.process() as (service, _):
            began = time.monotonic()
            await service.execute(postpone, Counted(item="apple", slow=3600.0))
            await service.execute(postpone, Counted(item="plum", slow=0.3))
            await service.execute(postpone, Counted(item="pear"))
            await poll(lambda: shop.is_published({"plum": [1], "pear": [1]}))
            assert time.monotonic() - began > 0.3
            async with asyncio.timeout(PATIENCE):
                while await shop.rows(table_schema.scheduled) > 1:  # noqa: ASYNC110 - the database does not call
                    await asyncio.sleep(0.01)
            assert shop.published_all("apple") == []

    async def test_a_scheduled_message_survives_the_death_of_its_handler(self, shop: Shop) -> None:
        dying = True

        async def mortal(message: Recount, context: SqlContext) -> None:
            await count(message, context)
            if dying:
                await asyncio.sleep(60)

        shop.handlers = Handlers()
        shop.handlers.on(Recount)(mortal)
        async with shop.process() as (service, _):
            await service.execute(postpone, Counted(item="apple"))
            await poll(lambda: service.outbox.depth == 1)
        dying = False
        async with shop.process() as (service, _):
            await poll(lambda: shop.published_all() == [1])

    # -- housekeeping -----------------------------------------------------------------------------------------------

    async def test_the_inbox_forgets_after_seven_days_two_old_entries_for_every_new_one(
        self, shop: Shop, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(table_lease, "_CHUNK", 3)
        monkeypatch.setattr(table_lease, "_LAST", 1)
        long_ago = datetime.now(UTC).timestamp() - 7 * 86_400
        async with shop.process() as (service, _):
            old = [{"subscription": "s", "event": str(number), "handled_at": long_ago - 1} for number in range(5)]
            kept = {"subscription": "s", "event": "young", "handled_at": long_ago + 60}
            inbox = table_schema.inbox
            await shop.query(sa.insert(inbox).values([*old, kept]).returning(inbox.c.event))
            outbox = service.outbox
            assert isinstance(outbox, TableOutbox)
            await outbox._lease.prune_inbox()
            assert await shop.rows(inbox) == 6
            await deliver(service, counted())
            await outbox._lease.prune_inbox()
            assert await shop.rows(inbox) == 5
            await deliver(service, counted())
            await deliver(service, counted())
            await outbox._lease.prune_inbox()
            assert await shop.rows(inbox) == 4

    async def test_a_clock_that_jumps_by_days_empties_no_inbox(self, shop: Shop) -> None:
        causes = [counted() for _ in range(6)]
        async with shop.process() as (service, _):
            outbox = service.outbox
            assert isinstance(outbox, TableOutbox)
            for cause in causes:
                await deliver(service, cause)
            outbox._lease._clock = lambda: time.time() + 30 * 86_400
            await outbox._lease.prune_inbox()
            outbox._lease._clock = time.time
            for cause in causes:
                await deliver(service, cause)
            await poll(lambda: shop.published_all() == [1, 2, 3, 4, 5, 6])

    async def test_a_clean_stop_publishes_first_and_lets_the_rest_in_immediately(self, shop: Shop) -> None:
        async with shop.process("shop-0") as (service, _):
            for _ in range(5):
                await deliver(service, counted())
            await service.stop()
            assert shop.published_all() == [1, 2, 3, 4, 5]
        async with shop.process("shop-1") as (service, sidecar):
            sidecar.down = True
            await deliver(service, counted())
            service.settings.__dict__["tidings_drain"] = 0.05
            await service.stop()
        async with shop.process("shop-2"):
            await poll(lambda: shop.published_all() == [1, 2, 3, 4, 5, 6])
