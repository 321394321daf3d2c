"""An event that fails leaves the broker's queue: others go on, and it is retried from the outbox."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tidings import Event, Handlers, Service, event
from tidings.consume.delayed import MOST
from tidings.consume.policy import Ordering, Policy, RetryPolicy, SubscriptionPolicy
from tidings.errors import SidecarUnavailable, StateConflict
from tidings.outbox.table import TableOutbox
from tidings.testing import MemorySidecar

pytestmark = pytest.mark.asyncio
TOPIC = "shop.itemSold.v1"
PATH = f"/events/{TOPIC}"
SUCCESS, RETRY = b'{"status":"SUCCESS"}', b'{"status":"RETRY"}'
QUICK = RetryPolicy(duration=0.02, max_interval=0.05, max_retries=3)


@event("shop.itemSold")
class Sold(Event):
    number: int = 0


class Till(Event):
    sold: tuple[int, ...] = ()


def body(number: int, subject: str = "") -> bytes:
    return msgspec.json.encode({
        "specversion": "1.0", "id": f"e{number}", "source": "shop", "type": "shop.itemSold", "version": "1",
        "subject": subject, "datacontenttype": "application/json", "data": {"number": number},
    })  # fmt: skip


def policy(**changes: Any) -> Policy:
    given: dict[str, Any] = {"name": "sold", "type": "shop.itemSold", "path": PATH, "topic": TOPIC, "retry": QUICK}
    return Policy(app="till", subscriptions=(SubscriptionPolicy(**{**given, **changes}),))


class Shop:
    """A handler that fails for chosen numbers, as long as it is told to."""

    def __init__(self) -> None:
        self.failing: dict[int, BaseException] = {}
        self.hanging: set[int] = set()
        self.tried: Counter[int] = Counter()
        self.handlers = Handlers()

        @self.handlers.on(Sold)
        async def sell(sold: Sold, context: Any) -> None:
            self.tried[sold.number] += 1
            if sold.number in self.hanging:
                await asyncio.Event().wait()
            if error := self.failing.get(sold.number):
                raise error
            if hasattr(context, "load"):  # the table strategy keeps rows instead
                till = await context.load(Till, "main") or Till()
                context.save("main", Till(sold=(*till.sold, sold.number)))


@asynccontextmanager
async def running(shop: Shop, sidecar: MemorySidecar, **given: Any) -> AsyncIterator[Service]:
    service = Service("till", shop.handlers, sidecar=sidecar, **{"policy": policy(), **given})
    await service.start()
    await until(lambda: service.ingress.delayed.enabled)
    try:
        yield service
    finally:
        await service.stop()


async def until(check: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not check():  # noqa: ASYNC110 - the condition has no event of its own
            await asyncio.sleep(0.005)


async def test_an_event_that_fails_is_acknowledged_at_once_and_handled_later() -> None:
    shop = Shop()
    shop.failing[1] = ValueError("not yet")
    async with running(shop, MemorySidecar("till")) as service:
        assert await service.ingress.deliver(PATH, body(1)) == SUCCESS
        assert await service.ingress.deliver(PATH, body(2)) == SUCCESS
        assert await service.ingress.deliver(PATH, body(1)) == SUCCESS  # the broker delivers it again: it is held
        await until(lambda: shop.tried[1] >= 2)
        shop.failing.clear()
        await until(lambda: not service.ingress.delayed._held["sold"])
        tried = shop.tried[1]
        assert await service.ingress.deliver(PATH, body(1)) == SUCCESS  # the inbox has it
    assert shop.tried == {1: tried + 1, 2: 1}


async def test_what_fails_to_the_end_is_dead_lettered_with_its_reason_and_attempts() -> None:
    shop, sidecar = Shop(), MemorySidecar("till")
    shop.failing[1] = ValueError("never")
    async with running(shop, sidecar) as service:
        assert await service.ingress.deliver(PATH, body(1)) == SUCCESS
        await until(lambda: bool(sidecar.broker.events("deadletter.till")))
    [letter] = sidecar.broker.events("deadletter.till")
    assert (letter["failurereason"], letter["failureattempts"]) == ("ValueError: never", "4")
    assert shop.tried == {1: 4}


async def test_a_handler_that_hangs_holds_its_topic_no_longer_than_its_timeout() -> None:
    shop = Shop()
    shop.hanging.add(1)
    async with running(shop, MemorySidecar("till"), policy=policy(timeout=0.05)) as service:
        assert await service.ingress.deliver(PATH, body(1)) == SUCCESS
        assert await service.ingress.deliver(PATH, body(2)) == SUCCESS
    assert SubscriptionPolicy(name="sold", type="", path="").timeout == 10.0  # what holds where nobody says


async def test_a_document_in_conflict_leaves_the_queue_and_a_store_that_is_away_does_not() -> None:
    shop = Shop()
    shop.failing |= {1: StateConflict("others were first"), 2: SidecarUnavailable("the store is away")}
    async with running(shop, MemorySidecar("till")) as service:
        assert await service.ingress.deliver(PATH, body(1)) == SUCCESS
        assert await service.ingress.deliver(PATH, body(2)) == RETRY
        await until(lambda: shop.tried[1] > 3 * 30)  # each attempt is up to 30 tries, and a conflict is no attempt
        shop.failing.clear()
        await until(lambda: not service.ingress.delayed._held["sold"])


async def test_an_ordered_subscription_keeps_its_events_in_the_queue() -> None:
    shop = Shop()
    shop.failing[1] = ValueError("not yet")
    async with running(shop, MemorySidecar("till"), policy=policy(ordering=Ordering("key"))) as service:
        assert await service.ingress.deliver(PATH, body(1, "a")) == RETRY


async def test_where_everything_fails_the_queue_is_where_events_wait() -> None:
    shop = Shop()
    shop.failing |= {number: ValueError("down") for number in range(MOST + 10)}
    patient = policy(retry=RetryPolicy(duration=3600.0, max_interval=3600.0))
    async with running(shop, MemorySidecar("till"), policy=patient) as service:
        answers = [await service.ingress.deliver(PATH, body(number)) for number in range(MOST + 10)]
    assert answers == [SUCCESS] * MOST + [RETRY] * 10


@pytest.mark.parametrize("strategy", ["log", "table"])
async def test_a_restart_goes_on_with_what_was_delayed(strategy: str, tmp_path: Path) -> None:
    sidecar, shop = MemorySidecar("till"), Shop()
    outbox = {} if strategy == "log" else {"outbox": TableOutbox.on(f"sqlite:///{tmp_path / 'till.db'}")}
    shop.failing[1] = ValueError("not yet")
    patient = policy(retry=RetryPolicy(policy="constant", duration=1.0, max_interval=1.0))
    async with running(shop, sidecar, policy=patient, **outbox) as service:
        assert await service.ingress.deliver(PATH, body(1)) == SUCCESS
    assert shop.tried == {1: 1}
    again = Shop()
    async with running(
        again, MemorySidecar("till", broker=sidecar.broker, store=sidecar.store), policy=patient, **outbox
    ):
        await until(lambda: again.tried[1] == 1)
