"""delivery as it runs: planned from its own contracts, fed with its producers' published examples, asked over HTTP."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
from pydantic import ValidationError
from tests.support.planned import PATIENCE, Planned, fact

from delivery.api import ERRORS, router
from delivery.domain import Roster
from delivery.handlers import handlers
from delivery.settings import DeliverySettings, settings
from delivery.use_cases.rostering import MAIN, open_roster
from tidings import Service, Settings, StateContext
from tidings.fastapi import create_app
from tidings.testing import MemoryBroker, MemorySidecar, MemoryStore, lifespan, post

ORDER = "order-17"


class Garage(Planned):
    """The service on a broker and store of its own, and what a test says to it and hears from it."""

    def __init__(self, *, atomic: bool = True) -> None:
        super().__init__("delivery", MemoryBroker())
        self.store = MemoryStore(atomic=atomic)
        self.sidecar: MemorySidecar
        self.service: Service
        self.http: httpx2.AsyncClient

    @asynccontextmanager
    async def running(self, instance: str = "delivery-0") -> AsyncIterator[httpx2.AsyncClient]:
        """Start an instance; the last one started is the one that the broker delivers to."""
        self.sidecar = MemorySidecar("delivery", self.broker, self.store)
        self.service = Service(
            "delivery",
            handlers,
            settings=Settings(tidings_instance=instance),
            sidecar=self.sidecar,
            policy=self.policy,
            startup_hook=open_roster,
        )
        app = create_app(self.service, [router], errors=ERRORS)
        self.attach(app)
        transport = httpx2.ASGITransport(app)
        async with lifespan(app), httpx2.AsyncClient(transport=transport, base_url="http://delivery") as self.http:
            yield self.http

    async def wait_published(self, name: str, *, times: int = 1) -> list[dict[str, Any]]:
        """Wait until a fact was published that often; gives what it said."""
        await self.until(lambda: len(self.published_data(name)) >= times)
        return self.published_data(name)

    async def until_roster(self, holds: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        for _ in range(PATIENCE):
            answer = await self.http.get("/drivers")
            if answer.status_code == 200 and holds(answer.json()):  # 503 where a test lets the store fail
                body: dict[str, Any] = answer.json()
                return body
            await asyncio.sleep(0.005)
        pytest.fail(f"the roster is {answer.text}")

    async def until_idle(self) -> None:
        """Wait until every driver on duty is free and no order waits."""
        await self.until_roster(lambda it: not it["waiting"] and not any(driver["orderId"] for driver in it["drivers"]))

    async def until_quiet(self) -> None:
        await self.until(lambda: not self.service.outbox.depth)

    async def comes(self, driver_id: str = "dan") -> None:
        answer = await self.http.post(f"/drivers/{driver_id}/on-duty", json={"name": driver_id.title()})
        assert answer.status_code == 200

    async def assigned(self) -> None:
        await self.comes()
        await self.receive(confirmed(), boxed())
        await self.wait_published("driverAssigned")

    async def step(self, step: str, body: Any = None, order_id: str = ORDER) -> httpx2.Response:
        return await self.http.post(f"/orders/{order_id}/{step}", json=body)

    async def status(self, order_id: str = ORDER) -> str:
        return str((await self.http.get(f"/orders/{order_id}")).json()["status"])


def confirmed(order_id: str = ORDER, fulfilment: str = "delivery", **changes: Any) -> bytes:
    address = {"street": "1 Elm Street", "city": "Leeds", "postcode": "LS1 1AA"}
    output = {"orderId": order_id, "fulfilment": fulfilment, "address": address, **changes}
    return fact("orders.orderConfirmed", 2, **output)


def boxed(order_id: str = ORDER, fulfilment: str = "delivery") -> bytes:
    return fact("kitchen.pizzaBoxed", 1, orderId=order_id, fulfilment=fulfilment, boxes=2)


def cancelled(order_id: str = ORDER, stage: str = "preparing") -> bytes:
    return fact("orders.orderCancelled", 1, orderId=order_id, stage=stage)


@pytest.fixture(autouse=True)
def environment(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):
    for name, value in getattr(request, "param", {}).items():
        monkeypatch.setenv(f"DELIVERY_{name}", value)
    settings.cache_clear()
    yield
    settings.cache_clear()


@pytest.fixture(params=[True, False], ids=["atomic store", "store like Redis"])
async def garage(request: pytest.FixtureRequest) -> AsyncIterator[Garage]:
    garage = Garage(atomic=request.param)
    async with garage.running():
        yield garage


def with_environment(**environment: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("environment", [environment], indirect=True)


AUTOPILOT = with_environment(AUTOPILOT="true", PACE="0", OPENING_DRIVERS="dan:Dan,eve:Eve,fay:Fay")


@pytest.mark.parametrize("facts", [[confirmed(), boxed()], [boxed(), confirmed()]], ids=["in order", "boxed first"])
async def test_an_order_completes_despite_reordered_and_repeated_events(garage: Garage, facts: list[bytes]):
    await garage.comes()
    await garage.receive(*facts, *facts)
    (published,) = await garage.wait_published("driverAssigned")
    assert (published["orderId"], published["driverId"], published["driverName"]) == (ORDER, "dan", "Dan")
    for step, status in [("collect", "collected"), ("deliver", "delivered")]:
        for _ in range(2):  # a driver with a bad connection says it twice
            answer = await garage.step(step)
            assert (answer.status_code, answer.json()["status"]) == (200, status)
    await garage.wait_published("orderDelivered")
    await garage.until_idle()
    assert [len(garage.published_data(name)) for name in ("driverAssigned", "orderCollected", "orderDelivered")] == [
        1,
        1,
        1,
    ]
    for name in ("driverAssigned", "orderCollected", "orderDelivered"):
        (event,) = garage.broker.events(f"delivery.{name}.v1")
        assert (event["subject"], event["correlationid"]) == (ORDER, f"correlation of {ORDER}")


async def test_the_next_order_keeps_its_own_correlation_though_another_one_freed_the_driver(garage: Garage):
    await garage.assigned()
    await garage.receive(confirmed("next"), boxed("next"))
    await garage.until_roster(lambda it: [item["orderId"] for item in it["waiting"]] == ["next"])
    await garage.step("collect")
    await garage.step("deliver")
    await garage.wait_published("driverAssigned", times=2)
    event = garage.broker.events("delivery.driverAssigned.v1")[1]
    assert (event["subject"], event["correlationid"]) == ("next", "correlation of next")


async def test_orders_for_pickup_never_reach_a_driver(garage: Garage):
    await garage.receive(confirmed("to-pick-up", "pickup"), boxed("to-pick-up", "pickup"))
    await garage.assigned()
    assert Counter(delivery.path for delivery in garage.broker.deliveries)["/events/ignored"] == 2
    assert (await garage.http.get("/orders/to-pick-up")).status_code == 404
    assert garage.broker.events("deadletter.delivery") == []


async def test_a_delivery_without_an_address_is_a_dead_letter_with_the_reason(garage: Garage):
    await garage.receive(confirmed(address=None))
    (dead,) = garage.broker.events("deadletter.delivery")
    assert dead["failurereason"] == f"order {ORDER} is for delivery but has no address"
    assert dead["failuresubscription"] == "delivery-order-confirmed"


@with_environment(PATIENCE="0.05")
async def test_without_a_driver_the_order_fails_and_waits_no_more(garage: Garage):
    await garage.receive(confirmed(), boxed())
    (published,) = await garage.wait_published("deliveryFailed")
    assert (published["orderId"], published["reason"]) == (ORDER, "noDriverAvailable")
    await garage.until_idle()
    await garage.receive(cancelled(stage="boxed"))  # what orders makes of it
    await garage.comes()
    shown = (await garage.http.get(f"/orders/{ORDER}")).json()
    assert (shown["status"], shown["failure"]) == ("failed", "noDriverAvailable")
    assert garage.published_data("driverAssigned") == []


@with_environment(PATIENCE="1")
async def test_an_order_that_has_its_driver_does_not_fail_for_want_of_one(garage: Garage):
    await garage.assigned()
    await garage.until_quiet()  # its patience was over, and nothing waits any more
    assert (await garage.status(), garage.published_data("deliveryFailed")) == ("assigned", [])


@pytest.mark.parametrize("collected", [False, True])
@pytest.mark.parametrize("reason", ["addressNotFound", "nobodyHome"])
async def test_a_driver_who_cannot_deliver_the_order_is_free_again(garage: Garage, reason: str, collected: bool):
    await garage.assigned()
    if collected:
        await garage.step("collect")
    for _ in range(2):
        assert (await garage.step("fail", {"reason": reason})).json()["failure"] == reason
    (published,) = await garage.wait_published("deliveryFailed")
    assert published["reason"] == reason
    await garage.until_idle()


@pytest.mark.parametrize(
    ("order_id", "step", "body", "status", "detail"),
    [
        ("nowhere", "collect", None, 404, "no delivery for order nowhere"),
        (ORDER, "deliver", None, 409, "order order-17 is assigned, not collected"),
        (ORDER, "fail", {"reason": "tired"}, 422, "body.reason"),
        (ORDER, "fail", {"reason": "noDriverAvailable"}, 422, "body.reason"),
    ],
)
async def test_rejections_have_a_reason(garage: Garage, order_id: str, step: str, body: Any, status: int, detail: str):
    await garage.assigned()
    answer = await garage.step(step, body, order_id)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert detail in answer.json()["detail"]
    assert await garage.status() == "assigned"


@pytest.mark.parametrize("before", [["confirm"], ["confirm", "box"], ["confirm", "box", "driver"]])
async def test_a_cancelled_order_goes_nowhere_and_holds_no_one(garage: Garage, before: list[str]):
    await garage.receive(confirmed())
    if "box" in before:
        await garage.receive(boxed())
    if "driver" in before:
        await garage.comes()
        await garage.wait_published("driverAssigned")
    await garage.receive(cancelled(), boxed())
    await garage.until_idle()
    assert await garage.status() == "cancelled"
    assert (await garage.step("collect")).status_code == 409


async def test_a_cancellation_that_comes_first_is_remembered_unless_nothing_can_follow(garage: Garage):
    await garage.comes()
    await garage.receive(cancelled(), confirmed(), boxed(), cancelled("never-confirmed", "placed"))
    assert await garage.status() == "cancelled"
    assert (await garage.http.get("/orders/never-confirmed")).status_code == 404
    await garage.until_idle()


async def test_a_driver_assigned_to_a_cancelled_order_is_released(garage: Garage):
    async def list_it_all_the_same(_message: object, context: StateContext) -> None:
        roster = await context.load(Roster, MAIN) or Roster()
        roster.waiting[ORDER] = None
        context.save(MAIN, roster)

    await garage.receive(confirmed(), boxed(), cancelled())
    await garage.until_idle()
    await garage.service.execute(list_it_all_the_same, None)
    await garage.comes()
    await garage.until_idle()
    assert garage.published_data("driverAssigned") == []


async def test_a_delivery_that_a_filter_would_have_kept_out_changes_nothing(garage: Garage):
    for body, topic in [
        (confirmed(fulfilment="pickup"), "orders.orderConfirmed.v2"),
        (boxed(fulfilment="pickup"), "kitchen.pizzaBoxed.v1"),
    ]:
        assert await post(garage.service.ingress, f"/events/{topic}", body) == (200, b'{"status":"SUCCESS"}')
    assert (await garage.http.get(f"/orders/{ORDER}")).status_code == 404


async def test_drivers_come_and_go_and_finish_what_they_have(garage: Garage):
    await garage.comes()
    await garage.assigned()
    await garage.comes("eve")
    assert (await garage.http.post("/drivers/eve/off-duty")).json() == {"driverId": "eve", "status": "gone"}
    assert (await garage.http.post("/drivers/eve/off-duty")).status_code == 404
    assert (await garage.http.post("/drivers/dan/off-duty")).json() == {"driverId": "dan", "status": "leaving"}
    await garage.step("collect")
    await garage.step("deliver")
    await garage.until_roster(lambda it: it["drivers"] == [])
    published = await garage.wait_published("driverWentOffDuty", times=2)
    assert [item["driverId"] for item in published] == ["eve", "dan"]
    assert [item["name"] for item in garage.published_data("driverCameOnDuty")] == ["Dan", "Eve"]


@pytest.mark.parametrize("driver_id", ["da n", "-", "d" * 65])
async def test_a_driver_needs_an_id_and_a_name(garage: Garage, driver_id: str):
    assert (await garage.http.post(f"/drivers/{driver_id}/on-duty", json={"name": "Dan"})).status_code == 422
    assert (await garage.http.post("/drivers/dan/on-duty", json={"name": " "})).status_code == 422


@AUTOPILOT
async def test_a_burst_is_delivered_by_three_drivers(garage: Garage):
    orders = [f"order-{number}" for number in range(200)]
    await garage.receive(*(item(order_id) for order_id in orders for item in (boxed, confirmed)))
    published = await garage.wait_published("orderDelivered", times=len(orders))
    assert sorted(item["orderId"] for item in published) == sorted(orders)
    assert Counter(item["driverId"] for item in published).keys() == {"dan", "eve", "fay"}
    await garage.until_idle()
    assert len(garage.published_data("driverAssigned")) == len(orders)


@AUTOPILOT
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("skip", range(0, 24, 2))
async def test_a_failing_sidecar_loses_and_doubles_nothing(garage: Garage, skip: int, when: Any):
    await garage.receive(confirmed())
    garage.sidecar.fail(skip=skip, times=2, when=when)
    await garage.receive(boxed())
    await garage.wait_published("orderDelivered")
    await garage.until_idle()
    assert [len(garage.published_data(name)) for name in ("driverAssigned", "orderCollected", "orderDelivered")] == [
        1,
        1,
        1,
    ]


@with_environment(AUTOPILOT="true", PACE="0.05", OPENING_DRIVERS="dan:Dan")
async def test_a_restart_in_the_middle_goes_on_where_it_was():
    garage = Garage()
    async with garage.running():
        await garage.receive(confirmed(), boxed())
        await garage.wait_published("driverAssigned")
    async with garage.running():
        await garage.wait_published("orderDelivered")
        await garage.until_idle()
    assert [len(garage.published_data(name)) for name in ("driverCameOnDuty", "orderCollected", "orderDelivered")] == [
        1,
        1,
        1,
    ]


@AUTOPILOT
async def test_two_instances_share_the_roster():
    garage = Garage()
    orders = [f"order-{number}" for number in range(40)]
    async with garage.running("delivery-0") as first, garage.running("delivery-1"):

        async def guests() -> None:
            for number in range(20):
                assert (await first.post(f"/drivers/guest-{number}/on-duty", json={"name": "Gus"})).status_code == 200
                assert (await first.post(f"/drivers/guest-{number}/off-duty")).status_code == 200

        burst = garage.receive(*(item(order_id) for order_id in orders for item in (boxed, confirmed)))
        await asyncio.gather(burst, guests())
        await garage.wait_published("orderDelivered", times=len(orders))
        roster = await garage.until_roster(lambda it: len(it["drivers"]) == 3 and not it["waiting"])
        await garage.until_idle()
    assert {driver["driverId"] for driver in roster["drivers"]} == {"dan", "eve", "fay"}
    assert len(garage.published_data("driverAssigned")) == len(orders)
    assert len(garage.published_data("driverCameOnDuty")) == len(garage.published_data("driverWentOffDuty")) + 3 == 23


@pytest.mark.parametrize("text", ["dan", "dan:", ":Dan", "dan:Dan,eve"])
def test_opening_drivers_that_cannot_be_read_are_named(monkeypatch: pytest.MonkeyPatch, text: str):
    monkeypatch.setenv("DELIVERY_OPENING_DRIVERS", text)
    with pytest.raises(ValidationError, match="write id:Name, separated by commas"):
        DeliverySettings()


@with_environment(OPENING_DRIVERS="dan:Dan")
async def test_opening_drivers_come_only_at_the_first_start():
    garage = Garage()
    async with garage.running() as http:
        await garage.wait_published("driverCameOnDuty")
        assert (await http.post("/drivers/dan/off-duty")).status_code == 200
    async with garage.running() as http:
        assert (await http.get("/drivers")).json() == {"drivers": [], "waiting": []}
    assert len(garage.published_data("driverCameOnDuty")) == 1
