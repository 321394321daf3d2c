"""Orders in coupled mode: an order is placed only if payments, kitchen, loyalty and notifications all answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx2
import pytest
from pydantic import SecretStr

from orders.handlers import handlers
from orders.main import application
from orders.settings import OrdersSettings
from orders.use_cases.coupled import Collaborators
from tidings import Service, Settings
from tidings.testing import MemorySidecar, lifespan

SETTINGS = OrdersSettings(
    mode="coupled",
    payments_url="http://payments",
    kitchen_url="http://kitchen",
    loyalty_url="http://loyalty",
    notifications_url="http://notifications",
)
RECIPE = {"sku": "m", "name": "M", "priceCents": 950, "available": True, "publishedAt": "2026-11-23T12:00:00Z"}
ORDER = {
    "customer": {"customerId": "ada", "name": "Ada", "email": "ada@example.org"},
    "fulfilment": "pickup",
    "lines": [{"sku": "m", "quantity": 1}],
    "paymentToken": "tok_ok",
}


class World:
    """Orders and the four services that it calls."""

    def __init__(self) -> None:
        self.sidecar = MemorySidecar("orders")
        self.calls: list[httpx2.Request] = []
        self.answers: dict[str, httpx2.Response | Exception] = {}
        self.payment = {"status": "authorised"}
        self.meanwhile: Callable[[str], Awaitable[object]] | None = None  # what else happens to the order by its id
        self.service = Service(
            "orders", handlers, sidecar=self.sidecar, settings=Settings(app_api_token=SecretStr("secret"))
        )
        token, transport = SecretStr("secret"), httpx2.MockTransport(self._answer)
        self.app = application(self.service, SETTINGS, Collaborators(SETTINGS, token, transport))
        self.http = httpx2.AsyncClient(transport=httpx2.ASGITransport(self.app), base_url="http://orders")

    async def _answer(self, request: httpx2.Request) -> httpx2.Response:
        self.calls.append(request)
        if request.url.path.startswith("/payments/") and self.meanwhile is not None:
            await self.meanwhile(request.url.path.removeprefix("/payments/"))
        prepared = self.answers.get(request.url.host)
        if isinstance(prepared, Exception):
            raise prepared
        if prepared is not None:
            return prepared
        return httpx2.Response(200, json={"status": "SUCCESS"} if request.method == "POST" else self.payment)

    async def place(self, **headers: str) -> httpx2.Response:
        return await self.http.post("/orders", json=ORDER, headers=headers)

    async def receive(self, kind: str, **data: Any) -> None:
        event = {"id": kind, "source": "t", "type": kind, "specversion": "1.0", "version": "1", "data": data}
        answer = await self.http.post(
            f"/events/{kind}.v1", content=json.dumps(event), headers={"dapr-api-token": "secret"}
        )
        assert answer.json() == {"status": "SUCCESS"}

    async def published(self, topic: str) -> list[dict[str, Any]]:
        for _ in range(50):
            await asyncio.sleep(0)
        return self.sidecar.broker.events(topic)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    async with lifespan(world.app), world.http:
        await world.receive("menu.recipePublished", **RECIPE)
        yield world


async def test_all_four_are_asked_one_after_the_other(world: World):
    answer = await world.place()
    order_id = answer.json()["orderId"]
    assert (answer.status_code, answer.json()["status"]) == (202, "confirmed")
    assert [f"{call.method} {call.url}" for call in world.calls] == [
        "POST http://payments/events/payments.takePayment.v1",
        f"GET http://payments/payments/{order_id}",
        "POST http://kitchen/events/orders.orderConfirmed.v2",
        "GET http://loyalty/members/ada",
        "POST http://notifications/events/notifications.sendEmail.v1",
    ]
    assert {call.headers["dapr-api-token"] for call in world.calls} == {"secret"}
    events = [json.loads(call.content) for call in world.calls if call.method == "POST"]
    assert [event["correlationid"] for event in events] == [order_id] * 3
    assert events[1]["data"]["lines"][0]["sku"] == "m"
    # What nobody waits for is told as ever; what was asked for over HTTP is not asked for a second time.
    assert (
        len(await world.published("orders.orderPlaced.v1"))
        == len(await world.published("orders.orderConfirmed.v2"))
        == 1
    )
    assert await world.published("payments.takePayment.v1") == await world.published("notifications.sendEmail.v1") == []


@pytest.mark.parametrize("name", ["payments", "kitchen", "loyalty", "notifications"])
@pytest.mark.parametrize(
    "answer",
    [
        httpx2.ConnectError("nobody listens"),
        httpx2.ReadTimeout("too slow"),
        httpx2.Response(500),
        httpx2.Response(200, text="no JSON"),
    ],
    ids=["down", "slow", "broken", "senseless"],
)
async def test_any_of_the_four_fails_the_order(world: World, name: str, answer: httpx2.Response | Exception):
    world.answers[name] = answer
    refused = await world.place()
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert refused.json()["detail"].startswith(f"{name} did not answer")
    [cancelled] = await world.published("orders.orderCancelled.v1")  # payments gives the money back, the kitchen stops
    assert cancelled["data"]["reason"] == "serviceUnavailable"
    emails = [item["data"]["template"] for item in await world.published("notifications.sendEmail.v1")]
    assert emails == ([] if name == "payments" else ["orderCancelled"])  # nobody is written to who has not paid


async def test_an_event_that_is_not_handled_immediately_fails_the_order(world: World):
    world.answers["kitchen"] = httpx2.Response(200, json={"status": "RETRY"})
    assert "answered {'status': 'RETRY'}" in (await world.place()).json()["detail"]


async def test_a_refused_payment_is_an_order_that_has_ended(world: World):
    world.payment = {"status": "refused"}
    answer = await world.place()
    assert (answer.status_code, answer.json()["status"]) == (202, "cancelled")
    assert [call.url.host for call in world.calls] == ["payments", "payments"]


@pytest.mark.parametrize("payment", [{}, {"status": "expected"}])
async def test_without_an_authorisation_nothing_is_confirmed(world: World, payment: dict[str, str]):
    world.payment = payment
    answer = await world.place()
    assert (answer.status_code, "neither authorised nor refused" in answer.json()["detail"]) == (503, True)
    assert await world.published("orders.orderConfirmed.v2") == []


async def test_a_customer_whom_loyalty_does_not_know_yet_is_no_failure(world: World):
    world.answers["loyalty"] = httpx2.Response(404)
    assert (await world.place()).json()["status"] == "confirmed"


async def test_the_same_key_makes_no_further_calls(world: World):
    first = await world.place(**{"Idempotency-Key": "k"})
    calls = len(world.calls)
    assert (await world.place(**{"Idempotency-Key": "k"})).json() == first.json()
    assert len(world.calls) == calls


async def test_the_payments_own_event_may_come_first(world: World):
    world.meanwhile = lambda order_id: world.receive("payments.paymentAuthorised", orderId=order_id)
    assert (await world.place()).json()["status"] == "confirmed"
    assert len(await world.published("orders.orderConfirmed.v2")) == 1
    # The e-mail has been asked for both ways, under the same id: notifications sends it once.
    asked = [json.loads(world.calls[-1].content), *await world.published("notifications.sendEmail.v1")]
    assert len({item["data"]["emailId"] for item in asked}) == 1


async def test_an_order_that_is_completed_meanwhile_is_not_called_failed(world: World):
    async def all_the_way(order_id: str) -> None:
        await world.receive("payments.paymentAuthorised", orderId=order_id)
        await world.receive("pickup.orderCollected", orderId=order_id)

    world.meanwhile = all_the_way
    world.answers["loyalty"] = httpx2.ConnectError("nobody listens")
    answer = await world.place()
    assert (answer.status_code, answer.json()["status"]) == (202, "completed")


async def test_a_customer_who_cancels_meanwhile_ends_the_calls(world: World):
    world.meanwhile = lambda order_id: world.http.post(f"/orders/{order_id}/cancel")
    assert (await world.place()).json()["status"] == "cancelled"
    assert {call.url.host for call in world.calls} == {"payments"}
