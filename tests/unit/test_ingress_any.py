"""Handlers that take whatever a subscription delivers, replays to a whole app, and what follows a commit."""

from __future__ import annotations

import base64
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tidings import Event, Handlers, Received, Service, StateContext, event
from tidings.consume.policy import Policy, SubscriptionPolicy
from tidings.errors import DefinitionError
from tidings.settings import Settings
from tidings.testing import Clock, MemorySidecar, MemoryStore

SUCCESS, RETRY = b'{"status":"SUCCESS"}', b'{"status":"RETRY"}'


@event("shop.itemSold")
class ItemSold(Event):
    item: str


@event("shop.itemSold", version=2)
class ItemSoldV2(Event):
    item: str


@event("shop.itemLost")
class ItemLost(Event):
    item: str


def body(**attributes: Any) -> bytes:
    standard = {"id": "e-1", "source": "t", "type": "shop.itemSold", "specversion": "1.0", "version": "1"}
    return json.dumps({**standard, "data": {"item": "pie"}, "odd": [1], **attributes}).encode()


def entry(name: str, kind: str, topic: str) -> SubscriptionPolicy:
    return SubscriptionPolicy(name=name, type=kind, path=f"/events/{topic}", topic=topic)


POLICY = Policy(
    "log",
    (
        entry("log-all", "shop.itemSold", "shop.itemSold.v1"),
        entry("log-all", "shop.itemLost", "shop.itemLost.v1"),
        entry("log-dead", "*", "deadletter.shop"),
    ),
)


class Log:
    """A service that keeps everything, and knows one type."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.kept: list[Received] = []
        self.known: list[str] = []
        handlers = Handlers()
        handlers.any("log-all", "log-dead", deduplicate=False)(self.keep)
        handlers.on(ItemLost)(self.know)
        self.sidecar = MemorySidecar("log")
        self.service = Service(
            "log", handlers, sidecar=self.sidecar, settings=settings, policy=None if settings else POLICY
        )

    async def keep(self, received: Received, _context: StateContext) -> None:
        self.kept.append(received)

    async def know(self, lost: ItemLost, _context: StateContext) -> None:
        self.known.append(lost.item)


async def test_a_new_type_waits_at_the_broker_until_the_policy_has_it(tmp_path: Path) -> None:
    """On a cluster, sidecars know a new type a minute before the app's volume has the policy for it."""
    file, path = tmp_path / "policy.json", "/events/shop.itemSold.v1"
    file.write_bytes(msgspec.json.encode(Policy("log", POLICY.subscriptions[1:])))
    log = Log(Settings(tidings_policy=file))
    assert await log.service.ingress.deliver(path, body()) == RETRY
    file.write_bytes(msgspec.json.encode(POLICY))
    assert await log.service.ingress.deliver(path, body()) == SUCCESS
    assert [received.topic for received in log.kept] == ["shop.itemSold.v1"]


@pytest.mark.parametrize(
    ("topic", "attributes"),
    [
        ("shop.itemSold.v1", {}),
        ("shop.itemSold.v1", {"type": "shop.neverHeardOf", "version": ""}),
        ("deadletter.shop", {"failurereason": "odd", "topic": "shop.itemSold.v1"}),
    ],
)
async def test_a_handler_of_any_type_receives_the_exact_bytes_and_the_topic(
    topic: str, attributes: dict[str, str]
) -> None:
    log, whole = Log(), body(**attributes)
    assert await log.service.ingress.deliver(f"/events/{topic}", whole) == SUCCESS
    [received] = log.kept
    assert (received.body, received.topic, received.envelope.id) == (whole, topic, "e-1")


