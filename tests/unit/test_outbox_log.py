"""The log outbox and the inbox on the sidecar's twin, crashed between any two steps."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from tidings import DeadLetter, Event, Handlers, Retry, RetryPolicy, Service, StateContext, command, event
from tidings.dapr import Operation, Upsert
from tidings.errors import DefinitionError, OneDocument, SidecarUnavailable, StateConflict
from tidings.messages.envelope import Envelope, new_id
from tidings.outbox import lanes
from tidings.outbox.documents import read_document
from tidings.outbox.log import LogOutbox
from tidings.testing import MemoryBroker, MemorySidecar, MemoryStore

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


@event("shop.itemCounted", subject="item")
class Counted(Event):
    item: str


@event("shop.totalChanged", subject="item")
class Changed(Event):
    item: str
    total: int


@command("shop.recount", subject="item")
class Recount(Event):
    item: str


class Total(msgspec.Struct):
    count: int = 0


async def count(message: Counted | Recount, context: StateContext) -> None:
    total = await context.load(Total, message.item) or Total()
    total.count += 1
    context.save(message.item, total)
    context.publish(Changed(item=message.item, total=total.count))


class System:
    """One app on a broker and a store that outlive its processes."""

    def __init__(self, *, atomic: bool = True) -> None:
        self.broker = MemoryBroker()
        self.store = MemoryStore(atomic=atomic)
        self.handlers = Handlers()
        self.handlers.on(Counted, Recount)(count)

    @asynccontextmanager
    async def process(
        self, instance: str = "shop-0", clock: Callable[[], float] = time.time
    ) -> AsyncIterator[tuple[Service, MemorySidecar]]:
        """Run a process that ends without shutting down."""
        sidecar = MemorySidecar("shop", self.broker, self.store)
        service = Service("shop", self.handlers, sidecar=sidecar, clock=lambda: NOW)
        outbox = service.outbox
        assert isinstance(outbox, LogOutbox)
        outbox._instance, outbox.clock = instance, clock
        await service.start()
        assert service._starting is not None
        await service._starting
        yield service, sidecar
        for task in outbox._tasks:
            task.cancel()

    def published(self) -> list[dict[str, Any]]:
        return self.broker.events("shop.totalChanged.v1")

    def totals(self) -> list[int]:
        return [item["data"]["total"] for item in self.published()]

    def slots(self) -> list[str]:
        return [key for key in list(self.store.keys()) if "outbox/" in key and not key.endswith("lanes")]

    def count(self, item: str = "apple") -> int:
        document = read_document(self.store.read(f"shop||total/{item}"))
        return msgspec.json.decode(document.value, type=Total).count


def counted(item: str = "apple", identity: str = "") -> Envelope:
    return Envelope(
        id=identity or new_id(), source="test", type="shop.itemCounted", specversion="1.0", version="1",
        data=msgspec.Raw(msgspec.json.encode({"item": item})),
    )  # fmt: skip


async def deliver(service: Service, envelope: Envelope) -> bytes:
    return await service.ingress.deliver("/events/shop.itemCounted.v1", envelope.encode())


async def until(true: Callable[[], object], seconds: float = 60.0) -> None:
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110 - what is awaited is the outcome, however it comes about
            await asyncio.sleep(0.005)


@pytest.fixture(params=[True, False], ids=["atomic", "redis-like"])
def system(request: pytest.FixtureRequest) -> System:
    return System(atomic=request.param)


async def test_commits_publishes_and_leaves_no_slot_behind(system: System) -> None:
    async with system.process() as (service, _):
        assert await deliver(service, counted()) == b'{"status":"SUCCESS"}'
        await until(lambda: system.totals() == [1] and not system.slots())
        assert system.count() == 1


async def test_a_redelivered_event_is_handled_a_single_time(system: System) -> None:
    again = counted()
    async with system.process() as (service, _), system.process("shop-1") as (other, _):
        answers = await asyncio.gather(*(deliver(item, again) for item in [service, other] * 5))
        assert set(answers) == {b'{"status":"SUCCESS"}'}
        await until(lambda: not system.slots())
    assert system.count() == 1
    assert len({item["id"] for item in system.published()}) == 1


async def test_metadata_is_carried_from_the_cause_to_the_effect(system: System) -> None:
    cause = msgspec.structs.replace(counted(), correlationid="c-1", traceparent=f"00-{'a' * 32}-{'b' * 16}-01")
    async with system.process() as (service, _):
        await deliver(service, cause)
        await until(system.published)
    (effect,) = system.published()
    assert (effect["correlationid"], effect["causationid"], effect["traceparent"]) == (
        "c-1", cause.id, cause.traceparent,
    )  # fmt: skip
    assert (effect["source"], effect["subject"], effect["version"], effect["time"]) == (
        "shop", "apple", "1", "2026-11-23T12:00:00Z",
    )  # fmt: skip


async def test_a_crash_before_the_publish_is_healed_by_the_next_start(system: System) -> None:
    async with system.process() as (service, sidecar):
        sidecar.fail("publish", times=100, error=SidecarUnavailable("broker down"))
        await deliver(service, counted())
        await asyncio.sleep(0.02)
        assert system.published() == []
    async with system.process():
        await until(lambda: system.totals() == [1] and not system.slots())


async def test_a_crash_after_the_publish_publishes_the_same_id_again(system: System) -> None:
    async with system.process() as (service, sidecar):
        sidecar.fail("publish", times=100, error=SidecarUnavailable("answer lost"), when="after")
        await deliver(service, counted())
        await until(system.published)
    async with system.process():
        await until(lambda: not system.slots())
    assert len(system.published()) >= 2
    assert len({item["id"] for item in system.published()}) == 1


async def test_another_instance_adopts_a_lane_after_its_lease(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "LEASE", 0.2)
    async with system.process("shop-0") as (service, sidecar):
        sidecar.fail("publish", times=1000, error=SidecarUnavailable("cut off"))
        await deliver(service, counted())
    async with system.process("shop-1"):
        assert system.published() == []
        await until(lambda: system.totals() == [1] and not system.slots())


async def test_a_commit_whose_answer_was_lost_is_published_all_the_same(system: System) -> None:
    async with system.process() as (service, sidecar):
        sidecar.fail("transact", times=1, error=SidecarUnavailable("answer lost"), when="after")
        again = counted()
        assert await deliver(service, again) == b'{"status":"RETRY"}'
        assert await deliver(service, again) == b'{"status":"SUCCESS"}'
        await until(lambda: system.totals() == [1] and not system.slots())


async def test_a_commit_that_never_arrived_is_tried_again_by_the_broker(system: System) -> None:
    async with system.process() as (service, sidecar):
        sidecar.fail("transact", times=1, error=SidecarUnavailable("not sent"))
        again = counted()
        assert await deliver(service, again) == b'{"status":"RETRY"}'
        assert await deliver(service, again) == b'{"status":"SUCCESS"}'
        await until(lambda: system.totals() == [1] and not system.slots())


async def test_a_conflict_runs_the_handler_again_and_publishes_nothing_of_the_first_run(system: System) -> None:
    async with system.process() as (service, _), system.process("shop-1") as (other, _):
        await asyncio.gather(*(deliver(item, counted()) for item in [service, other] * 10))
        await until(lambda: len({item["id"] for item in system.published()}) == 20 and not system.slots())
    assert system.count() == 20
    assert {item["data"]["total"] for item in system.published()} == set(range(1, 21))


async def test_a_slot_of_a_commit_that_failed_is_never_published_even_after_a_crash() -> None:
    system = System(atomic=False)
    async with system.process() as (service, sidecar):
        await deliver(service, counted())
        await until(lambda: not system.slots())
        other = MemorySidecar("shop", system.broker, system.store)

        async def overtaken(message: Counted, context: StateContext) -> None:
            await count(message, context)
            (item,) = [await other.get("total/apple")]
            assert item is not None
            await other.transact([Upsert("total/apple", item.value)])
            sidecar.fail("transact", times=1, error=BaseExceptionGroup("died", [KeyboardInterrupt()]), when="after")

        with pytest.raises((BaseExceptionGroup, StateConflict)):
            await service.execute(overtaken, Counted(item="apple"))
    async with system.process():
        await until(lambda: not system.slots())
        await asyncio.sleep(0.05)
    assert system.totals() == [1]


async def test_order_is_kept_per_document_while_the_broker_fails(system: System) -> None:
    async with system.process() as (service, sidecar):
        sidecar.fail("publish", times=6, error=SidecarUnavailable("broker down"))
        for _ in range(5):
            await deliver(service, counted())
        await until(lambda: len(system.published()) == 5)
    assert system.totals() == [1, 2, 3, 4, 5]


async def test_order_is_kept_when_another_instance_goes_on_with_a_document(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "LEASE", 0.2)
    async with system.process() as (service, sidecar):
        sidecar.fail("publish", times=1000, error=SidecarUnavailable("cut off"))
        await deliver(service, counted())
    async with system.process("shop-1") as (other, _):
        await deliver(other, counted())
        await deliver(other, counted("pear"))
        await until(lambda: len(system.published()) == 3)
    assert [item["data"] for item in system.published() if item["subject"] == "apple"] == [
        {"item": "apple", "total": 1},
        {"item": "apple", "total": 2},
    ]


async def test_delivered_slots_are_reused_longer_while_no_other_instance_waits_for_their_removal(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "LEASE", 0.2)
    monkeypatch.setattr(lanes, "_KEPT", 0.0)
    monkeypatch.setattr(lanes, "_KEPT_ALONE", 1000.0)
    async with system.process() as (service, _):
        for number in range(1, 4):
            await deliver(service, counted())
            await until(lambda number=number: len(system.published()) == number and not service.outbox.depth)  # type: ignore[misc]
        assert len(system.slots()) == 1
        async with system.process("shop-1") as (other, _):
            await deliver(other, counted())
            await until(lambda: len(system.published()) == 4)


async def test_many_units_wait_while_the_broker_is_down(system: System) -> None:
    async with system.process() as (service, sidecar):
        sidecar.fail("publish", times=10_000, error=SidecarUnavailable("broker down"))
        for number in range(lanes._FIRST_EXTENT + 50):
            await deliver(service, counted(f"item-{number}"))
        assert service.outbox.depth == lanes._FIRST_EXTENT + 50
    async with system.process():
        await until(lambda: len(system.published()) == lanes._FIRST_EXTENT + 50 and not system.slots())


async def test_a_clean_stop_leaves_the_directory_empty(system: System) -> None:
    async with system.process() as (service, _):
        await deliver(service, counted())
        await service.stop()
        directory = system.store.read("shop||outbox/lanes")
        assert directory is not None
        assert msgspec.json.decode(directory.value) == {"lanes": {}}
        assert system.slots() == []


async def test_handlers_without_a_document_are_handled_a_single_time_too(system: System) -> None:
    async def forward(message: Counted, context: StateContext) -> None:
        context.publish(Changed(item=message.item, total=7))

    system.handlers = Handlers()
    system.handlers.on(Counted)(forward)
    again = counted()
    async with system.process() as (service, _):
        for _ in range(3):
            assert await deliver(service, again) == b'{"status":"SUCCESS"}'
        await until(lambda: not system.slots())
    assert system.totals() == [7]


async def test_a_unit_of_work_saves_one_document(system: System) -> None:
    async def two(message: Counted, context: StateContext) -> None:
        for key in ("a", "b"):
            await context.load(Total, key)
            context.save(key, Total())

    async def unread(message: Counted, context: StateContext) -> None:
        context.save("a", Total())

    async with system.process() as (service, _):
        with pytest.raises(OneDocument, match="total/a is saved already, total/b cannot be"):
            await service.execute(two, Counted(item="x"))
        with pytest.raises(DefinitionError, match="load total/a before saving it"):
            await service.execute(unread, Counted(item="x"))


# -- scheduled messages -------------------------------------------------------------------------------------------


async def recount(message: Counted, context: StateContext) -> None:
    context.schedule(Recount(item=message.item))


async def test_a_scheduled_message_is_handled_a_single_time(system: System) -> None:
    async with system.process() as (service, _):
        await service.execute(recount, Counted(item="apple"))
        await until(lambda: system.totals() == [1] and not system.slots())


async def test_what_a_scheduled_message_publishes_follows_from_the_event_that_asked_for_it(system: System) -> None:
    system.handlers = Handlers()
    system.handlers.on(Counted)(recount)
    system.handlers.on(Recount)(count)
    cause = counted()
    async with system.process() as (service, _):
        await deliver(service, cause)
        await until(system.published)
    assert {item["causationid"] for item in system.published()} == {cause.id}


async def test_a_scheduled_message_survives_a_crash(system: System) -> None:
    async with system.process() as (service, sidecar):
        sidecar.fail("get", times=1000, error=SidecarUnavailable("store down"))
        await service.execute(recount, Counted(item="apple"))
        await asyncio.sleep(0.02)
    async with system.process():
        await until(lambda: system.totals() == [1] and not system.slots())


async def test_a_scheduled_message_waits_until_it_is_due(system: System) -> None:
    async def later(message: Counted, context: StateContext) -> None:
        context.schedule(Recount(item=message.item), after=timedelta(hours=1))

    async with system.process() as (service, _):
        await service.execute(later, Counted(item="apple"))
        await asyncio.sleep(0.1)
        assert system.totals() == []
    async with system.process(clock=lambda: time.time() + 3600):
        await until(lambda: system.totals() == [1])


async def test_a_scheduled_message_that_keeps_failing_is_dead_lettered(system: System) -> None:
    tries = []

    async def fail(message: Recount, context: StateContext) -> Retry | DeadLetter:
        tries.append(context.attempt)
        return Retry("not yet", after=0.001)

    system.handlers = Handlers()
    system.handlers.on(Recount, retry=RetryPolicy(max_retries=3))(fail)
    async with system.process() as (service, _):
        await service.execute(recount, Counted(item="apple"))
        await until(lambda: system.broker.events("deadletter.shop") and not system.slots())
    (letter,) = system.broker.events("deadletter.shop")
    assert tries == [1, 2, 3, 4]
    assert (letter["failurereason"], letter["failureattempts"], letter["type"]) == ("not yet", "4", "shop.recount")


# -- cancellation and stopping --------------------------------------------------------------------------------------


class Late(MemorySidecar):
    """A sidecar that carries a transaction out some time after it was asked, whether or not anybody still waits."""

    def __init__(self, system: System) -> None:
        super().__init__("shop", system.broker, system.store)
        self.asked, self.go_on = asyncio.Event(), asyncio.Event()

    async def transact(self, operations: Iterable[Operation]) -> None:
        async def later() -> None:
            self.asked.set()
            await self.go_on.wait()
            await super(Late, self).transact(expected)

        expected = list(operations)
        await asyncio.shield(asyncio.ensure_future(later()))


def replace_sidecar(service: Service, sidecar: MemorySidecar) -> None:
    outbox = service.outbox
    assert isinstance(outbox, LogOutbox)
    outbox._sidecar = sidecar


async def test_a_cancelled_commit_that_is_carried_out_later_is_published(system: System) -> None:
    """Its slot must not be used again before it is known what became of it."""
    async with system.process() as (service, sidecar):
        late = Late(system)
        replace_sidecar(service, late)
        delivery = asyncio.ensure_future(deliver(service, counted()))
        await late.asked.wait()
        delivery.cancel()
        await asyncio.wait([delivery])
        replace_sidecar(service, sidecar)
        assert await deliver(service, counted("pear")) == b'{"status":"SUCCESS"}'
        await until(system.published)
        late.go_on.set()
        await until(lambda: len(system.published()) == 2 and not system.slots())
    assert {item["subject"] for item in system.published()} == {"apple", "pear"}


async def test_a_stop_while_an_answer_is_on_its_way_leaves_the_message_to_the_next_start(system: System) -> None:
    async with system.process() as (service, _):
        late = Late(system)
        replace_sidecar(service, late)
        delivery = asyncio.ensure_future(deliver(service, counted()))
        await late.asked.wait()
        stopping = asyncio.ensure_future(service.outbox.stop(0.01))
        await asyncio.sleep(0.05)
        late.go_on.set()
        await asyncio.wait([delivery, stopping])
    assert system.published() == []
    async with system.process("shop-1"):
        await until(lambda: system.totals() == [1] and not system.slots())


async def test_nothing_is_committed_after_a_stop(system: System) -> None:
    async with system.process() as (service, _):
        await service.outbox.stop(0.0)
        assert await deliver(service, counted()) == b'{"status":"RETRY"}'
    assert system.store.read("shop||total/apple") is None


async def test_a_cancelled_wait_for_a_slot_takes_none(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "_FIRST_EXTENT", 1)
    async with system.process() as (service, sidecar):
        outbox = service.outbox
        assert isinstance(outbox, LogOutbox)
        late = Late(system)
        replace_sidecar(service, late)
        waiting = asyncio.ensure_future(outbox.take(2))
        await late.asked.wait()
        waiting.cancel()
        await asyncio.wait([waiting])
        replace_sidecar(service, sidecar)
        assert len(set(await outbox.take(1))) == 1
        assert (outbox._used, outbox._extent) == (1, 1)
        late.go_on.set()


async def test_prefetched_documents_are_read_in_one_call_and_load_finds_them():
    system, calls = System(), list[str]()

    async def move(message: Counted, context: StateContext) -> None:
        await context.prefetch((Total, "apple"), (Total, message.item), (Total, "apple"))
        for item in ("apple", message.item):
            calls.append(f"{item}: {await context.load(Total, item)}")
        context.save(message.item, Total(7))

    async with system.process() as (service, _):
        assert await deliver(service, counted("apple")) == b'{"status":"SUCCESS"}'
    system.handlers = Handlers()
    system.handlers.on(Counted)(move)
    async with system.process() as (service, sidecar):
        reads = Counter[str]()
        get, get_many = sidecar.get, sidecar.get_many
        sidecar.get = lambda key: (reads.update(["get"]), get(key))[1]  # type: ignore[method-assign]
        sidecar.get_many = lambda keys: (reads.update(["get_many"]), get_many(keys))[1]  # type: ignore[method-assign]
        assert await deliver(service, counted("pear")) == b'{"status":"SUCCESS"}'
        assert calls == ["apple: Total(count=1)", "pear: None"]
        assert reads == {"get_many": 1}
    assert system.count("pear") == 7
