"""pickup as it runs: planned from its own contracts, fed with its producers' published examples, asked over HTTP."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from tests.support.planned import PATIENCE, Planned, fact

from pickup.api import ERRORS, router
from pickup.handlers import handlers
from pickup.settings import settings
from tidings import Service
from tidings.fastapi import create_app
from tidings.testing import MemoryBroker, MemorySidecar, MemoryStore, lifespan, post

ORDER = "order-17"


class Counterside(Planned):
    """The service on a broker of its own, and what a test says to it and hears from it."""

    def __init__(self, *, atomic: bool = True) -> None:
        super().__init__("pickup", MemoryBroker())
        self.sidecar = MemorySidecar("pickup", self.broker, MemoryStore(atomic=atomic))
        self.service: Service
        self.http: httpx2.AsyncClient

    async def run(self) -> AsyncIterator["Counterside"]:
        self.service = Service("pickup", handlers, sidecar=self.sidecar, policy=self.policy)
        app = create_app(self.service, [router], errors=ERRORS)
        self.attach(app)
        transport = httpx2.ASGITransport(app)
        async with lifespan(app), httpx2.AsyncClient(transport=transport, base_url="http://pickup") as self.http:
            yield self

    async def shelf(self) -> list[dict[str, Any]]:
        while (answer := await self.http.get("/shelf")).status_code == 503:  # noqa: ASYNC110 - the fault hit it
            await asyncio.sleep(0.005)
        result: list[dict[str, Any]] = answer.json()["orders"]
        return result

    async def until_shelf(self, *order_ids: str) -> list[dict[str, Any]]:
        for _ in range(PATIENCE):
            result = await self.shelf()
            if {item["orderId"] for item in result} == set(order_ids):
                return result
            await asyncio.sleep(0.005)
        pytest.fail(f"on the shelf are {result}")

    async def shelved(self) -> dict[str, Any]:
        await self.receive(confirmed(), boxed())
        await self.until(lambda: self.published_data("orderShelved"))
        await self.until_shelf(ORDER)
        return self.published_data("orderShelved")[0]


def confirmed(order_id: str = ORDER, fulfilment: str = "pickup") -> bytes:
    customer = {"customerId": "c-1", "name": "Ann", "email": "ann@pizza.example"}
    return fact("orders.orderConfirmed", 2, orderId=order_id, fulfilment=fulfilment, customer=customer)


def boxed(order_id: str = ORDER, fulfilment: str = "pickup") -> bytes:
    return fact("kitchen.pizzaBoxed", 1, orderId=order_id, fulfilment=fulfilment, boxes=2)


def cancelled(order_id: str = ORDER, stage: str = "preparing") -> bytes:
    return fact("orders.orderCancelled", 1, orderId=order_id, stage=stage)


@pytest.fixture(autouse=True)
def environment(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):
    for name, value in getattr(request, "param", {}).items():
        monkeypatch.setenv(f"PICKUP_{name}", value)
    settings.cache_clear()
    yield
    settings.cache_clear()


@pytest.fixture(params=[True, False], ids=["atomic store", "store like Redis"])
async def counter(request: pytest.FixtureRequest) -> AsyncIterator[Counterside]:
    async for running in Counterside(atomic=request.param).run():
        yield running


AUTOPILOT = pytest.mark.parametrize("environment", [{"AUTOPILOT": "true", "PACE": "0"}], indirect=True)
IMPATIENT = pytest.mark.parametrize("environment", [{"EXPIRY": "1"}], indirect=True)


@pytest.mark.parametrize("facts", [[confirmed(), boxed()], [boxed(), confirmed()]], ids=["in order", "boxed first"])
async def test_an_order_is_shelved_a_single_time_despite_reordered_and_repeated_events(
    counter: Counterside, facts: list[bytes]
):
    await counter.receive(*facts, *facts)
    (place,) = await counter.until_shelf(ORDER)
    (published,) = counter.published_data("orderShelved")
    assert (published["orderId"], published["shelf"]) == (ORDER, place["shelf"])
    assert (place["customerName"], place["boxes"]) == ("Ann", 2)
    assert "code" not in place
    (event,) = counter.broker.events("pickup.orderShelved.v1")
    assert (event["subject"], event["correlationid"]) == (ORDER, f"correlation of {ORDER}")


async def test_orders_for_delivery_never_reach_the_counter(counter: Counterside):
    await counter.receive(confirmed("to-deliver", "delivery"), boxed("to-deliver", "delivery"), confirmed(), boxed())
    await counter.until_shelf(ORDER)
    paths = Counter(delivery.path for delivery in counter.broker.deliveries)
    assert paths["/events/ignored"] == 2
    assert (await counter.http.get("/orders/to-deliver")).status_code == 404
    assert counter.broker.events("deadletter.pickup") == []


async def test_an_order_that_a_filter_would_have_kept_out_changes_nothing(counter: Counterside):
    for body, topic in [
        (confirmed(fulfilment="delivery"), "orders.orderConfirmed.v2"),
        (boxed(fulfilment="delivery"), "kitchen.pizzaBoxed.v1"),
    ]:
        assert await post(counter.service.ingress, f"/events/{topic}", body) == (200, b'{"status":"SUCCESS"}')
    assert (await counter.http.get(f"/orders/{ORDER}")).status_code == 404


async def test_the_customer_collects_with_the_code_and_asking_again_changes_nothing(counter: Counterside):
    published = await counter.shelved()
    for _ in range(2):
        answer = await counter.http.post(f"/orders/{ORDER}/collect", json={"code": published["code"].lower()})
        assert (answer.status_code, answer.json()["status"]) == (200, "collected")
    await counter.until(lambda: counter.published_data("orderCollected"))
    await counter.until_shelf()
    (event,) = counter.broker.events("pickup.orderCollected.v1")
    assert event["correlationid"] == f"correlation of {ORDER}"


@pytest.mark.parametrize(
    ("order_id", "body", "status", "detail"),
    [
        ("nowhere", {"code": "AAAAA"}, 404, "no pickup of order nowhere"),
        (ORDER, {"code": "AAAAA"}, 403, "'AAAAA' is not the code"),
        (ORDER, {"code": ""}, 422, "body.code"),
        (ORDER, {}, 422, "body.code"),
    ],
)
async def test_rejections_have_a_reason(counter: Counterside, order_id: str, body: Any, status: int, detail: str):
    await counter.shelved()
    answer = await counter.http.post(f"/orders/{order_id}/collect", json=body)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert detail in answer.json()["detail"]
    assert counter.published_data("orderCollected") == []


async def test_an_order_that_has_not_arrived_cannot_be_collected(counter: Counterside):
    await counter.receive(confirmed())
    answer = await counter.http.post(f"/orders/{ORDER}/collect", json={"code": "AAAAA"})
    assert (answer.status_code, answer.json()["detail"][-34:]) == (409, "the kitchen is still working on it")


@pytest.mark.parametrize("after", [0, 1, 2], ids=["first of all", "when confirmed", "on the shelf"])
async def test_a_cancelled_order_is_not_handed_out(counter: Counterside, after: int):
    facts = [confirmed(), boxed()]
    facts.insert(after, cancelled())
    await counter.receive(*facts)
    answer = await counter.http.post(f"/orders/{ORDER}/collect", json={"code": "AAAAA"})
    assert (answer.status_code, answer.json()["detail"][-16:]) == (409, "it was cancelled")
    await counter.until_shelf()


async def test_an_order_cancelled_when_placed_leaves_nothing_behind(counter: Counterside):
    await counter.receive(cancelled(stage="placed"))
    assert (await counter.http.get(f"/orders/{ORDER}")).status_code == 404


@AUTOPILOT
async def test_the_autopilots_customers_come_for_all_of_a_burst(counter: Counterside):
    orders = [f"order-{number}" for number in range(200)]
    await counter.receive(*(item(order_id) for order_id in orders for item in (boxed, confirmed)))
    await counter.until(lambda: len(counter.published_data("orderCollected")) == len(orders))
    await counter.until_shelf()
    assert sorted(item["orderId"] for item in counter.published_data("orderCollected")) == sorted(orders)


@IMPATIENT
async def test_an_uncollected_order_expires(counter: Counterside):
    await counter.receive(confirmed(), boxed())
    await counter.until(lambda: counter.published_data("collectionExpired"))
    await counter.until_shelf()
    shown = (await counter.http.get(f"/orders/{ORDER}")).json()
    assert (shown["status"], shown["orderId"]) == ("expired", ORDER)
    await counter.receive(cancelled())  # what orders makes of it
    assert (await counter.http.get(f"/orders/{ORDER}")).json()["status"] == "expired"


@IMPATIENT
async def test_an_order_that_was_collected_does_not_expire(counter: Counterside):
    await counter.receive(confirmed(), boxed())
    await counter.until(lambda: counter.published_data("orderShelved"))
    code = counter.published_data("orderShelved")[0]["code"]
    assert (await counter.http.post(f"/orders/{ORDER}/collect", json={"code": code})).status_code == 200
    await counter.until(lambda: not counter.service.outbox.depth)  # the time was over, and nothing waits any more
    assert (len(counter.published_data("orderCollected")), counter.published_data("collectionExpired")) == (1, [])


@AUTOPILOT
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("skip", range(10))
async def test_a_failing_sidecar_loses_and_doubles_nothing(counter: Counterside, skip: int, when: Any):
    await counter.receive(confirmed())
    counter.sidecar.fail(skip=skip, times=2, when=when)
    await counter.receive(boxed())
    await counter.until(lambda: counter.published_data("orderCollected"))
    await counter.until_shelf()
    assert (len(counter.published_data("orderShelved")), len(counter.published_data("orderCollected"))) == (1, 1)
