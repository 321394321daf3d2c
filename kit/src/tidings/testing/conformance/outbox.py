"""What every way of publishing must keep: one suite over all strategies, in memory and on real programs.

    class TestMine(OutboxConformance):
        @pytest.fixture
        def world(self): return MyWorld()

A world is one app on a broker and a store that outlive its processes. Its processes die without a word, before or
after any *step*: a call of the sidecar, a statement, a commit. After its death no step of a process has an effect.
What a strategy does not promise is an attribute of its world, and the suite then shows that it is so.
"""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, ClassVar

import msgspec
import pytest
import sqlalchemy as sa
import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from tidings import Context, Event, Handlers, Service, StateContext, event
from tidings.envelope import Envelope, new_id
from tidings.errors import SidecarError, SidecarUnavailable
from tidings.outbox import lanes, table_lease
from tidings.outbox.cdc import CdcOutbox
from tidings.outbox.dapr import DaprOutbox
from tidings.outbox.direct import DirectOutbox
from tidings.outbox.port import Outbox
from tidings.outbox.table import SqlContext, TableOutbox
from tidings.settings import Settings
from tidings.sidecar import Item, Operation, Sidecar, Upsert
from tidings.testing.broker import MemoryBroker
from tidings.testing.conformance.support import poll
from tidings.testing.faults import Crash, Faults
from tidings.testing.sidecar import MemorySidecar
from tidings.testing.store import MemoryStore

TOPIC = "shop.totalChanged.v1"
PATH = "/events/shop.itemCounted.v1"
Make = Callable[[Sidecar, Settings], Outbox]


@event("shop.itemCounted", subject="item")
class Counted(Event, kw_only=True):
    """Adds one to an item's total."""

    item: str
    number: int


@event("shop.totalChanged", subject="item")
class Changed(Event, kw_only=True):
    """An item's total; with a strategy that stores nothing, the number of its cause."""

    item: str
    total: int


class Total(msgspec.Struct):
    """An item's total as a document."""

    count: int = 0


tables = sa.MetaData()
totals = sa.Table(
    "totals", tables, sa.Column("item", sa.Text, primary_key=True), sa.Column("total", sa.Integer, nullable=False)
)


async def count_document(message: Counted, context: StateContext) -> None:
    """Add one in a document."""
    total = await context.load(Total, message.item) or Total()
    total.count += 1
    context.save(message.item, total)
    context.publish(Changed(item=message.item, total=total.count))


async def count_row(message: Counted, context: SqlContext) -> None:
    """Add one in a row."""
    this = totals.c.item == message.item
    bumped = sa.update(totals).where(this).values(total=totals.c.total + 1).returning(totals.c.total)
    total = (await context.connection.execute(bumped)).scalar()
    if total is None:
        total = 1
        await context.connection.execute(sa.insert(totals).values(item=message.item, total=total))
    context.publish(Changed(item=message.item, total=total))


async def pass_on(message: Counted, context: Context) -> None:
    """Tell what came, and keep nothing."""
    context.publish(Changed(item=message.item, total=message.number))


def counted(item: str = "apple", number: int = 1) -> Envelope:
    """A cause to deliver."""
    data = msgspec.Raw(msgspec.json.encode({"item": item, "number": number}))
    names = {"source": "test", "type": "shop.itemCounted", "specversion": "1.0", "version": "1"}
    return Envelope(id=new_id(), correlationid="c", data=data, **names)


# -- processes that die -----------------------------------------------------------------------------------------------


class Failing(Faults):
    """A real sidecar whose calls fail as a test asks."""

    def __init__(self, inner: Sidecar) -> None:
        super().__init__()
        self.inner = inner

    async def publish(self, topic: str, data: bytes, *, metadata: Mapping[str, str] | None = None) -> None:
        """Publish."""
        with self.around("publish"):
            await self.inner.publish(topic, data, metadata=metadata)

    async def publish_many(self, topic: str, events: Sequence[bytes]) -> list[SidecarError | None]:
        """Publish several: one call, which fails as a whole."""
        try:
            with self.around("publish"):
                return await self.inner.publish_many(topic, events)
        except SidecarError as error:
            return [error] * len(events)

    async def get(self, key: str) -> Item | None:
        """Read."""
        with self.around("get"):
            return await self.inner.get(key)

    async def get_many(self, keys: Sequence[str]) -> dict[str, Item]:
        """Read several."""
        with self.around("get_many"):
            return await self.inner.get_many(keys)

    async def transact(self, operations: Any) -> None:
        """Write."""
        wanted: list[Operation] = list(operations)
        with self.around("transact"):
            await self.inner.transact(wanted)

    async def ready(self) -> bool:
        """Whether it answers."""
        return not self.down and await self.inner.ready()

    async def close(self) -> None:
        """Close the connection."""
        await self.inner.close()