@pytest.mark.parametrize(
    ("whole", "identity"),
    [(body(version=[1]), "e-1"), (body(id=""), "malformed-"), (b"[7]", "malformed-"), (b"\xff", "malformed-")],
)
async def test_a_handler_of_any_type_receives_malformed_events_with_reason_and_stable_id(
    whole: bytes, identity: str
) -> None:
    log = Log()
    for _ in range(2):
        assert await log.service.ingress.deliver("/events/deadletter.shop", whole) == SUCCESS
    first, second = (item.envelope for item in log.kept)
    assert first.id.startswith(identity)
    assert first == second
    assert "not a CloudEvents envelope" in first.failurereason
    assert await log.service.ingress.deliver("/events/elsewhere", whole) == SUCCESS
    [letter] = log.sidecar.broker.events("deadletter.log")
    assert base64.b64decode(letter["data_base64"]) == whole


async def test_who_knows_a_type_has_it_before_who_takes_any() -> None:
    log = Log()
    await log.service.ingress.deliver("/events/shop.itemLost.v1", body(type="shop.itemLost"))
    assert (log.known, log.kept) == (["pie"], [])


async def test_a_handler_of_any_type_names_its_subscriptions_and_receives_no_replays() -> None:
    with pytest.raises(DefinitionError, match="name at least one EventSubscription"):
        Handlers().any()
    log = Log()
    assert await log.service.ingress.deliver("/events/replay", body(replayto="log-all")) == SUCCESS
    assert log.kept == []


@pytest.mark.parametrize(
    ("replayto", "seen"),
    [("shop-sold", ["one", "two"]), ("*", ["one", "two", "lost"]), ("shop-lost", ["lost"]), ("nobody", [])],
)
async def test_a_replay_reaches_every_version_of_its_subscription_or_whichever_reads_it(
    replayto: str, seen: list[str]
) -> None:
    result: list[str] = []
    handlers = Handlers()

    @handlers.on(ItemSold)
    async def one(_sold: ItemSold, _context: StateContext) -> None:
        result.append("one")

    @handlers.on(ItemSoldV2)
    async def two(_sold: ItemSoldV2, _context: StateContext) -> None:
        result.append("two")

    @handlers.on(ItemLost)
    async def lost(_lost: ItemLost, _context: StateContext) -> None:
        result.append("lost")

    policy = Policy(
        "shop",
        (
            entry("shop-sold", "shop.itemSold", "shop.itemSold.v1"),
            entry("shop-sold", "shop.itemSold", "shop.itemSold.v2"),
            entry("shop-lost", "shop.itemLost", "shop.itemLost.v1"),
        ),
    )
    service = Service("shop", handlers, sidecar=MemorySidecar("shop"), policy=policy)
    for item in (body(), body(id="e-2", version="2"), body(id="e-3", type="shop.itemLost")):
        whole = json.dumps({**json.loads(item), "replayto": replayto}).encode()
        assert await service.ingress.deliver("/events/replay", whole) == SUCCESS
    assert result == seen


class Basket(Event):
    """A document."""

    items: int = 0


async def test_who_looks_on_is_woken_after_the_commit_and_not_without_one() -> None:
    sidecar, received = MemorySidecar("shop"), []
    service = Service("shop", (), sidecar=sidecar)
    await service.start()

    async def add(fails: bool, context: StateContext) -> None:
        basket = await context.load(Basket, "b") or Basket()
        context.save("b", Basket(items=basket.items + 1))
        context.after_commit(lambda: received.append(sidecar.store.keys()))
        if fails:
            raise ValueError("odd")

    with pytest.raises(ValueError, match="odd"):
        await service.execute(add, True)
    assert received == []
    await service.execute(add, False)
    assert any("basket/b" in key for key in received[0])
    await service.stop()


async def test_a_document_with_a_time_to_live_is_forgotten_that_long_after_its_last_write() -> None:
    clock = Clock()
    sidecar = MemorySidecar("shop", store=MemoryStore(clock))
    service = Service("shop", (), sidecar=sidecar)
    await service.start()

    async def add(_: None, context: StateContext) -> int:
        basket = await context.load(Basket, "b") or Basket()
        context.save("b", Basket(items=basket.items + 1), ttl=timedelta(hours=1))
        return basket.items

    seen = []
    for later in (0, 3599, 3599, 3600):
        clock.advance(later)
        seen.append(await service.execute(add, None))
    assert seen == [0, 1, 2, 0]
    await service.stop()
