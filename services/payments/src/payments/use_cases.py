"""Use cases of payments: one unit of work on one payment each, and the events that it publishes."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from payments import events
from payments.adapters import books
from payments.domain import Movement, Payment, Refusal, Status, Totals
from tidings.messages.envelope import new_id
from tidings.outbox.table import SqlContext


async def claim(order_id: str, context: SqlContext) -> Payment:
    """Return the payment of an order, created if necessary, and locked until the end of the transaction."""
    return await books.claim(context.connection, order_id, new_id(), context.now)


async def record(payment: Payment, moved: Iterable[Movement], context: SqlContext) -> None:
    """Store the payment, book its movements, and publish their events."""
    await books.update(context.connection, payment)
    for movement in moved:
        await books.book(context.connection, payment, movement, context.now)
        context.publish(moved_event(payment, movement, context.now))


async def find(order_id: str, context: SqlContext) -> Payment | None:
    """Return the payment of an order, or None."""
    return await books.find(context.connection, order_id)


async def add_up(_: None, context: SqlContext) -> tuple[Totals, dict[Status, int]]:
    """Return the totals of the ledger, and the number of payments by status."""
    return await books.totals(context.connection), await books.counts(context.connection)


def moved_event(payment: Payment, movement: Movement, now: datetime) -> object:
    """Return the event for a movement of money."""
    common: dict[str, Any] = {
        "payment_id": payment.payment_id,
        "order_id": payment.order_id,
        "amount_cents": payment.amount_cents,
    }
    match movement:
        case Movement.AUTHORISED:
            return events.PaymentAuthorised(**common, authorised_at=now)
        case Movement.SETTLED:
            return events.PaymentSettled(**common, settled_at=now)
        case Movement.VOIDED:
            return events.PaymentVoided(**common, voided_at=now)
        case Movement.REFUNDED:
            return events.PaymentRefunded(**common, refunded_at=now)


def refused_event(payment: Payment, reason: Refusal, now: datetime) -> events.PaymentRefused:
    """Return the event for a refused payment."""
    return events.PaymentRefused(
        payment_id=payment.payment_id, order_id=payment.order_id, reason=reason.value, refused_at=now
    )
