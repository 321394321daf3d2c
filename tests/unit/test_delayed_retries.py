"""An event that fails leaves the broker's queue: others go on, and it is retried from the outbox."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest

from tidings import Event, Handlers, Rejected, Service, event
from tidings.consume.delayed import MAX_DELAYED, MAX_RUNNING
from tidings.consume.departure import FIRST, SHORTEST, Pace
from tidings.consume.policy import Ordering, Policy, RetryPolicy, SubscriptionPolicy
from tidings.errors import SidecarUnavailable, StateConflict
from tidings.fastapi import create_app
from tidings.outbox.table import TableOutbox
from tidings.testing import MemorySidecar
from tidings_cli.testing.programs import Ports
from tidings_cli.testing.serving import Served

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
    value: dict[str, Any] = {"name": "sold", "type": "shop.itemSold", "path": PATH, "topic": TOPIC, "retry": QUICK}
    return Policy(app="till", subscriptions=(SubscriptionPolicy(**{**value, **changes}),))


class Shop:
    """A handler that fails for chosen numbers while that is enabled."""

    def __init__(self) -> None:
        self.failing: dict[int, BaseException] = {}
        self.hanging: set[int] = set()
        self.tried: Counter[int] = Counter()
        self.released = asyncio.Event()
        self.handlers = Handlers()

        @self.handlers.on(Sold)
        async def sell(sold: Sold, context: Any) -> None:
            self.tried[sold.number] += 1
            if sold.number in self.hanging:
                await self.released.wait()
            if error := self.failing.get(sold.number):
                raise error
            if hasattr(context, "load"):  # the table strategy keeps rows instead
                till = await context.load(Till, "main") or Till()
                context.save("main", Till(sold=(*till.sold, sold.number)))


@asynccontextmanager
async def running(shop: Shop, sidecar: MemorySidecar, **provided: Any) -> AsyncIterator[Service]:
    service = Service("till", shop.handlers, sidecar=sidecar, **{"policy": policy(), **provided})
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


def many(*bodies: bytes) -> bytes:
    entries = [{"entryId": str(number), "event": msgspec.Raw(item)} for number, item in enumerate(bodies)]
    return msgspec.json.encode({"type": "com.dapr.event.sent.bulk", "entries": entries})


@asynccontextmanager
async def served(
    shop: Shop, sidecar: MemorySidecar | None = None, **provided: Any
) -> AsyncIterator[tuple[Service, httpx2.AsyncClient]]:
    """Yield the service behind a real server, as a sidecar reaches it: over one connection that is kept."""
    async with running(shop, sidecar or MemorySidecar("till"), **provided) as service:
        with Ports() as ports:
            server = Served(create_app(service), ports.take())
            await server.start()
            limits = httpx2.Limits(max_connections=1)
            async with httpx2.AsyncClient(base_url=server.url, timeout=60, limits=limits, trust_env=False) as client:
                try:
                    yield service, client
                finally:
                    service.ingress.delayed.enabled = False
                    shop.released.set()  # otherwise, the server waits for hanging handlers
            await server.stop()


@pytest.mark.parametrize("bulk", [False, True])
@pytest.mark.parametrize("end", ["handled", "fails", "dead letter"])
async def test_a_slow_event_leaves_the_queue_while_its_attempt_goes_on(bulk: bool, end: str) -> None:
    shop, release = Shop(), asyncio.Event()
    sell = next(iter(shop.handlers)).function

    async def slow(sold: Sold, context: Any) -> None:
        if sold.number == 1 and shop.tried[1] == 0:
            shop.tried[1] += 1
            await release.wait()
            if end != "handled":
                raise (ValueError if end == "fails" else Rejected)("at last")
            shop.tried[1] -= 1
        await sell(sold, context)

    shop.handlers = Handlers()
    shop.handlers.on(Sold)(slow)
    async with served(shop, policy=policy(timeout=60.0)) as (service, client):
        for number in (1, 2, 1, 3):  # the second 1 is a redelivery, and the attempt at it is still under way
            sent = many(body(number)) if bulk else body(number)
            answer = (await client.post(PATH, content=sent)).json()
            assert (answer["statuses"][0] if bulk else answer)["status"] == "SUCCESS"
        assert shop.tried == {1: 1, 2: 1, 3: 1}
        release.set()
        await until(lambda: not service.ingress.delayed._held["sold"])
        assert service.ingress.delayed._attempts_aside["sold"] == 0
        assert not service.ingress.delayed._running
        letters = service.sidecar.broker.events("deadletter.till")  # type: ignore[attr-defined]
    assert shop.tried[1] == {"handled": 1, "fails": 2, "dead letter": 1}[end], "not tried twice at the same time"
    assert [letter["failurereason"] for letter in letters] == (["at last"] if end == "dead letter" else [])


async def test_a_slow_event_that_came_before_the_service_had_started_leaves_the_queue_afterwards() -> None:
    shop, acknowledged = Shop(), asyncio.Event()
    shop.hanging.add(1)

    async def acknowledge() -> None:
        acknowledged.set()

    async with running(shop, MemorySidecar("till"), policy=policy(timeout=60.0)) as service:
        service.ingress.delayed.enabled = False
        attempt = asyncio.ensure_future(service.ingress._respond(PATH, body(1), acknowledge))
        await asyncio.sleep(4 * FIRST)
        assert not acknowledged.is_set()
        service.ingress.delayed.enabled = True
        await asyncio.wait_for(acknowledged.wait(), 60)
        attempt.cancel()
        await asyncio.gather(attempt, return_exceptions=True)


@pytest.mark.parametrize("answer_lost", [False, True])
async def test_a_hanging_handlers_event_leaves_the_queue_once_the_store_answers(
    monkeypatch: pytest.MonkeyPatch, answer_lost: bool
) -> None:
    """On a busy disk the only try to store it failed: the topic then waited for the handler's timeout."""
    shop, sidecar = Shop(), MemorySidecar("till")
    shop.hanging.add(1)
    transact, failures = sidecar.transact, iter([True, True, True])

    async def failing(operations: Any) -> None:
        fails = any("delayedRetry" in str(operation) for operation in operations) and next(failures, False)
        if answer_lost or not fails:
            await transact(operations)
        if fails:
            raise SidecarUnavailable("Deadline Exceeded")

    monkeypatch.setattr(sidecar, "transact", failing)
    async with served(shop, sidecar, policy=policy(timeout=3600.0)) as (_service, client):
        for number in (1, 2):
            assert (await client.post(PATH, content=body(number), timeout=60)).json() == {"status": "SUCCESS"}
        assert next(failures, None) is None, "the store failed three times"
        await asyncio.sleep(4 * FIRST)
        assert shop.tried == {1: 1, 2: 1}, "what the store kept although its answer got lost is no second attempt"


