"""Loyalty between its sidecar's twin and the SaaS as the simulator plays it: nothing lost, nothing given twice."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any, Literal

import httpx2
import pytest
from simulators.saas import create
from tests.support.planned import PATIENCE, Planned, example, fact

from loyalty.adapters.saas import Saas
from loyalty.handlers import handlers, queue
from loyalty.main import application
from loyalty.settings import LoyaltySettings
from tidings import Service, Settings
from tidings.testing import Crash, MemoryBroker, MemorySidecar, MemoryStore, lifespan


class Wire(httpx2.AsyncBaseTransport):
    """The way to the SaaS, which can be cut: before a call arrives, or after it did and before the answer is back."""

    def __init__(self) -> None:
        self._saas = httpx2.ASGITransport(create())
        self.cut_before = self.cut_after = 0
        self.calls = 0
        self.answered: Callable[[], object] = lambda: None
        """Called once, after the next answer of the SaaS and before loyalty has it."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if request.url.path.startswith("/api/"):
            self.calls += 1
            if self.cut_before:
                self.cut_before -= 1
                raise httpx2.ConnectError("cut before")
        answer = await self._saas.handle_async_request(request)
        if request.url.path.startswith("/api/") and self.cut_after:
            self.cut_after -= 1
            raise httpx2.ReadError("cut after")
        if request.url.path.startswith("/api/"):
            self.answered, answered = (lambda: None), self.answered
            answered()
        return answer


class Loyalty(Planned):
    """One run of the service, and what a test says to it and hears from it."""

    def __init__(self, broker: MemoryBroker, store: MemoryStore, wire: Wire, **chosen: object) -> None:
        settings = LoyaltySettings.model_validate({"breaker_pause": 0.05, "deadline": 1.0, "rate": 10_000, **chosen})
        super().__init__("loyalty", broker)
        self.wire = wire
        self.sidecar = MemorySidecar("loyalty", broker, store)
        saas = Saas(settings, wire)
        self.service = Service(
            "loyalty",
            [*handlers, *queue(saas, settings.concurrency)],
            settings=Settings(tidings_instance="loyalty-0", tidings_drain=0.1),
            sidecar=self.sidecar,
            policy=self.policy,
        )
        self.app = application(self.service, saas)
        self.api = httpx2.AsyncClient(transport=httpx2.ASGITransport(self.app), base_url="http://loyalty")
        self.control = httpx2.AsyncClient(transport=wire, base_url="http://saas")

    async def fault(self, kind: str, **how: float) -> None:
        assert (await self.control.put("/control", json={"fault": kind, **how})).status_code == 200

    async def counts(self) -> dict[str, Any]:
        return dict((await self.control.get("/control")).json())

    async def idle(self) -> None:
        """Wait until the queue is worked off."""
        await self.until(lambda: not self.service.outbox.depth)

    async def look(self, path: str) -> Any:
        return (await self.api.get(path)).json()


Start = Callable[..., Any]


@pytest.fixture(params=[True, False], ids=["atomic store", "store like Redis"])
async def start(request: pytest.FixtureRequest) -> AsyncIterator[Start]:
    """Start the service: again on what it left, after `await loyalty.stop()`."""
    broker, store, wire = MemoryBroker(), MemoryStore(atomic=request.param), Wire()
    async with AsyncExitStack() as stack:

        async def run(**chosen: object) -> Loyalty:
            loyalty = Loyalty(broker, store, wire, **chosen)
            life = AsyncExitStack()
            await life.enter_async_context(loyalty.api)
            await life.enter_async_context(loyalty.control)
            await life.enter_async_context(lifespan(loyalty.app))
            loyalty.stop = life.aclose  # type: ignore[attr-defined]
            stack.push_async_callback(life.aclose)
            loyalty.attach(loyalty.app)
            return loyalty

        yield run


def completed(order: str = "o-1", customer: str = "ada", cents: int = 1299, identity: str | None = None) -> bytes:
    """Return an event of the orders service, with changes."""
    who = {**example("orders.orderCompleted", 1)["customer"], "customerId": customer}
    return fact("orders.orderCompleted", 1, identity=identity or "", orderId=order, totalCents=cents, customer=who)


async def test_a_completed_order_is_worth_its_points_a_single_time(start: Start):
    loyalty = await start()
    same = completed()
    await loyalty.receive(same, same, completed(), completed("o-2", cents=700))
    await loyalty.idle()
    published = {item["orderId"]: item for item in loyalty.published_data("pointsAdded")}
    assert {order: item["points"] for order, item in published.items()} == {"o-1": 12, "o-2": 7}
    assert {item["balance"] for item in published.values()} < {7, 12, 19}
    assert (await loyalty.look("/members/ada"))["balance"] == 19
    (first, *_) = [event for event in loyalty.broker.events("loyalty.pointsAdded.v1") if event["data"]["points"] == 12]
    assert (first["subject"], first["correlationid"]) == ("ada", "correlation of o-1")
    counts = await loyalty.counts()
    assert (counts["gifts"], counts["points"], counts["doubleGifts"]) == (2, 19, 0)


async def test_an_order_below_a_euro_is_worth_nothing(start: Start):
    loyalty = await start()
    await loyalty.receive(completed(cents=99))
    await loyalty.idle()
    assert (await loyalty.counts())["calls"] == 0
    unknown = await loyalty.api.get("/members/ada")
    assert (unknown.status_code, "no order of this customer" in unknown.json()["detail"]) == (404, True)


