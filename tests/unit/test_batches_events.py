"""Events that are handled together: each is answered, remembered and given up for itself, in a document or in rows."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from tidings import Context, DeadLetter, Drop, Event, Handlers, Received, Rejected, Retry, Service, event
from tidings.consume.policy import Ordering, Policy, RateLimit, RetryPolicy, SubscriptionPolicy
from tidings.conventions import REPLAY_PATH
from tidings.errors import SidecarUnavailable
from tidings.outbox.table import TableOutbox
from tidings.testing import MemorySidecar

SUCCESS, RETRY = b'{"status":"SUCCESS"}', b'{"status":"RETRY"}'
PATH, RETURNED = "/events/shop.itemSold.v1", "/events/shop.itemReturned.v1"
BAD = 13
metadata = sa.MetaData()
sold = sa.Table("sold", metadata, sa.Column("number", sa.Integer), sa.Column("id", sa.Integer, primary_key=True))


@event("shop.itemSold", subject="shop")
class Sold(Event):
    number: int
    shop: str = "main"


@event("shop.itemReturned", subject="shop")
class Returned(Event):
    number: int
    shop: str = "main"


class Till(Event):
    sold: tuple[int, ...] = ()


async def to_document(numbers: list[int], context: Any) -> None:
    till = await context.load(Till, "main") or Till()
    context.save("main", Till(sold=(*till.sold, *numbers)))


async def to_table(numbers: list[int], context: Any) -> None:
    await context.connection.execute(sa.insert(sold), [{"number": number} for number in numbers])


async def in_document(_: None, context: Any) -> list[int]:
    return list((await context.load(Till, "main") or Till()).sold)


async def in_table(_: None, context: Any) -> list[int]:
    return list((await context.connection.execute(sa.select(sold.c.number).order_by(sold.c.id))).scalars())


def body(number: int, **attributes: Any) -> bytes:
    standard = {"id": f"e-{number}", "source": "t", "type": "shop.itemSold", "specversion": "1.0", "version": "1"}
    return json.dumps({**standard, "subject": "main", "data": {"number": number}, **attributes}).encode()


class Silent(Exception):
    def __str__(self) -> str:
        raise KeyboardInterrupt


@dataclass
class Shop:
    """A service whose processes come and go on what they have stored."""

    store: Callable[[list[int], Any], Awaitable[None]]
    look: Callable[[None, Any], Awaitable[list[int]]]
    outbox: Any
    sidecar: MemorySidecar = field(default_factory=lambda: MemorySidecar("shop"))
    lists: list[list[int]] = field(default_factory=list)
    policy: dict[str, Any] = field(default_factory=dict)
    bad: Any = None
    service: Service = field(init=False)

    async def handle(self, events: list[Sold], context: Context) -> Any:
        numbers = [item.number for item in events]
        self.lists.append(numbers)
        await asyncio.sleep(0.002)  # a store takes its time: meanwhile others come
        await self.store(numbers, context)
        if BAD in numbers:
            if isinstance(self.bad, BaseException):
                raise self.bad
            if self.bad == "hang":
                await asyncio.sleep(60)
            return self.bad
        return None

    @asynccontextmanager
    async def process(self, handlers: Handlers | None = None) -> AsyncIterator[Service]:
        if handlers is None:
            handlers = Handlers()
            handlers.batch(Sold, batch_size=50)(self.handle)
        entry = SubscriptionPolicy(
            "sold", "shop.itemSold", PATH, retry=RetryPolicy(max_retries=1), **({"timeout": 5.0} | self.policy)
        )
        returned = SubscriptionPolicy("sold", "shop.itemReturned", RETURNED)
        memory_sidecar = MemorySidecar("shop", self.sidecar.broker, self.sidecar.store)
        self.service = Service(
            "shop", handlers, sidecar=memory_sidecar, outbox=self.outbox, policy=Policy("shop", (entry, returned))
        )
        service = self.service
        await service.start()
        assert service._starting
        await asyncio.wait([service._starting])
        service.ingress.delayed.enabled = False  # here each attempt is a delivery
        try:
            yield service
        finally:
            await service.stop()

    async def receive(self, *numbers: int, service: Service | None = None) -> list[bytes]:
        ingress = (service or self.service).ingress
        return await asyncio.gather(*(ingress.deliver(PATH, body(number)) for number in numbers))

    async def sold(self) -> list[int]:
        return await self.service.execute(self.look, None)

    @property
    def dead(self) -> list[tuple[int, str, str]]:
        letters = self.sidecar.broker.events("deadletter.shop")
        return [(letter["data"]["number"], letter["failurereason"], letter["failureattempts"]) for letter in letters]


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with capture_logs():  # a traceback with all its locals takes seconds to print
        yield


@pytest.fixture(params=["document", "table"])
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Shop:
    if request.param == "document":
        return Shop(to_document, in_document, None)
    return Shop(to_table, in_table, TableOutbox.on(f"sqlite:///{tmp_path}/shop.db", tables=metadata))


async def test_a_burst_takes_few_units_of_work_and_a_single_event_does_not_wait(shop: Shop) -> None:
    async with shop.process():
        assert await shop.receive(0) == [SUCCESS]
        assert set(await shop.receive(*range(1, 200))) == {SUCCESS}
        assert sorted(await shop.sold()) == list(range(200))
    assert shop.lists[0] == [0]
    assert max(map(len, shop.lists)) == 50
    assert len(shop.lists) <= 7


@pytest.mark.parametrize(
    ("bad", "answer", "reason"),
    [
        (Rejected("no such item"), SUCCESS, "no such item"),
        (DeadLetter("no such shop"), SUCCESS, "no such shop"),
        (Drop("sold before we opened"), SUCCESS, None),
        (Retry("stock is being counted"), RETRY, "stock is being counted"),
        (ValueError("odd"), RETRY, "ValueError: odd"),
        (Silent(), RETRY, "Silent: (its __str__ raised KeyboardInterrupt)"),
        (
            Retry,
            RETRY,
            f"UnknownOutcome: a handler must return None, Done, Retry, Drop or DeadLetter, not type: {Retry}",
        ),
        (SidecarUnavailable("away"), RETRY, None),
    ],
    ids=lambda item: type(item).__name__,
)
async def test_a_bad_one_has_its_own_outcome_and_harms_no_other(
    shop: Shop, bad: Any, answer: bytes, reason: str | None
) -> None:
    shop.bad = bad
    async with shop.process():
        answers = dict(zip(range(20), await shop.receive(*range(20)), strict=True))
        assert answers.pop(BAD) == answer
        assert set(answers.values()) == {SUCCESS}
        assert sorted(await shop.sold()) == sorted(answers)
        if answer == SUCCESS:
            assert shop.dead == ([(BAD, reason, "1")] if reason else [])
        else:
            blamed = reason is not None  # a store that is away is nobody's fault
            assert await shop.receive(BAD, 30) == [SUCCESS if blamed else RETRY, SUCCESS]
            assert shop.dead == ([(BAD, reason, "2")] if blamed else []), "given up after attempts of its own"


async def test_a_batch_has_the_timeout_of_one_attempt_and_then_every_message_its_own() -> None:
    shop = Shop(to_document, in_document, None, bad="hang", policy={"timeout": 0.3})
    async with shop.process():
        answers = await shop.receive(1, 2, BAD)
        assert answers == [SUCCESS, SUCCESS, RETRY]
        assert await shop.receive(BAD) == [SUCCESS]
        assert shop.dead == [(BAD, "TimeoutError", "2")]


async def test_a_store_that_is_away_is_asked_no_more_often_than_it_must(shop: Shop) -> None:
    async with shop.process():
        shop.store = _away
        assert set(await shop.receive(*range(40))) == {RETRY}
        assert list(map(len, shop.lists)) == [1, 39, 1, 1]
        shop.store = to_document if shop.look is in_document else to_table
        assert set(await shop.receive(*range(40))) == {SUCCESS}
        assert (sorted(await shop.sold()), shop.dead) == (list(range(40)), [])


async def _away(_numbers: list[int], _context: Any) -> None:
    raise SidecarUnavailable("away")


async def test_data_that_cannot_be_read_is_a_dead_letter_of_its_own(shop: Shop) -> None:
    async with shop.process():
        wrong = shop.service.ingress.deliver(PATH, body(7, data={"number": "seven"}))
        answers = await asyncio.gather(wrong, *(shop.service.ingress.deliver(PATH, body(n)) for n in range(5)))
        assert set(answers) == {SUCCESS}
        assert sorted(await shop.sold()) == list(range(5))
        [letter] = shop.sidecar.broker.events("deadletter.shop")
        assert letter["failureclass"] == "MalformedEvent"


async def test_what_comes_again_counts_a_single_time_while_it_waits_and_after_a_crash(shop: Shop) -> None:
    async with shop.process():
        assert set(await shop.receive(1, 2, 2, 3, 1, 2)) == {SUCCESS}
    async with shop.process():  # the answers never arrived
        assert set(await shop.receive(3, 4, 2, 1, 5)) == {SUCCESS}
        assert sorted(await shop.sold()) == [1, 2, 3, 4, 5]


async def test_two_replicas_receive_the_same_events(shop: Shop) -> None:
    async with shop.process() as one, shop.process() as other:
        existing = shop.receive(*reversed(range(30)), service=other)
        answers = await asyncio.gather(shop.receive(*range(30), service=one), existing)
        assert {item for part in answers for item in part} == {SUCCESS}
        assert sorted(await shop.sold()) == list(range(30))


@pytest.mark.parametrize(
    ("limits", "most"),
    [
        ({"max_concurrency": 3}, 3),
        ({"rate_limit": RateLimit(1000.0)}, 25),
        ({"ordering": Ordering("key")}, 1),
        ({"ordering": Ordering("key", "correlationid")}, 5),
    ],
)
async def test_limits_hold(shop: Shop, limits: dict[str, Any], most: int) -> None:
    shop.policy = limits
    async with shop.process():
        numbers = range(25)
        deliver = shop.service.ingress.deliver
        await asyncio.gather(*(deliver(PATH, body(number, correlationid=f"c-{number % 5}")) for number in numbers))
        result = await shop.sold()
    assert sorted(result) == list(numbers)
    assert max(map(len, shop.lists)) <= most
    if "ordering" in limits:
        assert all(len({number % 5 for number in item}) == len(item) for item in shop.lists)
        by_key = [[number for number in result if number % 5 == key] for key in range(5)]
        assert all(item == sorted(item) for item in by_key)


class PerShop(Event):
    sold: tuple[int, ...] = ()


async def test_every_list_with_one_key_has_its_own_document() -> None:
    handlers, lists = Handlers(), []

    @handlers.batch(Sold, key=lambda item: item.shop)
    async def handle(events: list[Sold], context: Any) -> None:
        lists.append(len(events))
        [name] = {item.shop for item in events}
        till = await context.load(PerShop, name) or PerShop()
        await asyncio.sleep(0.002)
        context.save(name, PerShop(sold=(*till.sold, *(item.number for item in events))))

    shop = Shop(to_document, in_document, None)
    async with shop.process(handlers) as service:
        of = {number: f"s-{number % 4}" for number in range(40)}
        bodies = [body(n, subject=name, data={"number": n, "shop": name}) for n, name in of.items()]
        assert set(await asyncio.gather(*(service.ingress.deliver(PATH, item) for item in bodies))) == {SUCCESS}
        for name, numbers in itertools.groupby(sorted(of, key=of.__getitem__), key=of.__getitem__):

            async def look(key: str, context: Any) -> PerShop:
                return await context.load(PerShop, key) or PerShop()

            assert (await service.execute(look, name)).sold == tuple(numbers)
    assert len(lists) == 8, "of each key the first alone, then all that had come meanwhile"


async def test_a_handler_of_any_type_receives_batches_too(shop: Shop) -> None:
    handlers, kept = Handlers(), []

    @handlers.any("sold", batch_size=50)
    async def keep(events: list[Received], context: Any) -> None:
        await asyncio.sleep(0.002)
        await shop.store([json.loads(item.body)["data"]["number"] for item in events], context)
        kept.append(len(events))

    async with shop.process(handlers):
        assert set(await shop.receive(*range(40), 3)) == {SUCCESS}
        assert sorted(await shop.sold()) == list(range(40))
    assert len(kept) <= 4


async def test_events_of_several_types_with_one_key_share_a_batch_and_keep_their_metadata() -> None:
    handlers, lists = Handlers(), list[list[tuple[str, str]]]()

    @handlers.batch(Sold, Returned, key=lambda item: item.shop, linger=0.2)
    async def handle(events: list[Sold | Returned], context: Any) -> None:
        names = [type(item).__name__ for item in events]
        lists.append(list(zip(names, (item.id for item in context.batch_metadata), strict=True)))
        context.save("main", await context.load(Till, "main") or Till())

    shop = Shop(to_document, in_document, None)
    async with shop.process(handlers) as service:
        paths = [(PATH, "shop.itemSold"), (RETURNED, "shop.itemReturned"), (PATH, "shop.itemSold")]
        deliveries = [
            service.ingress.deliver(path, body(number, type=kind)) for number, (path, kind) in enumerate(paths)
        ]
        assert set(await asyncio.gather(*deliveries)) == {SUCCESS}
    assert lists == [[("Sold", "e-0"), ("Returned", "e-1"), ("Sold", "e-2")]]


async def test_an_event_whose_key_cannot_be_read_fails_alone(shop: Shop) -> None:
    handlers, lists = Handlers(), list[list[int]]()

    @handlers.batch(Sold, key=lambda item: item.shop, linger=0.2)
    async def handle(events: list[Sold], context: Any) -> None:
        lists.append([item.number for item in events])
        await shop.store(lists[-1], context)

    async with shop.process(handlers) as service:
        unreadable = body(1, data={"number": "none"})
        deliveries = [service.ingress.deliver(PATH, item) for item in (body(0), unreadable, body(2))]
        assert set(await asyncio.gather(*deliveries)) == {SUCCESS}
    assert lists == [[0, 2]]
    [letter] = shop.sidecar.broker.events("deadletter.shop")
    assert letter["originalid"] == "e-1"


def keeping(shop: Shop, linger: float) -> tuple[Handlers, list[int]]:
    """Return handlers that store events in batches that wait for more, and the sizes of their batches."""
    handlers, kept = Handlers(), list[int]()

    @handlers.batch(Sold, batch_size=50, linger=linger)
    async def keep(events: list[Sold], context: Any) -> None:
        await shop.store([item.number for item in events], context)
        kept.append(len(events))

    return handlers, kept


async def test_a_batch_waits_for_further_events(shop: Shop) -> None:
    handlers, kept = keeping(shop, 0.2)
    async with shop.process(handlers):
        assert set(await shop.receive(0, 1, 2, 3)) == {SUCCESS}
        assert sorted(await shop.sold()) == [0, 1, 2, 3]
    assert kept == [4]


async def test_a_large_batch_waits_for_no_more_although_events_keep_coming(shop: Shop) -> None:
    handlers, kept = keeping(shop, 0.2)
    async with shop.process(handlers), asyncio.timeout(60), asyncio.TaskGroup() as group:
        for number in itertools.takewhile(lambda _: not kept, itertools.count()):
            group.create_task(shop.receive(number))
            await asyncio.sleep(0.01)
    assert kept[0] >= 16


async def test_an_event_that_has_waited_at_the_broker_waits_for_no_other(shop: Shop) -> None:
    handlers, kept = keeping(shop, 3600.0)
    async with shop.process(handlers) as service:
        late = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
        assert await service.ingress.deliver(PATH, body(0, time=late)) == SUCCESS
    assert kept == [1]


async def test_a_replayed_event_waits_for_no_other(shop: Shop) -> None:
    handlers, kept = keeping(shop, 3600.0)
    async with shop.process(handlers) as service:
        assert await service.ingress.deliver(REPLAY_PATH, body(0, replayto="sold", replayid="r")) == SUCCESS
    assert kept == [1]
