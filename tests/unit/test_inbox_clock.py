"""A clock that is wrong by days for a while: what was handled before, meanwhile and after stays handled."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from tidings import Event, Handlers, Service, StateContext, event
from tidings.messages.envelope import Envelope
from tidings.outbox.documents import INBOX_DAYS, INBOX_KEPT, remembered
from tidings.testing import MemorySidecar

DAY = 86_400
NOW = 1_767_225_600


@event("shop.itemCounted")
class Counted(Event):
    item: str


@event("shop.itemSummed")
class Summed(Event):
    count: int


class Stock(Event):
    count: int = 0


class Shop:
    def __init__(self, sidecar: MemorySidecar | None = None) -> None:
        self.publishes = sidecar is not None
        self.now = datetime.fromtimestamp(NOW, UTC)
        self.handled = 0
        handlers = Handlers()
        handlers.on(Counted)(self.count)
        self.sidecar = sidecar or MemorySidecar("shop")
        self.service = Service("shop", handlers, sidecar=self.sidecar, clock=lambda: self.now)

    async def count(self, counted: Counted, context: StateContext) -> None:
        stock = await context.load(Stock, counted.item) or Stock()
        self.handled += 1
        context.save(counted.item, Stock(count=stock.count + 1))
        if self.publishes:
            context.publish(Summed(count=stock.count + 1))

    async def deliver(self, number: int) -> None:
        body = Envelope(
            id=f"e-{number}",
            source="test",
            type="shop.itemCounted",
            specversion="1.0",
            version="1",
            data=msgspec.Raw(b'{"item":"pie"}'),
        )
        answer = await self.service.ingress.deliver("/events/shop.itemCounted.v1", body.encode())
        assert answer == b'{"status":"SUCCESS"}'


@pytest.mark.parametrize("jump", [timedelta(days=8), timedelta(days=-8), timedelta(days=3650), timedelta(days=-3650)])
@pytest.mark.parametrize("known", [5, 250])
async def test_a_jump_empties_no_inbox(jump: timedelta, known: int) -> None:
    shop = Shop()
    await shop.service.start()
    for number in range(known):
        await shop.deliver(number)
    shop.now += jump
    for number in range(known, known + 20):
        await shop.deliver(number)
    shop.now -= jump
    for number in range(known + 20, known + 30):
        await shop.deliver(number)
    assert shop.handled == known + 30
    # Of 250 a few of the oldest may be gone: two for each event that came while the clock was ahead.
    for number in range(max(0, known - 210), known + 30):
        await shop.deliver(number)
    assert shop.handled == known + 30
    await shop.service.stop()


@pytest.mark.parametrize("ahead", [0, 8, -11_000, -21_000, 2_000_000])
@pytest.mark.parametrize("jump", [0, 9, -400])
async def test_two_replicas_whose_clocks_disagree_by_days_publish_each_fact_once(ahead: int, jump: int) -> None:
    sidecar = MemorySidecar("shop")
    replicas = [Shop(sidecar), Shop(sidecar)]
    replicas[1].now += timedelta(days=ahead)
    for replica in replicas:
        await replica.service.start()
    for first in range(0, 40, 4):
        if first == 20:
            replicas[0].now += timedelta(days=jump)
        await asyncio.gather(*(replica.deliver(number) for number in range(first, first + 4) for replica in replicas))
    for replica in replicas:
        await replica.service.stop()
    facts = Counter(fact["data"]["count"] for fact in sidecar.broker.events("shop.itemSummed.v1"))
    assert facts == Counter(range(1, 41))


def test_old_entries_go_with_time_and_the_last_hundred_stay() -> None:
    handled = {str(number): NOW - (400 - number) * DAY // 10 for number in range(400)}
    now = NOW
    for number in range(2_000):
        now += DAY // 10
        handled = {**remembered(handled, now, 1), f"new-{number}": now}
    assert len(handled) == INBOX_KEPT
    assert INBOX_KEPT > INBOX_DAYS * 10


def test_forgetting_keeps_up_with_any_mixture_of_clocks() -> None:
    chance = random.Random(7)
    handled: dict[str, int] = {}
    now = float(NOW)
    for number in range(5_000):
        now += chance.choice([60, 60, 60, 3_600, -30 * DAY, 30 * DAY])
        before = len(handled)
        handled = {**remembered(handled, now, 1), str(number): int(now)}
        assert before - 1 <= len(handled)
        newest = [str(item) for item in range(max(0, number - INBOX_KEPT + 1), number + 1)]
        assert handled.keys() >= set(newest)