async def test_a_slow_attempt_that_is_cancelled_outside_of_the_queue_is_made_again() -> None:
    shop, acknowledged = Shop(), asyncio.Event()
    shop.hanging.add(1)

    async def acknowledge() -> None:
        acknowledged.set()

    async with running(shop, MemorySidecar("till"), policy=policy(timeout=3600.0)) as service:
        attempt = asyncio.ensure_future(service.ingress._respond(PATH, body(1), acknowledge))
        await asyncio.wait_for(acknowledged.wait(), 60)
        shop.hanging.clear()
        attempt.cancel()
        await until(lambda: not service.ingress.delayed._held["sold"])
        assert service.ingress.delayed._attempts_aside["sold"] == 0
        assert not service.ingress.delayed._running
    assert shop.tried == {1: 2}


async def test_only_so_many_slow_attempts_go_on_outside_of_the_queue() -> None:
    shop = Shop()
    shop.hanging |= set(range(MAX_RUNNING + 1))
    async with served(shop, policy=policy(timeout=60.0)) as (_service, client):
        for number in range(MAX_RUNNING):
            assert (await client.post(PATH, content=body(number))).json() == {"status": "SUCCESS"}
        with pytest.raises(httpx2.ReadTimeout):
            await client.post(PATH, content=body(MAX_RUNNING), timeout=1)


async def test_the_event_of_a_slow_attempt_outlives_the_process() -> None:
    shop, sidecar = Shop(), MemorySidecar("till")
    shop.hanging.add(1)
    acknowledged = asyncio.Event()

    async def acknowledge() -> None:
        acknowledged.set()

    async with running(shop, sidecar, policy=policy(timeout=60.0)) as service:
        attempt = asyncio.ensure_future(service.ingress._respond(PATH, body(1), acknowledge))
        await asyncio.wait_for(acknowledged.wait(), 60)
        attempt.cancel()
        with pytest.raises(asyncio.CancelledError):
            await attempt
    again = Shop()
    async with running(again, MemorySidecar("till", broker=sidecar.broker, store=sidecar.store)):
        await until(lambda: again.tried[1] == 1)


@pytest.mark.parametrize("provided", [{"ordering": Ordering("key")}, {"max_concurrency": 1}])
async def test_what_waits_for_its_turn_or_keeps_an_order_stays_in_the_queue(provided: dict[str, Any]) -> None:
    shop = Shop()
    shop.hanging.add(1)
    async with served(shop, policy=policy(timeout=60.0, **provided)) as (_service, client):
        if "max_concurrency" in provided:
            assert (await client.post(PATH, content=body(1))).json() == {"status": "SUCCESS"}
        with pytest.raises(httpx2.ReadTimeout):
            await client.post(PATH, content=body(1 if "ordering" in provided else 2), timeout=1)


def paced(*durations: float) -> Pace:
    pace = Pace()
    for seconds in durations:
        pace.took(seconds)
    return pace


@pytest.mark.parametrize(
    ("durations", "shortest", "longest"),
    [
        ([], FIRST, FIRST),
        ([0.0025, 0.003] * 200, SHORTEST, SHORTEST),  # quick
        ([0.002, 0.006] * 400, 0.011, 0.013),  # less steady
        ([0.5] * 1000, 0.5, 0.51),
        ([0.002, 0.4] * 500, 0.9, 1.1),  # of two kinds
        ([*[0.0025] * 300, 3600.0], SHORTEST, SHORTEST),
        ([*[0.0025] * 19, 3600.0] * 50, SHORTEST, 0.006),  # one in twenty hangs
        ([*[0.003] * 300, *[0.3] * 300], 0.3, 1.5),  # the machine has become slower
        ([*[0.3] * 300, *[0.003] * 400], SHORTEST, 0.01),  # and quicker again
        ([3600.0] * 1000, 1.0, 1.1),
    ],
)
async def test_an_attempt_is_slow_compared_with_the_usual_ones(
    durations: list[float], shortest: float, longest: float
) -> None:
    assert shortest <= paced(*durations).hold <= longest


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
    shop.failing |= {number: ValueError("down") for number in range(MAX_DELAYED + 10)}
    patient = policy(retry=RetryPolicy(duration=3600.0, max_interval=3600.0))
    async with running(shop, MemorySidecar("till"), policy=patient) as service:
        answers = [await service.ingress.deliver(PATH, body(number)) for number in range(MAX_DELAYED + 10)]
    assert answers == [SUCCESS] * MAX_DELAYED + [RETRY] * 10


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
