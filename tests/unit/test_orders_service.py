"""The orders service as a whole, on the sidecar's twin: requests and events in, facts and commands out."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from pydantic import SecretStr

from orders.handlers import handlers
from orders.main import application
from orders.settings import OrdersSettings
from tidings import Service, Settings
from tidings.messages.envelope import decode
from tidings.testing import MemorySidecar, lifespan

MARGHERITA: dict[str, Any] = {
    "sku": "margherita",
    "name": "Margherita",
    "priceCents": 950,
    "available": True,
    "publishedAt": "2026-11-23T12:00:00Z",
}
TOKEN = "t0ken"
CUSTOMER = {"customerId": "ada", "name": "Ada", "email": "ada@example.org"}
ADDRESS = {"street": "12 Analytical Row", "city": "Utrecht", "postcode": "3511 AB"}
ORDER: dict[str, Any] = {
    "customer": CUSTOMER,
    "fulfilment": "delivery",
    "address": ADDRESS,
    "lines": [{"sku": "margherita", "quantity": 2}],
    "paymentToken": "tok_ok",
}


class Shop:
    """The running service, with the events it receives and publishes."""

    def __init__(self, **settings: Any) -> None:
        self.sidecar = MemorySidecar("orders")
        self.service = Service(
            "orders", handlers, sidecar=self.sidecar, settings=Settings(app_api_token=SecretStr(TOKEN))
        )
        self.app = application(self.service, OrdersSettings(**settings))
        own = {"dapr-api-token": TOKEN}
        self.http = httpx2.AsyncClient(transport=httpx2.ASGITransport(self.app), base_url="http://orders", headers=own)
        self._ids = map(str, itertools.count())

    async def receive(self, kind: str, *, id: str = "", **data: Any) -> str:  # noqa: A002 - the attribute's name
        """Deliver an event as the sidecar does; return the response to the sidecar."""
        event = {"id": id or next(self._ids), "source": "test", "type": kind, "specversion": "1.0", "version": "1"}
        body = json.dumps({**event, "correlationid": "c-1", "data": data}).encode()
        answer = await self.http.post(f"/events/{kind}.v1", content=body)
        return str(answer.json()["status"])

    async def place(self, **changes: Any) -> str:
        answer = await self.http.post("/orders", json={**ORDER, **changes})
        assert answer.status_code == 202, answer.text
        return str(answer.json()["orderId"])

    async def look(self, order_id: str) -> dict[str, Any]:
        answer = await self.http.get(f"/orders/{order_id}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def published(self, topic: str) -> list[dict[str, Any]]:
        """Return the events of a topic, after the outbox has published: it batches for 2 ms.

        Its depth does not say so: what is scheduled for later counts too.
        """
        await asyncio.sleep(0.03)
        return self.sidecar.broker.events(topic)

    async def emails(self) -> list[str]:
        return [item["data"]["template"] for item in await self.published("notifications.sendEmail.v1")]


@pytest.fixture
async def shop(request: pytest.FixtureRequest) -> AsyncIterator[Shop]:
    shop = Shop(**getattr(request, "param", {}))
    async with lifespan(shop.app), shop.http:
        assert await shop.receive("menu.recipePublished", **MARGHERITA) == "SUCCESS"
        yield shop


async def test_placing_publishes_the_fact_and_asks_for_the_payment(shop: Shop):
    answer = await shop.http.post("/orders", json=ORDER)
    order_id = answer.json()["orderId"]
    assert (answer.status_code, answer.headers["location"]) == (202, f"/orders/{order_id}")
    assert answer.json() == {"orderId": order_id, "status": "placed", "totalCents": 1900}
    [placed] = await shop.published("orders.orderPlaced.v1")
    lines = [{"sku": "margherita", "name": "Margherita", "quantity": 2, "unitPriceCents": 950}]
    assert (placed["subject"], placed["correlationid"], placed["source"]) == (order_id, order_id, "orders")
    assert placed["data"].pop("placedAt")
    assert placed["data"] == {
        "orderId": order_id,
        "customer": CUSTOMER,
        "fulfilment": "delivery",
        "address": ADDRESS,
        "lines": lines,
        "totalCents": 1900,
        "currency": "EUR",
    }
    [payment] = await shop.published("payments.takePayment.v1")
    assert payment["data"] == {
        "orderId": order_id,
        "customerId": "ada",
        "amountCents": 1900,
        "currency": "EUR",
        "paymentToken": "tok_ok",
    }
    assert "tok_ok" not in json.dumps(await shop.look(order_id))


@pytest.mark.parametrize(
    ("sent", "carried"),
    [
        (f"00-{'a' * 32}-{'b' * 16}-01".encode(), f"00-{'a' * 32}-{'b' * 16}-01"),
        (f"01-{'a' * 32}-{'b' * 16}-01-more".encode(), f"01-{'a' * 32}-{'b' * 16}-01-more"),
        (b"\x85", ""),
        (b"\xff\xfe", ""),
        (b"x" * 20_000, ""),
        (f"00-{'A' * 32}-{'b' * 16}-01".encode(), ""),
        (b"\x1b[31m", ""),
    ],
)
async def test_a_clients_header_makes_no_event_that_consumers_refuse(shop: Shop, sent: bytes, carried: str):
    answer = await shop.http.post("/orders", json=ORDER, headers=[(b"traceparent", sent)])
    assert answer.status_code == 202
    [placed] = await shop.published("orders.orderPlaced.v1")
    assert placed.get("traceparent", "") == carried
    assert decode(json.dumps(placed, ensure_ascii=False).encode()).id == placed["id"]


async def test_a_confirmed_order_is_published_in_both_versions_under_one_id(shop: Shop):
    order_id = await shop.place()
    await shop.receive("payments.paymentAuthorised", orderId=order_id, paymentId="p-1", amountCents=1900)
    [sparse], [fat] = await shop.published("orders.orderConfirmed.v1"), await shop.published("orders.orderConfirmed.v2")
    assert sparse["id"] == fat["id"]
    assert sorted(sparse["data"]) == ["confirmedAt", "orderId"]
    assert (fat["data"]["lines"][0]["quantity"], fat["data"]["address"]) == (2, ADDRESS)
    whole = await shop.look(order_id)  # what a reader of the sparse version comes for
    assert {name: whole[name] for name in fat["data"]} == fat["data"]
    [email] = await shop.published("notifications.sendEmail.v1")
    assert email["data"]["emailId"] == f"{order_id}-orderConfirmed"
    assert email["data"]["parameters"] == {
        "name": "Ada",
        "items": "2 x Margherita",
        "total": "19.00 EUR",
        "fulfilment": "delivery",
        "address": "12 Analytical Row, 3511 AB Utrecht",
    }


@pytest.mark.parametrize(
    ("fulfilment", "way"),
    [
        ("pickup", ["kitchen.preparationStarted", "kitchen.pizzaBoxed", "pickup.orderCollected"]),
        (
            "delivery",
            ["kitchen.preparationStarted", "kitchen.pizzaBoxed", "delivery.orderCollected", "delivery.orderDelivered"],
        ),
        ("delivery", ["delivery.orderDelivered", "delivery.orderCollected", "kitchen.pizzaBoxed"]),
    ],
)
async def test_to_the_customer(shop: Shop, fulfilment: str, way: list[str]):
    order_id = await shop.place(fulfilment=fulfilment)
    for report in ["payments.paymentAuthorised", *way]:
        assert await shop.receive(report, orderId=order_id) == "SUCCESS"
    whole = await shop.look(order_id)
    assert whole["status"] == "completed"
    [completed] = await shop.published("orders.orderCompleted.v1")
    assert (completed["data"]["customer"], completed["data"]["totalCents"]) == (CUSTOMER, 1900)
    assert completed["data"]["completedAt"] == whole["completedAt"]
    assert await shop.emails() == ["orderConfirmed", "orderCompleted"]


CONFIRM: tuple[str, dict[str, Any]] = ("payments.paymentAuthorised", {})
BOXED: tuple[str, dict[str, Any]] = ("kitchen.pizzaBoxed", {})


@pytest.mark.parametrize(
    ("reports", "reason", "stage"),
    [
        ([("payments.paymentRefused", {"reason": "cardDeclined"})], "paymentRefused", "placed"),
        ([CONFIRM, ("kitchen.orderRejected", {"reason": "kitchenClosed"})], "kitchenClosed", "confirmed"),
        ([CONFIRM, ("kitchen.orderRejected", {"reason": "itemSoldOut"})], "itemSoldOut", "confirmed"),
        ([CONFIRM, ("kitchen.orderRejected", {"reason": "ovenOnFire"})], "kitchenClosed", "confirmed"),
        ([CONFIRM, BOXED, ("pickup.collectionExpired", {})], "notCollected", "boxed"),
        ([CONFIRM, BOXED, ("delivery.deliveryFailed", {"reason": "noDriverAvailable"})], "noDriverAvailable", "boxed"),
        ([CONFIRM, ("delivery.deliveryFailed", {"reason": "nobodyHome"})], "deliveryFailed", "outForDelivery"),
    ],
)
async def test_a_failure_ends_the_order_and_the_customer_is_notified(
    shop: Shop, reports: list[tuple[str, dict[str, str]]], reason: str, stage: str
):
    order_id = await shop.place()
    for kind, more in [*reports, reports[-1]]:
        assert await shop.receive(kind, orderId=order_id, **more) == "SUCCESS"
    [cancelled] = await shop.published("orders.orderCancelled.v1")
    assert (cancelled["data"]["reason"], cancelled["data"]["stage"]) == (reason, stage)
    assert cancelled["data"]["customerId"] == "ada"
    emails = [item["data"] for item in await shop.published("notifications.sendEmail.v1")]
    if stage == "placed":
        assert emails == []  # not paid for
    else:
        assert (emails[-1]["template"], emails[-1]["parameters"]["reason"]) == ("orderCancelled", reason)
        assert emails[-1]["parameters"]["explanation"]
    assert (await shop.look(order_id))["cancellation"]["reason"] == reason


@pytest.mark.parametrize("shop", [{"payment_timeout": 0.05}], indirect=True)
async def test_a_payment_that_is_never_answered_ends_the_order(shop: Shop):
    hanging, paid = await shop.place(), await shop.place()
    await shop.receive("payments.paymentAuthorised", orderId=paid)
    async with asyncio.timeout(60):
        while not await shop.published("orders.orderCancelled.v1"):  # noqa: ASYNC110 - what is told is what counts
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    [cancelled] = await shop.published("orders.orderCancelled.v1")
    assert (cancelled["subject"], cancelled["data"]["reason"]) == (hanging, "paymentTimeout")
    assert (await shop.look(paid))["status"] == "confirmed"
    assert await shop.receive("payments.paymentAuthorised", orderId=hanging) == "SUCCESS"  # too late
    assert (await shop.look(hanging))["status"] == "cancelled"


@pytest.mark.parametrize(
    ("reports", "status", "stage"),
    [
        ([], 200, "placed"),
        (["payments.paymentAuthorised"], 200, "confirmed"),
        (["payments.paymentAuthorised", "kitchen.preparationStarted"], 200, "preparing"),
        (["payments.paymentAuthorised", "kitchen.pizzaBoxed"], 200, "boxed"),
        (["payments.paymentAuthorised", "delivery.orderCollected"], 409, ""),
        (["payments.paymentAuthorised", "pickup.orderCollected"], 409, ""),
    ],
)
async def test_a_customer_cancels(shop: Shop, reports: list[str], status: int, stage: str):
    order_id = await shop.place()
    for report in reports:
        await shop.receive(report, orderId=order_id)
    answers = [await shop.http.post(f"/orders/{order_id}/cancel") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [status, status]
    cancelled = await shop.published("orders.orderCancelled.v1")
    if status == 200:
        assert answers[0].json() == answers[1].json()
        assert [item["data"]["stage"] for item in cancelled] == [stage]
        assert (await shop.emails())[-1:] == ([] if stage == "placed" else ["orderCancelled"])
    else:
        assert "can no longer be cancelled" in answers[0].json()["detail"]
        assert cancelled == []


async def test_a_pizza_that_is_handed_over_after_its_cancellation_is_known(
    shop: Shop, caplog: pytest.LogCaptureFixture
):
    order_id = await shop.place()
    await shop.receive("payments.paymentAuthorised", orderId=order_id)
    await shop.http.post(f"/orders/{order_id}/cancel")
    assert await shop.receive("pickup.orderCollected", orderId=order_id) == "SUCCESS"
    assert (await shop.look(order_id))["status"] == "cancelled"
    assert (await shop.look(order_id))["givenAwayAt"]
    assert "order.given_away" in caplog.text
    assert await shop.published("orders.orderCompleted.v1") == []


async def test_duplicates_change_nothing(shop: Shop):
    order_id = await shop.place()
    for report in ("payments.paymentAuthorised", "kitchen.pizzaBoxed", "pickup.orderCollected"):
        for identity in ("same", "same", "told-again"):
            assert await shop.receive(report, id=f"{report}-{identity}", orderId=order_id) == "SUCCESS"
    assert (
        len(await shop.published("orders.orderConfirmed.v2"))
        == len(await shop.published("orders.orderCompleted.v1"))
        == 1
    )
    assert await shop.emails() == ["orderConfirmed", "orderCompleted"]


@pytest.mark.parametrize(
    ("kind", "data", "reason"),
    [
        ("kitchen.pizzaBoxed", {"orderId": "unknown"}, "there is no order unknown"),
        ("kitchen.pizzaBoxed", {"orderId": 7}, "orderId"),
        ("kitchen.pizzaBoxed", {"orderId": "a||b"}, "orderId"),
        ("kitchen.pizzaBoxed", {}, "missing required field `orderId`"),
        ("menu.priceChanged", {"sku": "m", "priceCents": -1, "changedAt": "2026-11-23T12:00:00Z"}, "priceCents"),
        ("menu.priceChanged", {"sku": "m", "priceCents": 1, "changedAt": "2026-11-23T12:00:00"}, "changedAt"),
    ],
)
async def test_what_cannot_be_right_is_kept_as_a_dead_letter(shop: Shop, kind: str, data: dict[str, Any], reason: str):
    assert await shop.receive(kind, **data) == "SUCCESS"
    [dead] = await shop.published("deadletter.orders")
    assert reason in dead["failurereason"]


async def test_a_step_before_the_confirmation_is_a_dead_letter(shop: Shop):
    order_id = await shop.place()
    await shop.receive("kitchen.pizzaBoxed", orderId=order_id)
    [dead] = await shop.published("deadletter.orders")
    assert "is not confirmed yet" in dead["failurereason"]
    assert (await shop.look(order_id))["status"] == "placed"


# -- placing ------------------------------------------------------------------------------------------------------


def an_order(**changes: Any) -> dict[str, Any]:
    return {**ORDER, **changes}


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        (an_order(lines=[]), 422, "this one has 0"),
        (an_order(lines=[{"sku": "margherita", "quantity": 0}]), 422, "body.lines.0.quantity"),
        (an_order(lines=[{"sku": "margherita", "quantity": -1}]), 422, "body.lines.0.quantity"),
        (an_order(lines=[{"sku": "margherita", "quantity": 10_000}]), 422, "body.lines.0.quantity"),
        (an_order(lines=[{"sku": "margherita", "quantity": 60}] * 2), 422, "this one has 120"),
        (an_order(lines=[{"sku": "margherita", "quantity": 1}] * 101), 422, "body.lines"),
        (an_order(lines=[{"sku": "hawaii", "quantity": 1}]), 422, "not on the menu: hawaii"),
        (an_order(lines=[{"sku": "margherita", "quantity": 1, "unitPriceCents": -5}]), 422, "unitPriceCents"),
        (an_order(address=None), 422, "needs an address"),
        (an_order(fulfilment="drone"), 422, "body.fulfilment"),
        (an_order(customer={**CUSTOMER, "email": "ada"}), 422, "body.customer.email"),
        (an_order(customer={**CUSTOMER, "name": "Ada\r\nBcc: all@example.org"}), 422, "body.customer.name"),
        (an_order(customer={**CUSTOMER, "customerId": "a||b"}), 422, "body.customer.customerId"),
        ({name: value for name, value in ORDER.items() if name != "paymentToken"}, 422, "body.paymentToken"),
    ],
)
async def test_orders_that_are_refused(shop: Shop, body: dict[str, Any], status: int, detail: str):
    answer = await shop.http.post("/orders", json=body)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert detail in answer.json()["detail"]
    assert await shop.published("orders.orderPlaced.v1") == []


async def test_malformed_json_is_refused(shop: Shop):
    answer = await shop.http.post("/orders", content=b'{"customer"', headers={"content-type": "application/json"})
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")


async def test_the_menu_is_followed(shop: Shop):
    since = {"sku": "margherita", "since": "2026-11-23T13:00:00Z"}
    await shop.receive("menu.itemSoldOut", **since)
    answer = await shop.http.post("/orders", json=ORDER)
    assert (answer.status_code, answer.json()["detail"][:19]) == (409, "sold out: Margherit")
    await shop.receive("menu.itemRestocked", **since)  # the same moment: available, as it counts for more
    await shop.receive("menu.priceChanged", sku="margherita", priceCents=1000, changedAt=since["since"])
    assert (await shop.http.post("/orders", json=ORDER)).json()["totalCents"] == 2000


async def test_before_the_menu_has_arrived_nothing_can_be_ordered():
    shop = Shop()
    async with lifespan(shop.app), shop.http:
        answer = await shop.http.post("/orders", json=ORDER)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


@pytest.mark.parametrize("method", ["get", "post"])
async def test_an_unknown_order(shop: Shop, method: str):
    path = "/orders/nothing" if method == "get" else "/orders/nothing/cancel"
    answer = await shop.http.request(method, path)
    assert (answer.status_code, answer.json()["detail"]) == (404, "there is no order nothing")


async def test_a_customer_without_an_id_is_known_by_the_email_address(shop: Shop):
    for email in ("bo@example.org", "BO@example.org"):
        await shop.place(customer={"name": "Bo", "email": email})
    ids = {item["data"]["customer"]["customerId"] for item in await shop.published("orders.orderPlaced.v1")}
    assert len(ids) == 1


@pytest.mark.parametrize(
    "address",
    [
        "strasse@example.org",
        "bo@strasse.example",
        "kelvin@example.org",
        "fi@example.org",
        "i@example.org",
        "\ud800@b.c",
    ],
)
async def test_an_address_that_looks_like_another_one_is_not_the_same_customer(shop: Shop, address: str):
    """Unicode's case folding makes `strasse` of `straße`: the points of one person would be another's."""
    similar = address.replace("ss", "ß").replace("k", "\u212a").replace("fi", "\ufb01").replace("i@", "\u0130@")
    statuses = set()
    for email in (address, similar):
        body = json.dumps(an_order(customer={"name": "Bo", "email": email}))
        answer = await shop.http.post("/orders", content=body, headers={"Content-Type": "application/json"})
        statuses.add(answer.status_code)
    ids = {item["data"]["customer"]["customerId"] for item in await shop.published("orders.orderPlaced.v1")}
    assert (len(ids), statuses) == ((0, {422}) if "\ud800" in address else (2, {202}))


async def test_who_knows_an_id_learns_nobodys_name_and_address(shop: Shop):
    order_id = await shop.place()
    for token in ("", "guess"):
        for method, path in (("GET", f"/orders/{order_id}"), ("POST", f"/orders/{order_id}/cancel")):
            answer = await shop.http.request(method, path, headers={"dapr-api-token": token})
            assert answer.status_code == 200
            for secret in (*CUSTOMER.values(), *ADDRESS.values()):
                assert secret not in answer.text.replace(order_id, "").replace('"placed', ""), secret
    assert (await shop.look(order_id))["customer"] == CUSTOMER


async def test_contact_data_requires_the_token_of_services(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("APP_API_TOKEN", "")
    shop = Shop()
    shop.service.settings = Settings()
    async with lifespan(shop.app), shop.http:
        await shop.receive("menu.recipePublished", **MARGHERITA)
        order_id = await shop.place()
        for headers in ({}, {"dapr-api-token": ""}, {"dapr-api-token": "None"}):
            answer = await shop.http.get(f"/orders/{order_id}", headers=headers)
            assert (answer.json()["customer"], answer.json()["address"]) == (None, None)


async def test_a_reused_key_and_a_refused_body_reveal_nothing_of_the_order(shop: Shop):
    headers = {"Idempotency-Key": "k-1"}
    placed = (await shop.http.post("/orders", json=an_order(), headers=headers)).json()["orderId"]
    guessed = {"name": "Eve", "email": "eve@example.org", "customerId": "ada"}
    for customer in (guessed, {**guessed, "admin": True}):
        answer = await shop.http.post("/orders", json=an_order(customer=customer), headers=headers)
        assert answer.status_code == 422
        for secret in (placed, "Ada", CUSTOMER["email"], *ADDRESS.values()):
            assert secret not in answer.text


async def test_ids_cannot_be_computed_from_what_a_customer_sends(shop: Shop):
    ids = []
    for entry in (shop, Shop()):  # two installations
        async with contextlib.AsyncExitStack() as stack:
            if entry is not shop:
                await stack.enter_async_context(lifespan(entry.app))
                assert await entry.receive("menu.recipePublished", **MARGHERITA) == "SUCCESS"
            customer = {"name": "Bo", "email": "bo@example.org"}
            body, headers = an_order(customer=customer), {"Idempotency-Key": "k-1"}
            await entry.http.post("/orders", json=body, headers=headers)
            [placed] = [item["data"] for item in await entry.published("orders.orderPlaced.v1")]
            ids.append((placed["orderId"], placed["customer"]["customerId"]))
    assert ids[0][0] != ids[1][0]
    assert ids[0][1] != ids[1][1]


async def test_an_order_that_is_not_paid_for_sends_no_one_an_email(shop: Shop):
    order_id = await shop.place(customer={"name": "Buy at http://evil.example", "email": "victim@example.org"})
    await shop.http.post(f"/orders/{order_id}/cancel")
    refused = await shop.place(customer={"name": "x", "email": "victim@example.org"})
    await shop.receive("payments.paymentRefused", orderId=refused, reason="cardDeclined")
    for report in ("kitchen.preparationStarted", "kitchen.pizzaBoxed", "delivery.orderCollected"):
        await shop.receive(report, orderId=await shop.place(), at="2026-11-29T12:00:00Z")
    assert await shop.emails() == []


async def test_one_idempotency_key_is_one_order(shop: Shop):
    async def send(key: str, **changes: Any) -> httpx2.Response:
        return await shop.http.post("/orders", json=an_order(**changes), headers={"Idempotency-Key": key})

    first, *rest = await asyncio.gather(*(send("k-1") for _ in range(5)))
    assert {other.json()["orderId"] for other in rest} == {first.json()["orderId"]}
    assert (
        len(await shop.published("orders.orderPlaced.v1")) == len(await shop.published("payments.takePayment.v1")) == 1
    )
    await shop.receive("payments.paymentAuthorised", orderId=first.json()["orderId"])
    assert (await send("k-1")).json()["status"] == "confirmed"
    changed = await send("k-1", lines=[{"sku": "margherita", "quantity": 3}])
    assert (changed.status_code, "new key" in changed.json()["detail"]) == (422, True)
    someone = await send("k-1", customer={**CUSTOMER, "customerId": "bo"})
    assert someone.json()["orderId"] != first.json()["orderId"]
    assert (await send("k-2")).json()["orderId"] != first.json()["orderId"]


async def test_with_the_store_down_nothing_is_half_placed(shop: Shop):
    shop.sidecar.fail("transact")
    answer = await shop.http.post("/orders", json=ORDER, headers={"Idempotency-Key": "k"})
    assert answer.status_code == 503
    assert await shop.published("orders.orderPlaced.v1") == []
    again = await shop.http.post("/orders", json=ORDER, headers={"Idempotency-Key": "k"})
    assert again.status_code == 202
    assert len(await shop.published("orders.orderPlaced.v1")) == 1
