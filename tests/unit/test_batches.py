"""Scheduled messages of one kind that wait are handled in one unit of work, and none of them is forgotten."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import msgspec
import pytest
from tests.conformance.support import poll

from tidings import Context, Event, Handlers, Rejected, RetryPolicy, Service, StateContext, command
from tidings.consume.batches import Batcher
from tidings.errors import DefinitionError, SidecarError
from tidings.messages.delivery import DeliveryContext
from tidings.messages.envelope import Envelope
from tidings.outbox.direct import DirectOutbox
from tidings.outcomes import Done, Outcome
from tidings.testing import MemorySidecar

handlers = Handlers()
seen: list[list[int]] = []


@command("shop.addCoin", subject="number")
class AddCoin(Event):
    number: int


class Till(Event):
    coins: tuple[int, ...] = ()


@handlers.batch(AddCoin, batch_size=50)
async def add_coins(commands: list[AddCoin], context: StateContext) -> None:
    seen.append([item.number for item in commands])
    await asyncio.sleep(0.001)  # a store that takes its time: meanwhile others come
    till = await context.load(Till, "main") or Till()
    if any(item.number < 0 for item in commands):
        raise Rejected("no coin is worth less than nothing")
    context.save("main", Till(coins=tuple(sorted({*till.coins, *(item.number for item in commands)}))))


@pytest.fixture
async def sidecar() -> MemorySidecar:
    seen.clear()
    return MemorySidecar("shop")


@pytest.fixture
async def shop(sidecar: MemorySidecar) -> AsyncIterator[Service]:
    service = Service("shop", handlers, sidecar=sidecar)
    await service.start()
    yield service
    await service.stop()


async def schedule(service: Service, *numbers: int) -> None:
    async def schedule_all(_message: object, context: StateContext) -> None:
        for number in numbers:
            context.schedule(AddCoin(number=number))

    await service.execute(schedule_all, None)


async def coins(service: Service) -> list[int]:
    """Return the content of the till once nothing is pending."""
    await poll(lambda: not service.outbox.depth)

    async def look(_message: object, context: StateContext) -> list[int]:
        till = await context.load(Till, "main")
        return list(till.coins) if till else []

    return await service.execute(look, None)


async def test_a_burst_takes_few_units_of_work_of_at_most_the_limit(shop: Service):
    await schedule(shop, *range(200))
    assert await coins(shop) == list(range(200))
    assert max(len(item) for item in seen) == 50
    assert len(seen) <= 8
    assert sorted(number for item in seen for number in item) == list(range(200))


async def test_one_alone_is_handled_immediately(shop: Service):
    await schedule(shop, 7)
    assert await coins(shop) == [7]
    assert seen == [[7]]


async def test_one_that_fails_the_batch_is_dead_lettered_alone(shop: Service, sidecar: MemorySidecar):
    await schedule(shop, 1, -1, 2)
    assert await coins(shop) == [1, 2]
    (dead,) = sidecar.broker.events("deadletter.shop")
    assert (dead["data"], dead["failurereason"]) == ({"number": -1}, "no coin is worth less than nothing")


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("skip", range(6))
async def test_a_failing_store_forgets_none(shop: Service, sidecar: MemorySidecar, skip: int, when: str):
    await schedule(shop, 0)
    sidecar.fail(skip=skip, times=2, when=when)  # type: ignore[arg-type]
    for number in range(1, 20):
        for _ in range(10):
            with contextlib.suppress(SidecarError):  # the caller of an API tries again
                await schedule(shop, number)
                break
    assert await coins(shop) == list(range(20))


async def test_what_waits_when_the_service_stops_is_handled_by_the_next(sidecar: MemorySidecar):
    first = Service("shop", handlers, sidecar=sidecar)
    await first.start()
    sidecar.fail("get", times=3)
    await schedule(first, *range(10))
    await first.stop()
    again = Service("shop", handlers, sidecar=MemorySidecar("shop", sidecar.broker, sidecar.store))
    await again.start()
    await schedule(again, 10)
    assert await coins(again) == list(range(11))
    await again.stop()


def test_the_class_must_be_a_message():
    with pytest.raises(DefinitionError, match="Till is not an event"):
        handlers.batch(Till)(add_coins)


class Counter:
    """A batch handler that waits until it is released."""

    def __init__(self) -> None:
        self.lists: list[list[int]] = []
        self.begun, self.go_on = asyncio.Event(), asyncio.Event()
        made = Handlers()
        made.batch(AddCoin, batch_size=50)(self.count)
        service = Service("shop", made, sidecar=MemorySidecar("shop"), outbox=DirectOutbox.from_settings)
        self.batcher, [self.handler] = Batcher(service._runner), made

    def attempt(self, number: int) -> asyncio.Task[Outcome]:
        return asyncio.create_task(self.batcher.attempt(self.handler, coin(number), RetryPolicy()))

    async def count(self, commands: list[AddCoin], context: Context) -> None:
        self.lists.append([item.number for item in commands])
        self.begun.set()
        await self.go_on.wait()


def coin(number: int) -> DeliveryContext:
    data = msgspec.Raw(msgspec.json.encode({"number": number}))
    return DeliveryContext("shop", Envelope(id=f"c-{number}", source="t", type="shop.addCoin", version="1", data=data))


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_when_the_first_is_cancelled_the_rest_is_handled_nevertheless() -> None:
    counter = Counter()
    first, *rest = map(counter.attempt, range(3))
    await counter.begun.wait()
    first.cancel()
    counter.go_on.set()
    assert await asyncio.gather(*rest) == [Done(), Done()]
    assert counter.lists == [[0], [1, 2]], "what was cancelled is not handled again with them"
    assert counter.batcher._queues == {}


async def test_one_that_is_cancelled_in_line_is_not_handled() -> None:
    counter = Counter()
    first, second, third = map(counter.attempt, range(3))
    await counter.begun.wait()
    await settle()
    second.cancel()
    await settle()
    again = counter.attempt(1)
    await settle()
    counter.go_on.set()
    assert [*await asyncio.gather(first, third, again)] == [Done()] * 3
    assert counter.lists == [[0], [2, 1]], "delivered again, it stands in line once"
    assert counter.batcher._queues == {}


async def test_cancelling_one_of_several_deliveries_affects_no_one_else() -> None:
    counter = Counter()
    first, second, third = map(counter.attempt, range(3))
    await counter.begun.wait()
    await settle()
    counter.begun.clear()
    counter.go_on.set()
    await first
    counter.go_on.clear()
    await counter.begun.wait()
    third.cancel()
    await settle()
    counter.go_on.set()
    assert await second == Done()
    assert counter.lists == [[0], [1, 2]]
    assert counter.batcher._queues == {}
