"""Responses to the sidecar for all possible requests."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from pydantic import SecretStr

from tidings import DeadLetter, Done, Drop, Event, Handlers, Rejected, Retry, Service, Settings, event, upcaster
from tidings.consume.policy import Ordering, Policy, RateLimit, RetryPolicy, SubscriptionPolicy
from tidings.context import Context
from tidings.errors import DefinitionError, SidecarUnavailable
from tidings.fastapi import create_app
from tidings.testing import MemorySidecar, post

SUCCESS, RETRY = b'{"status":"SUCCESS"}', b'{"status":"RETRY"}'
PATH = "/events/shop.itemSold.v2"


@event("shop.itemSold", version=1)
class SoldV1(Event):
    item: str


@event("shop.itemSold", version=2)
class Sold(Event):
    item: str
    price_cents: int = 0


@upcaster
def from_v1(old: SoldV1) -> Sold:
    return Sold(item=old.item, price_cents=-1)


def body(data: Any = None, **attributes: Any) -> bytes:
    standard = {"id": "e-1", "source": "test", "type": "shop.itemSold", "specversion": "1.0", "version": "2"}
    return json.dumps({**standard, "topic": "shop.itemSold.v2", "data": data or {"item": "pie"}, **attributes}).encode()


class Shop:
    def __init__(self, result: Any = None, policy: Policy | None = None, token: str | None = None) -> None:
        self.seen: list[Sold] = []
        self.attempts: list[int] = []
        self.result = result
        self.sidecar = MemorySidecar("shop")
        handlers = Handlers()
        handlers.on(Sold)(self.handle)
        settings = Settings(app_api_token=SecretStr(token) if token else None)
        self.service = Service("shop", handlers, sidecar=self.sidecar, policy=policy, settings=settings)

    async def handle(self, message: Sold, context: Context) -> Any:
        self.seen.append(message)
        self.attempts.append(context.attempt)
        if isinstance(self.result, BaseException):
            raise self.result
        return self.result

    async def deliver(self, content: bytes, path: str = PATH) -> bytes:
        return await self.service.ingress.deliver(path, content)

    @property
    def dead_letters(self) -> list[dict[str, Any]]:
        return self.sidecar.broker.events("deadletter.shop")


@pytest.mark.parametrize(
    ("result", "answer", "reason"),
    [
        (None, SUCCESS, None),
        (Done(), SUCCESS, None),
        (Drop("sold before we opened"), SUCCESS, None),
        (Retry("stock is being counted"), RETRY, None),
        (DeadLetter("no such item"), SUCCESS, "no such item"),
        (Rejected("no such item"), SUCCESS, "no such item"),
        (ValueError("odd"), RETRY, None),
        (("body", 500), RETRY, None),
        ({"status": "SUCCESS"}, RETRY, None),
    ],
)
async def test_every_result_is_one_outcome(result: Any, answer: bytes, reason: str | None) -> None:
    shop = Shop(result)
    assert await shop.deliver(body()) == answer
    assert [letter["failurereason"] for letter in shop.dead_letters] == ([reason] if reason else [])


@pytest.mark.parametrize(
    ("content", "answer", "reason"),
    [
        (b"{", SUCCESS, "not a CloudEvents envelope: Input data was truncated"),
        (b"[]", SUCCESS, "not a CloudEvents envelope: Expected `object`, got `array`"),
        (b"\xff", SUCCESS, "not a CloudEvents envelope: not UTF-8: invalid start byte at byte 0"),
        (body(id=""), SUCCESS, "not a CloudEvents envelope: id missing"),
        (body(id=7), SUCCESS, None),
        (body(specversion="0.3"), SUCCESS, "CloudEvents version '0.3' is not supported; use 1.0"),
        (body(type="shop.itemStolen"), SUCCESS, f"no handler for shop.itemStolen.v2 at {PATH}"),
        (body(version="3"), SUCCESS, f"no handler for shop.itemSold.v3 at {PATH}"),
        (body(version="x"), SUCCESS, "not a CloudEvents envelope: version must be 1 to 9999, not 'x'"),
        (body(version=""), SUCCESS, "the event has no version attribute"),
        (body({"item": 7}), SUCCESS, "shop.itemSold.v2: Expected `str`, got `int` - at `$.item`"),
        (body({"price": 7}), SUCCESS, "shop.itemSold.v2: Object missing required field `item`"),
        (body({"item": "pie", "unknown": [1, 2]}), SUCCESS, None),
    ],
)
async def test_any_arriving_event_is_handled_or_stored_with_a_reason(
    content: bytes, answer: bytes, reason: str | None
) -> None:
    shop = Shop()
    assert await shop.deliver(content) == answer
    assert [letter["failurereason"] for letter in shop.dead_letters] == ([reason] if reason else [])


async def test_older_versions_are_upcast() -> None:
    shop = Shop()
    assert await shop.deliver(body(version="1"), "/events/shop.itemSold.v1") == SUCCESS
    assert shop.seen == [Sold(item="pie", price_cents=-1)]


async def test_a_poison_event_is_dead_lettered_whole_after_its_last_attempt() -> None:
    policy = SubscriptionPolicy("shop-sales", "shop.itemSold", PATH, retry=RetryPolicy(max_retries=2))
    shop = Shop(ValueError("odd"), Policy("shop", (policy,)))
    content = body(traceparent=f"00-{'a' * 32}-{'b' * 16}-01", custom="kept", pubsubname="pubsub")
    assert [await shop.deliver(content) for _ in range(3)] == [RETRY, RETRY, SUCCESS]
    assert shop.attempts == [1, 2, 3]
    (letter,) = shop.dead_letters
    expected = {
        "originalid": "e-1", "source": "test", "type": "shop.itemSold", "custom": "kept", "data": {"item": "pie"},
        "failurereason": "ValueError: odd", "failureclass": "ValueError", "failureattempts": "3",
        "failuresubscription": "shop-sales", "failuretopic": "shop.itemSold.v2", "topic": "deadletter.shop",
    }  # fmt: skip
    assert expected.items() <= letter.items()
    assert letter["failurefirst"] <= letter["failurelast"]


@pytest.mark.parametrize(
    "content", [body(), b"{", body(type="shop.itemStolen")], ids=["refused", "malformed", "unread"]
)
async def test_every_dead_letter_goes_to_the_topic_of_the_subscription(content: bytes) -> None:
    policy = SubscriptionPolicy("shop-sales", "shop.itemSold", PATH, dead_letter_topic="failures")
    shop = Shop(DeadLetter("no such item"), Policy("shop", (policy,)))
    assert await shop.deliver(content) == SUCCESS
    assert (len(shop.sidecar.broker.events("failures")), shop.dead_letters) == (1, [])


async def test_trouble_with_sidecar_or_store_counts_as_no_attempt() -> None:
    shop = Shop(SidecarUnavailable("store down"))
    assert {await shop.deliver(body()) for _ in range(20)} == {RETRY}
    assert set(shop.attempts) == {1}


async def test_an_event_that_cannot_be_buried_stays_with_the_broker() -> None:
    shop = Shop(DeadLetter("bad"))
    shop.sidecar.fail("publish", times=1)
    assert [await shop.deliver(body()) for _ in range(2)] == [RETRY, SUCCESS]
    assert len(shop.dead_letters) == 1


async def test_a_replay_reaches_only_the_subscription_it_is_for() -> None:
    policy = SubscriptionPolicy("shop-sales", "shop.itemSold", PATH)
    shop = Shop(policy=Policy("shop", (policy,)))
    assert await shop.deliver(body(replayto="shop-sales"), "/events/replay") == SUCCESS
    assert await shop.deliver(body(replayto="other-sales"), "/events/replay") == SUCCESS
    assert len(shop.seen) == 1
    assert shop.dead_letters == []


async def test_a_handler_that_takes_too_long_is_tried_again() -> None:
    policy = SubscriptionPolicy("shop-sales", "shop.itemSold", PATH, timeout=0.01)
    shop = Shop(policy=Policy("shop", (policy,)))

    async def sleep(message: Sold, context: Context) -> None:
        await asyncio.sleep(5)

    shop.service.ingress._routes[PATH][0].handler = _with(sleep)
    assert await shop.deliver(body()) == RETRY


def _with(function: Any) -> Any:
    handlers = Handlers()
    handlers.on(Sold)(function)
    return next(iter(handlers))


@pytest.mark.parametrize(
    ("limit", "most"),
    [
        ({"max_concurrency": 2}, 2),
        ({"ordering": Ordering("perKey", "subject")}, 1),
        ({"rate_limit": RateLimit(1000.0, 1.0, 1)}, 12),
        ({}, 12),
    ],
)
async def test_limits_are_kept_by_waiting(limit: dict[str, Any], most: int) -> None:
    policy = SubscriptionPolicy("shop-sales", "shop.itemSold", PATH, **limit)
    shop = Shop(policy=Policy("shop", (policy,)))
    running, highest = 0, 0

    async def busy(message: Sold, context: Context) -> None:
        nonlocal running, highest
        running += 1
        highest = max(highest, running)
        await asyncio.sleep(0.03)
        running -= 1

    shop.service.ingress._routes[PATH][0].handler = _with(busy)
    answers = await asyncio.gather(*(shop.deliver(body(id=f"e-{n}", subject="pie")) for n in range(12)))
    assert set(answers) == {SUCCESS}
    assert highest <= most
    assert highest == most or "rate_limit" in limit


@pytest.mark.parametrize(
    ("headers", "status"),
    [((), 401), (((b"dapr-api-token", b"wrong"),), 401), (((b"dapr-api-token", b"secret"),), 200)],
)
async def test_deliveries_must_carry_the_token(headers: Any, status: int) -> None:
    app = create_app(Shop(token="secret").service)
    assert (await post(app, PATH, body(), headers))[0] == status


def test_a_handler_is_refused_while_the_program_starts() -> None:
    def synchronous(message: Sold, context: Context) -> None: ...

    async def one(message: Sold) -> None: ...

    async def unknown(message: int, context: Context) -> None: ...

    handlers = Handlers()
    wrong: tuple[Any, ...] = (synchronous, one)
    for function in wrong:
        with pytest.raises(DefinitionError, match="async def handler"):
            handlers.on(Sold)(function)
    with pytest.raises(DefinitionError, match="is not an event"):
        handlers.on(int)(unknown)


@pytest.mark.parametrize(
    ("result", "content", "status"),
    [
        (None, body(), 200),
        (Retry("not now"), body(), 503),
        (SidecarUnavailable("away"), body(), 503),
        (None, b"{", 200),
    ],
)
async def test_failures_are_reported_by_the_status_code_and_not_only_by_the_body(
    result: Any, content: bytes, status: int
) -> None:
    """daprd takes a 200 that breaks off for success: tests/integration/test_sidecar_dapr.py."""
    assert (await post(Shop(result).service.ingress, PATH, content))[0] == status