class Process:
    """One run of the app: every task it starts is known, and every step it takes is counted."""

    current: ContextVar[Process | None] = ContextVar("process", default=None)

    def __init__(self) -> None:
        self.steps = 0
        self.dead = False
        self.tasks: set[asyncio.Future[Any]] = set()
        self._last: int | None = None
        self._failing: tuple[int, Exception] | None = None
        self.service: Service
        self.sidecar: Faults

    def dies_after(self, steps: int) -> None:
        """Let it die before (odd) or after (even) a step that is so many half steps away."""
        self._last = self.steps + steps

    def fails_after(self, steps: int) -> None:
        """Let a step fail once, before or after its effect, as if sidecar or database were away."""
        self._failing = (self.steps + steps, SidecarUnavailable("as the test asked"))

    def step(self) -> None:
        """Count half a step, from the inside."""
        if self._last is not None and self.steps >= self._last:
            self.dead = True
        if self.dead:
            raise Crash
        self.steps += 1
        if self._failing is not None and self.steps > self._failing[0]:
            error, self._failing = self._failing[1], None
            raise error

    @contextmanager
    def inside(self) -> Iterator[None]:
        """What is begun here belongs to this process."""
        token = self.current.set(self)
        try:
            yield
        finally:
            self.current.reset(token)

    async def deliver(self, envelope: Envelope) -> bool:
        """Do what a sidecar does; whether the event was acknowledged."""
        with self.inside():
            try:
                return await self.service.ingress.deliver(PATH, envelope.encode()) == b'{"status":"SUCCESS"}'
            except Crash:
                return False

    async def kill(self) -> None:
        """End it: its tasks stop where they are."""
        self.dead = True
        tasks = {task for task in self.tasks if not task.done()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def told(self) -> None:
        """Wait until everything is published."""
        await poll(lambda: self.dead or self.service.outbox.depth == 0)


def _own(loop: asyncio.AbstractEventLoop, work: Any, **how: Any) -> asyncio.Future[Any]:
    task: asyncio.Task[Any] = asyncio.Task(work, loop=loop, **how)
    process = Process.current.get()
    if process is not None:
        process.tasks.add(task)
        task.add_done_callback(process.tasks.discard)
    return task


@contextmanager
def counting_steps(patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let every call of a sidecar and every statement and commit be a step of the process that makes it."""

    def stepping(call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def step(*given: Any, **named: Any) -> Any:
            process = Process.current.get()
            if process is None:
                return await call(*given, **named)
            process.step()
            answer = await call(*given, **named)
            process.step()
            return answer

        return step

    around = Faults.around

    @contextmanager
    def stepping_around(faults: Faults, call: Any) -> Iterator[None]:
        process = Process.current.get()
        with around(faults, call):
            if process is not None:
                process.step()
            yield
            if process is not None:
                process.step()

    patch.setattr(Faults, "around", stepping_around)
    for name in ("execute", "commit"):
        patch.setattr(AsyncConnection, name, stepping(getattr(AsyncConnection, name)))
    with structlog.testing.capture_logs():  # of every death a traceback would be written
        yield


# -- worlds -----------------------------------------------------------------------------------------------------------


class World:
    """One app with the log strategy, in memory; other strategies and real programs are made from it.

    Attributes:
        accepts: What may be away while events are accepted: `broker`, `sidecar`.
        name: The service, by which its events are known.

    """

    name = "shop"
    accepts: frozenset[str] = frozenset({"broker"})

    def __init__(self, *, atomic: bool = True) -> None:
        self.broker = MemoryBroker()
        self.store = MemoryStore(atomic=atomic)
        self.handlers = Handlers()
        self.handlers.on(Counted)(self.handler())

    def handler(self) -> Callable[[Any, Any], Awaitable[None]]:
        """What is done with an event."""
        return count_document

    def outbox(self) -> Make | None:
        """The strategy; None is the log."""
        return None

    def sidecar(self) -> Any:
        """A sidecar that fails as a test asks."""
        return MemorySidecar("shop", self.broker, self.store)

    async def published(self) -> list[dict[str, Any]]:
        """What was published, repetitions included, each with its own id."""
        return self.broker.events(TOPIC)

    async def left(self) -> list[str]:
        """What the strategy keeps of messages."""
        keys = self.store.keys()
        return [key for key in keys if "outbox/" in key and not key.endswith("lanes")]

    async def bury(self, process: Process) -> None:
        """Close what a dead process had open, as its kernel would."""
        await process.service.sidecar.close()

    def hurry(self, patch: pytest.MonkeyPatch) -> None:
        """Let leases end soon."""
        patch.setattr(lanes, "LEASE", 0.4)
        patch.setattr(table_lease, "LEASE", 0.4)

    @asynccontextmanager
    async def process(self, instance: str = "shop-0") -> AsyncIterator[Process]:
        """Run a process that dies at the end."""
        loop = asyncio.get_running_loop()
        before = loop.get_task_factory()
        loop.set_task_factory(_own)
        process = Process()
        try:
            await self.start(process, instance)
            yield process
        finally:
            await process.kill()
            await self.bury(process)
            loop.set_task_factory(before)

    async def start(self, process: Process, instance: str) -> None:
        """Begin a process and wait until it is ready."""
        process.sidecar = sidecar = self.sidecar()
        settings = Settings(tidings_instance=instance, tidings_drain=5.0)
        process.service = Service(
            self.name, self.handlers, sidecar=sidecar, settings=settings, outbox=self.outbox(), **self.surroundings()
        )
        with process.inside():
            await process.service.start()
        starting = process.service._starting  # noqa: SLF001 - deliveries come only after
        await asyncio.wait([starting] if starting else [])

    def surroundings(self) -> dict[str, Any]:
        """What else the service is given."""
        return {}

    async def effects(self) -> dict[str, list[int]]:
        """The totals of each item as a consumer sees them that handles each id once."""
        seen: dict[str, dict[str, int]] = {}
        for each in await self.published():
            known = seen.setdefault(each["subject"], {})
            assert known.setdefault(each["id"], each["data"]["total"]) == each["data"]["total"], "one id, one fact"
        return {item: list(found.values()) for item, found in seen.items()}

    async def until(self, expected: Mapping[str, list[int]]) -> None:
        """Wait until a consumer sees these totals, and no others."""
        for _ in range(2000):
            found = await self.effects()
            if found == expected:
                return
            await asyncio.sleep(0.01)
        assert found == expected

    async def until_nothing_is_left(self) -> None:
        """Wait until the strategy keeps nothing any more."""
        for _ in range(1000):
            if not (left := await self.left()):
                return
            await asyncio.sleep(0.01)
        assert not left


class TableWorld(World):
    """The table strategy on a database."""

    accepts = frozenset({"broker", "sidecar"})

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url

    def handler(self) -> Callable[[Any, Any], Awaitable[None]]:
        """Count in a row."""
        return count_row

    def outbox(self) -> Make:
        """The table strategy."""
        return TableOutbox.on(self.url, tables=tables)

    async def left(self) -> list[str]:
        """The rows that wait."""
        asking = TableOutbox(self.url, MemorySidecar("asking"), "asking")
        try:
            async with asking.database.connect(write=False) as connection:
                rows = await connection.execute(sa.text("select subject from tidings_outbox"))
                return [str(row[0]) for row in rows]
        finally:
            await asking.database.close()

    async def bury(self, process: Process) -> None:
        """Let the server notice that its client has gone."""
        await super().bury(process)
        outbox = process.service.outbox
        assert isinstance(outbox, TableOutbox)
        await outbox.database.close()


class CdcWorld(TableWorld):
    """The cdc strategy on a PostgreSQL with `wal_level=logical`."""

    def outbox(self) -> Make:
        """The cdc strategy."""
        return CdcOutbox.on(self.url, tables=tables)


class OutboxTwin(MemorySidecar):
    """Dapr's outbox in memory: it publishes internally first, then commits, then tells what was committed."""

    topic = TOPIC

    async def transact(self, operations: Iterable[Operation]) -> None:
        """Write, and publish every upsert, or the projection that stands in its place."""
        wanted = list(operations)
        upserts = [each for each in wanted if isinstance(each, Upsert)]
        shown = {each.key: each.value for each in upserts if "outbox.projection" in (each.metadata or {})}
        real = [each for each in upserts if "outbox.projection" not in (each.metadata or {})]
        with self.around("publish"):
            internal = [
                {
                    "specversion": "1.0",
                    **(each.metadata or {}),
                    "data": msgspec.Raw(shown.get(each.key, each.value)),
                    "id": f"outbox-{uuid.uuid4()}",
                }
                for each in real
            ]
        with self.around("transact"):
            self.store.transact([replace(each, key=self._owned(each.key), metadata=None) for each in real])
            for each in internal:
                self.broker.publish(self.topic, msgspec.json.encode(each))


class DaprWorld(World):
    """Dapr's own outbox, in memory."""

    accepts = frozenset()

    def outbox(self) -> Make:
        """The dapr strategy."""
        return lambda sidecar, _: DaprOutbox(sidecar, {TOPIC: sidecar})

    def sidecar(self) -> Any:
        """A sidecar with the runtime's outbox."""
        return OutboxTwin("shop", self.broker, self.store)

    async def published(self) -> list[dict[str, Any]]:
        """What was published, under the ids that the kit's ingress reads."""
        return [{**each, "id": each["eventid"]} for each in self.broker.events(TOPIC)]


class DirectWorld(World):
    """The direct strategy: nothing is stored."""

    accepts = frozenset()

    def handler(self) -> Callable[[Any, Any], Awaitable[None]]:
        """Tell what came."""
        return pass_on

    def outbox(self) -> Make:
        """The direct strategy, whose breaker opens and closes quickly."""

        def make(sidecar: Sidecar, _: Settings) -> DirectOutbox:
            return DirectOutbox(sidecar, deadline=5.0, attempts=2, failures=4, pause=0.02)

        return make


# -- the suite --------------------------------------------------------------------------------------------------------


class OutboxConformance:
    """What is committed is told: once in effect, in order, with one id, whatever fails."""

    pytestmark: ClassVar = [
        pytest.mark.asyncio,
        # The dead return no connections; the collector finds them.
        pytest.mark.filterwarnings("ignore:The garbage collector is trying to clean up:sqlalchemy.exc.SAWarning"),
    ]

    @pytest.fixture(autouse=True)
    def _steps(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        with counting_steps(monkeypatch):
            yield

    async def test_a_fact_is_told_with_the_metadata_of_its_cause_and_nothing_is_left(self, world: World) -> None:
        async with world.process() as process:
            cause = counted()
            assert await process.deliver(cause)
            await world.until({"apple": [1]})
            await process.told()
            (told, *_) = await world.published()
            assert (told["causationid"], told["correlationid"], told["type"]) == (cause.id, "c", "shop.totalChanged")
            assert (told["source"], told["subject"], told["version"]) == (world.name, "apple", "1")
            await world.until_nothing_is_left()

    async def test_a_cause_that_comes_again_has_no_second_effect(self, world: World) -> None:
        cause = counted()
        async with world.process("shop-0") as one, world.process("shop-1") as other:
            for process in [one, other] * 2:
                assert await process.deliver(cause)
            await world.until({"apple": [1]})
            assert await one.deliver(counted(number=2))
            await world.until({"apple": [1, 2]})

    async def test_the_facts_of_one_item_are_told_in_order(self, world: World) -> None:
        async with world.process() as process:

            async def count(item: str) -> None:
                for number in range(1, 6):
                    assert await process.deliver(counted(item, number))

            await asyncio.gather(*(count(f"item-{number}") for number in range(3)))
            await world.until({f"item-{number}": [1, 2, 3, 4, 5] for number in range(3)})

    async def test_while_the_broker_is_away_events_are_kept_or_refused_and_none_is_lost(self, world: World) -> None:
        causes = [counted(number=number) for number in (1, 2, 3)]
        async with world.process() as process:
            with self.away(process):
                accepted = [await process.deliver(cause) for cause in causes]
                assert accepted == ["broker" in world.accepts] * 3
                assert (process.service.outbox.depth > 0) == ("broker" in world.accepts)
                assert await world.effects() == {}
            await self.bring(process, causes)
            await world.until({"apple": [1, 2, 3]})
            await process.told()

    async def test_while_the_sidecar_is_away_events_are_kept_or_refused_and_none_is_lost(self, world: World) -> None:
        causes = [counted(number=number) for number in (1, 2, 3)]
        async with world.process() as process:
            process.sidecar.down = True
            assert [await process.deliver(cause) for cause in causes] == ["sidecar" in world.accepts] * 3
            process.sidecar.down = False
            await self.bring(process, causes)
            await world.until({"apple": [1, 2, 3]})

    async def test_any_call_may_fail_or_its_answer_be_lost(self, world: World) -> None:
        async with world.process() as process:
            for number in itertools.count():
                before, causes = process.steps, [counted(f"item-{number}", each) for each in (1, 2)]
                process.fails_after(number)
                await self.bring(process, causes)
                await process.told()
                if process.steps - before <= number:
                    break
            await world.until({f"item-{each}": [1, 2] for each in range(number + 1)})
        assert number >= 2, "steps that can fail"

    async def test_a_process_may_die_before_and_after_any_step(self, world: World) -> None:
        expected: dict[str, list[int]] = {}
        for number in itertools.count():
            causes = [counted(f"item-{number}", each) for each in (1, 2)]
            async with world.process() as process:
                process.dies_after(number)
                for cause in causes:
                    await process.deliver(cause)
                await process.told()
                died = process.dead
            expected[f"item-{number}"] = [1, 2]
            async with world.process() as process:  # what was not acknowledged is brought again; what was, may be
                await self.bring(process, causes)
                await world.until(expected)
                await world.until_nothing_is_left()
            if not died:
                break
        assert number >= 4, "steps that a process can die at"

    async def test_what_a_dead_instance_left_is_told_by_another(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        world.hurry(monkeypatch)
        cause = counted()
        async with world.process("shop-0") as process:
            with self.away(process):
                accepted = await process.deliver(cause)
                await process.kill()
        async with world.process("shop-1") as process:
            if not accepted:
                assert await process.deliver(cause)
            await world.until({"apple": [1]})
            assert await process.deliver(counted(number=2))
            await world.until({"apple": [1, 2]})

    async def test_a_stop_tells_what_waits(self, world: World) -> None:
        async with world.process() as process:
            for number in (1, 2, 3):
                assert await process.deliver(counted(number=number))
            with process.inside():
                await process.service.stop()
            await world.until({"apple": [1, 2, 3]})
            assert process.service.outbox.depth == 0

    async def test_a_stop_that_cannot_tell_ends_all_the_same_and_the_next_start_tells(self, world: World) -> None:
        cause = counted()
        async with world.process() as process:
            process.service.settings.__dict__["tidings_drain"] = 0.05
            with self.away(process):
                accepted = await process.deliver(cause)
                with process.inside():
                    await asyncio.wait_for(process.service.stop(), 5)
        async with world.process() as process:
            if not accepted:
                assert await process.deliver(cause)
            await world.until({"apple": [1]})

    @contextmanager
    def away(self, process: Process) -> Iterator[None]:
        """Let the broker be away for as long as the context lasts."""
        process.sidecar.fail("publish", times=1_000_000)
        yield
        process.sidecar._faults.clear()  # noqa: SLF001 - all of them

    async def bring(self, process: Process, causes: Sequence[Envelope]) -> None:
        """Deliver as a broker does: in order, each until it is acknowledged."""
        for cause in causes:
            for _ in range(50):
                if await process.deliver(cause):
                    break
                await asyncio.sleep(0.01)
            else:
                pytest.fail(f"{cause.data!r} is never acknowledged")
