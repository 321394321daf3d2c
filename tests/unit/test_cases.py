"""Events that caused faults, each with its correct outcome; their files are the corpus of the fuzz tests."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest
from tests.fuzz.mutating import CORPUS

from orders.handlers import handlers as menu_handlers
from tidings import Event, Handlers, Service, StateContext, event
from tidings.consume.policy import Policy, SubscriptionPolicy
from tidings.testing import MemorySidecar

SUCCESS = b'{"status":"SUCCESS"}'


def bodies(name: str) -> list[bytes]:
    raw = (CORPUS / f"{name}.json").read_bytes()
    return [json.dumps(load).encode() for load in json.loads(raw)] if raw.startswith(b"[") else [raw]


@event("kitchen.pizzaBoxed", subject="order_id")
class Boxed(Event):
    order_id: str
    boxed_at: datetime | None = None


@event("kitchen.pizzaPrepared")
class Prepared(Event):
    order_id: str


@event("kitchen.preparationStopped")
class Stopped(Event):
    order_id: str


@event("kitchen.ingredientRanOut")
class RanOut(Event):
    ingredient: str


@event("staff.memberClockedOut")
class ClockedOut(Event):
    pass


@event("orders.orderCancelled")
class Cancelled(Event):
    order_id: str


class Kept(Event):
    times: int = 0


class Shop:
    def __init__(self) -> None:
        self.handled: list[Any] = []
        self.sidecar = MemorySidecar("shop")
        handlers = Handlers()
        handlers.on(Boxed, Prepared, Stopped, RanOut, ClockedOut, Cancelled)(self.handle)
        self.service = Service("shop", [*handlers, *menu_handlers], sidecar=self.sidecar)

    async def handle(self, message: Any, context: StateContext) -> None:
        key = getattr(message, "order_id", "one")
        kept = await context.load(Kept, key) or Kept()
        context.save(key, Kept(times=kept.times + 1))
        assert context.time.tzinfo is not None
        self.handled.append(message)

    async def deliver(self, body: bytes) -> None:
        kind = body.partition(b'"type": "')[2].partition(b'"')[0].decode()
        assert await self.service.ingress.deliver(f"/events/{kind}.v1", body) == SUCCESS

    @property
    def letters(self) -> list[dict[str, Any]]:
        return self.sidecar.broker.events("deadletter.shop")


@pytest.mark.parametrize(
    "name",
    [
        "data_base64-json", "integer-version", "null-subject", "order-id-double-pipe", "same-id-two-sources",
        "time-leap-second", "traceid-number",
    ],
)  # fmt: skip
async def test_what_is_valid_is_handled_a_single_time(name: str) -> None:
    shop, events = Shop(), bodies(name)
    await shop.service.start()
    for body in events * 2:
        await shop.deliver(body)
    assert (len(shop.handled), shop.letters) == (len(events), [])
    await shop.service.stop()


@pytest.mark.parametrize(
    ("name", "reason", "kind"),
    [
        ("version-5000-digits", "version must be 1 to 9999", "staff.memberClockedOut"),
        ("deep-nesting-1200", "nested deeper than 128 levels", "kitchen.ingredientRanOut"),
        ("naive-time", "time must be RFC 3339 with a zone", "kitchen.pizzaBoxed"),
        ("price-from-2999", "which is in the future", "menu.priceChanged"),
    ],
)
async def test_what_is_not_is_one_dead_letter_with_its_reason(name: str, reason: str, kind: str) -> None:
    shop, [body] = Shop(), bodies(name)
    await shop.service.start()
    await shop.deliver(body)
    [letter] = shop.letters
    assert reason in letter["failurereason"]
    assert (letter["type"], letter["source"]) == (kind, "hand")
    assert letter["originalid"] in body.decode()
    await shop.service.stop()


async def test_a_time_without_a_zone_in_the_data_is_refused_with_its_field() -> None:
    shop, [body] = Shop(), bodies("null-subject")
    await shop.service.start()
    await shop.deliver(body.replace(b'"2026-11-28T10:00:00Z"', b'"2026-11-28T10:00:00"'))
    assert "$.boxed_at has no time zone" in shop.letters[0]["failurereason"]
    await shop.service.stop()


@pytest.mark.parametrize("name", ["dead-letters-same-id-two-subscriptions"])
async def test_one_event_that_two_subscriptions_refuse_is_two_dead_letters(name: str) -> None:
    sidecar = MemorySidecar("shop")
    entries = [
        SubscriptionPolicy(f"kitchen-v{number}", "orders.orderConfirmed", f"/events/orders.orderConfirmed.v{number}")
        for number in (1, 2)
    ]
    service = Service("shop", sidecar=sidecar, policy=Policy("shop", tuple(entries)))
    for number, body in enumerate(bodies(name), 1):
        for _ in range(2):
            await service.ingress.deliver(f"/events/orders.orderConfirmed.v{number}", body)
    letters = sidecar.broker.events("deadletter.shop")
    assert len({letter["id"] for letter in letters}) == 2
    assert {letter["originalid"] for letter in letters} == {"0c1e2239-98e2-4967-899e-9797910db573"}


@pytest.mark.parametrize("name", ["dead-letter-markup-ansi", "pg-nul-in-failurereason", "dead-letter-v1-reader-now-v2"])
async def test_a_dead_letter_with_any_text_reaches_its_consumer(name: str) -> None:
    seen: list[Any] = []
    handlers = Handlers()

    @handlers.any("dead", deduplicate=False)
    async def keep(received: Any, _context: StateContext) -> None:
        seen.append(received)

    path = "/events/deadletter.shop"
    policy = Policy("log", (SubscriptionPolicy("dead", "*", path, topic="deadletter.shop"),))
    service = Service("log", handlers, sidecar=MemorySidecar("log"), policy=policy)
    [body] = bodies(name)
    assert await service.ingress.deliver(path, body) == SUCCESS
    assert seen[0].body == body
    assert seen[0].envelope.failurereason == json.loads(body)["failurereason"]