async def test_while_the_saas_is_away_points_wait_and_the_breaker_spares_it(start: Start):
    loyalty = await start(breaker_failures=3, breaker_pause=0.3)
    loyalty.wire.cut_before = 1_000_000
    clock = asyncio.get_running_loop().time
    began = clock()
    await loyalty.receive(*(completed(f"o-{number}") for number in range(40)))
    await loyalty.until(lambda: loyalty.wire.calls >= 3)
    for _ in range(PATIENCE):
        member = await loyalty.api.get("/members/ada")
        if member.is_success and member.json()["pointsWaiting"] == 480:
            break
        await asyncio.sleep(0.005)
    seen = await loyalty.look("/queue")
    assert (seen["depth"] >= 40, seen["breaker"]["state"] in ("open", "halfOpen")) == (True, True)
    assert seen["breaker"]["failures"] >= 3
    assert (await loyalty.look("/members/ada")) | {"changedAt": ""} == {
        "customerId": "ada",
        "balance": 0,
        "pointsWaiting": 480,
        "changedAt": "",
    }
    assert loyalty.wire.calls <= 3 + (clock() - began) / 0.3 + 1  # of 40 that wait, one finds out at a time
    loyalty.wire.cut_before = 0
    await loyalty.idle()
    assert len(loyalty.published_data("pointsAdded")) == 40
    member = await loyalty.look("/members/ada")
    assert (member["balance"], member["pointsWaiting"]) == (480, 0)
    assert await loyalty.look("/queue") == {
        "depth": 0,
        "breaker": {"state": "closed", "failures": 0, "triesAgainIn": 0.0},
    }


async def test_an_answer_that_got_lost_does_not_give_points_a_second_time(start: Start):
    loyalty = await start(breaker_failures=100)
    loyalty.wire.cut_after = 2
    await loyalty.receive(completed())
    await loyalty.idle()
    assert loyalty.wire.calls == 3
    assert [item["balance"] for item in loyalty.published_data("pointsAdded")] == [12]
    counts = await loyalty.counts()
    assert (counts["gifts"], counts["doubleGifts"]) == (1, 0)


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_commit_that_got_lost_does_not_give_points_a_second_time(
    start: Start, when: Literal["before", "after"]
):
    loyalty = await start()
    loyalty.wire.answered = lambda: loyalty.sidecar.fail("transact", when=when)
    await loyalty.receive(completed())
    await loyalty.idle()
    assert [item["balance"] for item in loyalty.published_data("pointsAdded")] == [12]
    counts = await loyalty.counts()
    assert (counts["calls"], counts["gifts"], counts["doubleGifts"]) == (
        2 if when == "before" else counts["calls"],
        1,
        0,
    )


async def test_what_waits_outlives_the_process(start: Start):
    first = await start()
    first.wire.cut_before = 1_000_000
    await first.receive(*(completed(f"o-{number}") for number in range(5)))
    await first.until(lambda: first.wire.calls)
    await first.stop()
    first.wire.cut_before = 0
    second = await start()
    await second.until(lambda: len(second.published_data("pointsAdded")) == 5)
    await second.idle()
    assert (await second.look("/members/ada"))["balance"] == 60
    assert (await second.counts())["doubleGifts"] == 0


async def test_a_death_between_the_call_and_the_commit_does_not_give_points_a_second_time(start: Start):
    first = await start()

    def die() -> None:
        first.sidecar.fail("transact", error=Crash())
        first.sidecar.fail(times=1_000_000)  # a dead process reads and writes nothing more

    first.wire.answered = die
    await first.receive(completed())
    await first.until(lambda: first.wire.calls)
    await first.stop()
    assert (first.wire.calls, first.published_data("pointsAdded")) == (1, [])
    second = await start()
    await second.until(lambda: second.published_data("pointsAdded"))
    await second.idle()
    assert [item["balance"] for item in second.published_data("pointsAdded")] == [12]
    counts = await second.counts()
    assert (counts["calls"], counts["gifts"], counts["doubleGifts"]) == (2, 1, 0)


async def test_a_pause_that_the_saas_asks_for_is_kept(start: Start):
    loyalty = await start()
    await loyalty.fault("throttle", seconds=1, times=1)
    began = asyncio.get_running_loop().time()
    await loyalty.receive(completed())
    await loyalty.idle()
    assert asyncio.get_running_loop().time() - began >= 0.95
    assert (await loyalty.counts())["answers"] == {"429": 1, "200": 1}
    assert len(loyalty.published_data("pointsAdded")) == 1


@pytest.mark.parametrize(("state", "reason"), [("unknown", "accountUnknown"), ("frozen", "accountClosed")])
async def test_points_that_are_refused_are_published_and_wait_no_longer(start: Start, state: str, reason: str):
    loyalty = await start()
    await loyalty.control.put("/control/accounts/eve", json={"state": state})
    await loyalty.receive(completed(customer="eve"), completed("o-2"))
    await loyalty.idle()
    (published,) = loyalty.published_data("pointsRejected")
    assert published | {"rejectedAt": ""} == {
        "customerId": "eve",
        "orderId": "o-1",
        "points": 12,
        "reason": reason,
        "rejectedAt": "",
    }
    eve = await loyalty.look("/members/eve")
    assert (eve["balance"], eve["pointsWaiting"]) == (0, 0)
    assert [item["orderId"] for item in loyalty.published_data("pointsAdded")] == ["o-2"]


async def test_a_burst_for_a_few_members_adds_up(start: Start):
    loyalty = await start()
    await loyalty.receive(*(completed(f"o-{number}", f"member-{number % 4}", 100 * number) for number in range(1, 121)))
    await loyalty.idle()
    balances = {f"member-{item}": sum(number for number in range(1, 121) if number % 4 == item) for item in range(4)}
    assert {name: (await loyalty.look(f"/members/{name}"))["balance"] for name in balances} == balances
    assert len(loyalty.published_data("pointsAdded")) == 120
