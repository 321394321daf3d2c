"""Handlers of payments for its command and for the events of orders."""

from __future__ import annotations

from collections.abc import Iterable

from payments import books, publishing
from payments.consumed import OrderCancelled, OrderCompleted
from payments.domain import DifferentTerms, Movement, Payment, decide
from payments.events import TakePayment
from payments.settings import settings
from tidings import Handlers, Rejected
from tidings.messages.envelope import new_id
from tidings.outbox.table import SqlContext

handlers = Handlers()


@handlers.on(TakePayment)
async def take_payment(command: TakePayment, context: SqlContext) -> None:
    """Authorise the amount or refuse it; no effect if the order was cancelled before."""
    payment = await _claim(command.order_id, context)
    before = payment.status
    verdict = decide(command.payment_token, command.amount_cents, settings().limit_cents)
    try:
        moved = payment.take(command.customer_id, command.amount_cents, verdict, context.now)
    except DifferentTerms as error:
        raise Rejected(str(error)) from error
    await _record(payment, moved, context)
    if payment.refusal is not None and payment.status is not before:
        context.publish(publishing.refused(payment, payment.refusal, context.now))


@handlers.on(OrderCompleted)
async def order_completed(event: OrderCompleted, context: SqlContext) -> None:
    """Settle the payment."""
    payment = await _claim(event.order_id, context)
    await _record(payment, payment.complete(context.now), context)


@handlers.on(OrderCancelled)
async def order_cancelled(event: OrderCancelled, context: SqlContext) -> None:
    """Void or refund the payment, or prevent it if it has not been authorised yet."""
    payment = await _claim(event.order_id, context)
    await _record(payment, payment.cancel(context.now), context)


async def _claim(order_id: str, context: SqlContext) -> Payment:
    return await books.claim(context.connection, order_id, new_id(), context.now)


async def _record(payment: Payment, moved: Iterable[Movement], context: SqlContext) -> None:
    """Store the payment, book its movements, and publish their events."""
    await books.update(context.connection, payment)
    for movement in moved:
        await books.book(context.connection, payment, movement, context.now)
        context.publish(publishing.moved(payment, movement, context.now))
