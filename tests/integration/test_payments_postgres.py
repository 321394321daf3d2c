"""Two replicas of payments on a real PostgreSQL, whose transactions meet."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import msgspec
import pytest
from tests.conformance import poll
from tests.support.postgres import own_database

from payments.adapters import books
from payments.adapters.tables import metadata
from payments.domain import Status
from payments.handlers import handlers
from tidings import Service, Settings
from tidings.messages.envelope import Envelope, new_id
from tidings.outbox.cdc import CdcOutbox
from tidings.outbox.table import SqlContext, TableOutbox
from tidings.testing import MemoryBroker, MemorySidecar

pytestmark = pytest.mark.real
PATIENCE = 60.0  # seconds; an event that met a conflict too often is retried after its delivery
REVENUE = sum(1000 + number for number in range(0, 100, 2))


@pytest.fixture(params=["table", "cdc"])
async def replicas(request: pytest.FixtureRequest) -> AsyncIterator[list[Service]]:
    """Run two replicas on one broker and database; payments publishes through PAYMENTS_OUTBOX=table or cdc."""
    strategy: type[TableOutbox] = {"table": TableOutbox, "cdc": CdcOutbox}[request.param]
    postgres = request.getfixturevalue({"table": "postgres", "cdc": "logical"}[request.param])
    broker = MemoryBroker()
    async with own_database(postgres) as url:
        started = [
            Service(
                "payments",
                handlers,
                settings=Settings(tidings_instance=f"payments-{number}"),
                sidecar=MemorySidecar("payments", broker),
                outbox=strategy.on(url, tables=metadata),
            )
            for number in range(2)
        ]
        for item in started:
            await item.start()
        yield started
        for item in started:
            await item.stop()


def message(kind: str, order: str, **data: object) -> tuple[str, bytes]:
    """Return the path and the event of a delivery."""
    body = msgspec.Raw(msgspec.json.encode({"orderId": order, **data}))
    attributes = {"id": new_id(), "source": "orders", "type": kind, "specversion": "1.0", "version": "1"}
    return f"/events/{kind}.v1", Envelope(**attributes, data=body).encode()


async def test_the_books_agree_under_concurrency(replicas: list[Service]) -> None:
    messages = []
    for number in range(100):
        order = f"o-{number}"
        messages.append(
            message("payments.takePayment", order, customerId="c", amountCents=1000 + number, paymentToken="tok_ok")
        )
        messages.append(message("orders.orderCompleted", order))
        if number % 2:
            messages.append(message("orders.orderCancelled", order))
    deliveries = messages * 2
    random.Random(11).shuffle(deliveries)
    answers = await asyncio.gather(
        *(replicas[index % 2].ingress.deliver(*item) for index, item in enumerate(deliveries))
    )
    again = [item for item, answer in zip(deliveries, answers, strict=True) if answer != b'{"status":"SUCCESS"}']
    assert {await replicas[0].ingress.deliver(*item) for item in again} <= {b'{"status":"SUCCESS"}'}

    async def is_settled(_: None, context: SqlContext) -> bool:
        totals, counts = await books.totals(context.connection), await books.counts(context.connection)
        assert totals.balanced
        undone = counts[Status.REFUNDED] + counts[Status.VOIDED] + counts[Status.FORESTALLED]
        return (totals.open_cents, totals.revenue_cents, counts[Status.SETTLED], undone) == (0, REVENUE, 50, 50)

    async with asyncio.timeout(PATIENCE):
        while not await replicas[0].execute(is_settled, None):  # noqa: ASYNC110 - the database tells nobody
            await asyncio.sleep(0.05)
    await poll(lambda: all(replica.outbox.depth == 0 for replica in replicas), PATIENCE)
    sidecar = replicas[0].sidecar
    assert isinstance(sidecar, MemorySidecar)
    settled = [event["subject"] for event in sidecar.broker.events("payments.paymentSettled.v1")]
    assert len(settled) == len(set(settled)) >= 50
