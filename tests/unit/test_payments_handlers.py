"""Payments on a SQLite ledger and the sidecar's twin: events in, facts out, books that agree."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from itertools import permutations
from pathlib import Path
from typing import Any

import httpx2
import pytest

from payments.adapters.tables import metadata
from payments.api import router
from payments.handlers import handlers
from payments.settings import PaymentsSettings, settings
from tidings import Event, Service, Settings, command, event
from tidings.context import Context, request
from tidings.fastapi import create_app
from tidings.messages.delivery import DeliveryContext
from tidings.messages.events import message_type
from tidings.outbox.table import TableOutbox
from tidings.testing import MemoryBroker, MemorySidecar, lifespan

NOW = datetime(2026, 11, 23, 18, tzinfo=UTC)
TOPICS = ("payments.takePayment.v1", "orders.orderCompleted.v1", "orders.orderCancelled.v1")
FACTS = ("Authorised", "Refused", "Settled", "Voided", "Refunded")


@command("payments.takePayment", subject="order_id")
class TakePayment(Event):
    """As orders sends it."""

    order_id: str
    customer_id: str = "c-1"
    amount_cents: int = 3150
    payment_token: str = "tok_ok_visa"
    currency: str = "EUR"


@event("orders.orderCompleted", subject="order_id")
class OrderCompleted(Event):
    order_id: str
    total_cents: int = 3150


@event("orders.orderCancelled", subject="order_id")
class OrderCancelled(Event):
    order_id: str
    reason: str = "customerCancelled"


class Payments:
    """Payments on a broker and a database that outlive its processes."""

    def __init__(self, folder: Path) -> None:
        self.broker = MemoryBroker()
        self.database = f"sqlite:///{folder}/payments.db"

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Payments]:
        self.sidecar = MemorySidecar("payments", self.broker)
        outbox = TableOutbox.on(self.database, tables=metadata)
        self.service = Service("payments", handlers, settings=Settings(), sidecar=self.sidecar, outbox=outbox)
        app = create_app(self.service, [router])
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(lifespan(app))
            transport = httpx2.ASGITransport(app)
            self.api = await stack.enter_async_context(
                httpx2.AsyncClient(transport=transport, base_url="http://payments")
            )
            self.broker.attach("payments", app, [_subscription(topic) for topic in TOPICS])
            self.broker.while_busy(self._idle)
            yield self

    async def _idle(self) -> None:
        while not await self.service.ready() or self.service.outbox.depth:  # noqa: ASYNC110 - asked, as by a probe
            await asyncio.sleep(0.001)

    async def publish_events(self, *messages: Event) -> None:
        """Let orders publish."""
        for message in messages:
            await self.sidecar.publish(message_type(type(message)).topic, _encoded(message))
        await self.broker.settle()

    def facts(self, order: str | None = None) -> list[str]:
        """Return the published facts of one order or of all."""
        result = [item for name in FACTS for item in self.broker.events(f"payments.payment{name}.v1")]
        own = [item for item in result if order in {None, item["subject"]}]
        names = {item["id"]: item["type"].removeprefix("payments.payment") for item in own}
        return sorted(names.values(), key=FACTS.index)

    async def payment(self, order: str = "o-1") -> dict[str, Any]:
        answer = await self.api.get(f"/payments/{order}")
        return dict(answer.json()) if answer.is_success else {"status": answer.status_code}

    async def ledger(self) -> dict[str, Any]:
        return dict((await self.api.get("/ledger")).json())


def _subscription(topic: str) -> dict[str, Any]:
    spec = {"pubsubname": "pubsub", "topic": topic, "routes": {"default": f"/events/{topic}"}}
    return {"spec": {**spec, "deadLetterTopic": "deadletter.payments"}}


def _encoded(message: Event) -> bytes:
    context = Context(DeliveryContext("orders", request("c-1")), NOW, 1_000_000)
    context.publish(message)
    return bytes(context.outgoing[0].event)


@pytest.fixture
async def payments(tmp_path: Path) -> AsyncIterator[Payments]:
    async with Payments(tmp_path).running() as running:
        yield running


async def test_an_order_is_authorised_and_settled(payments: Payments) -> None:
    await payments.publish_events(TakePayment(order_id="o-1"))
    (authorised,) = payments.broker.events("payments.paymentAuthorised.v1")
    assert (authorised["subject"], authorised["correlationid"], authorised["source"]) == ("o-1", "c-1", "payments")
    assert {key: authorised["data"][key] for key in ("orderId", "amountCents", "currency")} == {
        "orderId": "o-1", "amountCents": 3150, "currency": "EUR",
    }  # fmt: skip
    before = await payments.ledger()
    assert (before["authorisedCents"], before["openCents"], before["revenueCents"]) == (3150, 3150, 0)
    await payments.publish_events(OrderCompleted(order_id="o-1"))
    result = await payments.payment()
    assert (result["status"], result["amountCents"], result["refusal"]) == ("settled", 3150, None)
    assert result["paymentId"] == authorised["data"]["paymentId"]
    after = await payments.ledger()
    assert (after["openCents"], after["revenueCents"], after["accounts"]["bank"]) == (0, 3150, 3150)
    assert (after["balanced"], after["payments"]["settled"]) == (True, 1)


@pytest.mark.parametrize(
    ("token", "cents", "reason"),
    [
        ("tok_declined", 3150, "cardDeclined"),
        ("stolen", 3150, "invalidToken"),
        ("tok_ok", 100_001, "limitExceeded"),
    ],
)
async def test_a_refusal_reports_the_reason_and_moves_nothing(
    payments: Payments, token: str, cents: int, reason: str
) -> None:
    await payments.publish_events(TakePayment(order_id="o-1", payment_token=token, amount_cents=cents))
    (refused,) = payments.broker.events("payments.paymentRefused.v1")
    assert refused["data"]["reason"] == reason
    await payments.publish_events(OrderCancelled(order_id="o-1", reason="paymentRefused"))
    assert payments.facts() == ["Refused"]
    result = await payments.payment()
    assert (result["status"], result["refusal"]) == ("refused", reason)
    assert set((await payments.ledger())["accounts"].values()) == {0}


TAKE, COMPLETE, CANCEL = TakePayment(order_id="o-1"), OrderCompleted(order_id="o-1"), OrderCancelled(order_id="o-1")


@pytest.mark.parametrize("order", sorted(set(permutations([0, 0, 1, 2], 4))))
async def test_any_order_of_arrival_gives_a_cancelled_order_its_money_back(
    payments: Payments, order: tuple[int, ...]
) -> None:
    await payments.publish_events(*([TAKE, COMPLETE, CANCEL][index] for index in order))
    ledger = await payments.ledger()
    assert (ledger["balanced"], ledger["openCents"], ledger["revenueCents"]) == (True, 0, 0)
    cancelled_first = order.index(2) < order.index(0)
    assert (await payments.payment())["status"] == (
        "forestalled" if cancelled_first else "refunded" if order.index(1) < order.index(2) else "voided"
    )
    assert ("Authorised" in payments.facts()) == (not cancelled_first)


async def test_the_same_event_delivered_again_or_concurrently_changes_nothing(payments: Payments) -> None:
    take, complete = _encoded(TAKE), _encoded(COMPLETE)
    for topic, body in ((TOPICS[0], take), (TOPICS[1], complete)):
        answers = await asyncio.gather(*(payments.service.ingress.deliver(f"/events/{topic}", body) for _ in range(5)))
        assert set(answers) == {b'{"status":"SUCCESS"}'}
    await payments.broker.settle()
    assert payments.facts() == ["Authorised", "Settled"]
    assert (await payments.ledger())["revenueCents"] == 3150


async def test_a_burst_in_any_order_converges(payments: Payments) -> None:
    orders = [f"o-{number}" for number in range(60)]
    messages: list[Event] = []
    for number, order in enumerate(orders):
        messages.append(TakePayment(order_id=order, payment_token="tok_declined" if number % 6 == 5 else "tok_ok"))
        messages.append(OrderCancelled(order_id=order) if number % 3 == 1 else OrderCompleted(order_id=order))
    random.Random(7).shuffle(messages)
    paths = {type(message): f"/events/{message_type(type(message)).topic}" for message in messages}
    deliver = payments.service.ingress.deliver
    await asyncio.gather(*(deliver(paths[type(message)], _encoded(message)) for message in messages for _ in range(2)))

    async def counts() -> tuple[int, int, int]:
        by_status = (await payments.ledger())["payments"]
        return by_status["settled"], by_status["refused"], by_status["voided"] + by_status["forestalled"]

    async with asyncio.timeout(60):  # what takes longer than a handler may is retried after its delivery
        while await counts() != (30, 10, 20):  # noqa: ASYNC110 - asked as a user would
            await asyncio.sleep(0.01)
    await payments.broker.settle()
    ledger = await payments.ledger()
    assert (ledger["balanced"], ledger["openCents"], ledger["revenueCents"]) == (True, 0, 30 * 3150)
    assert payments.facts().count("Settled") == 30


async def test_what_cannot_be_right_is_a_dead_letter_with_the_reason(payments: Payments) -> None:
    await payments.publish_events(TAKE, TakePayment(order_id="o-1", amount_cents=1))
    await payments.publish_events(
        TakePayment(order_id="o-2", amount_cents=-5), TakePayment(order_id="o-3", currency="USD")
    )
    letters = payments.broker.events("deadletter.payments")
    assert [letter["subject"] for letter in letters] == ["o-1", "o-2", "o-3"]
    assert "1 cents are requested, 3150 were before" in letters[0]["failurereason"]
    assert "amountCents" in letters[1]["failurereason"]
    assert "currency" in letters[2]["failurereason"]
    assert payments.facts() == ["Authorised"]


async def test_while_the_broker_is_down_money_moves_and_is_published_after_a_restart(tmp_path: Path) -> None:
    system = Payments(tmp_path)
    take = f"/events/{TOPICS[0]}"
    async with system.running() as payments:
        payments.service.settings.__dict__["tidings_drain"] = 0.05
        payments.sidecar.down = True
        assert await payments.service.ingress.deliver(take, _encoded(TAKE)) == b'{"status":"SUCCESS"}'
        assert (await payments.payment())["status"] == "authorised"
    assert system.facts() == []
    async with system.running() as payments:
        await payments.broker.settle()
        assert payments.facts() == ["Authorised"]


async def test_an_unknown_order_is_404(payments: Payments) -> None:
    answer = await payments.api.get("/payments/nobody")
    assert (answer.status_code, "order nobody" in answer.json()["detail"]) == (404, True)


def test_the_ledger_is_in_the_data_folder_unless_a_database_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDINGS_DATA", "/data/payments")
    assert PaymentsSettings().database == "sqlite:////data/payments/payments.db"
    monkeypatch.setenv("PAYMENTS_DATABASE_URL", "postgresql://db/payments")
    assert PaymentsSettings().database == "postgresql://db/payments"
    assert settings().limit_cents == 100_000
