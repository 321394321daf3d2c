"""Scheduled messages of one kind that wait are handled in one unit of work, and none of them is forgotten."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from tidings import Event, Handlers, Rejected, Service, StateContext, command
from tidings.errors import DefinitionError, SidecarError
from tidings.testing import MemorySidecar

handlers = Handlers()
seen: list[list[int]] = []


@command("shop.addCoin", subject="number")
class AddCoin(Event):
    number: int


class Till(Event):
    coins: tuple[int, ...] = ()


@handlers.together(AddCoin, limit=50)
async def add_coins(commands: list[AddCoin], context: StateContext) -> None:
    seen.append([each.number for each in commands])
    await asyncio.sleep(0.001)  # a store that takes its time: meanwhile others come
    till = await context.load(Till, "main") or Till()
    if any(each.number < 0 for each in commands):
        raise Rejected("no coin is worth less than nothing")
    context.save("main", Till(coins=tuple(sorted({*till.coins, *(each.number for each in commands)}))))


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
    async def all_at_once(_message: object, context: StateContext) -> None:
        for number in numbers:
            context.schedule(AddCoin(number=number))

    await service.execute(all_at_once, None)


async def coins(service: Service) -> list[int]:
    """What is in the till once nothing waits any more."""
    for _ in range(2000):
        if not service.outbox.depth:
            break
        await asyncio.sleep(0.005)

    async def look(_message: object, context: StateContext) -> list[int]:
        till = await context.load(Till, "main")
        return list(till.coins) if till else []

    return await service.execute(look, None)


async def test_a_burst_takes_few_units_of_work_of_at_most_the_limit(shop: Service):
    await schedule(shop, *range(200))
    assert await coins(shop) == list(range(200))
    assert max(len(each) for each in seen) == 50
    assert len(seen) <= 8
    assert sorted(number for each in seen for number in each) == list(range(200))


async def test_one_alone_is_handled_at_once(shop: Service):
    await schedule(shop, 7)
    assert await coins(shop) == [7]
    assert seen == [[7]]


async def test_one_that_spoils_it_is_given_up_alone(shop: Service, sidecar: MemorySidecar):
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
    with pytest.raises(DefinitionError, match="Till is no event"):
        handlers.together(Till)(add_coins)
