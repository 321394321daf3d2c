"""Handlers of payments for its command and for the events of orders."""

from payments.consumed import OrderCancelled, OrderCompleted
from payments.domain import DifferentTerms, decide
from payments.events import TakePayment
from payments.settings import settings
from payments.use_cases import claim, record, refused_event
from tidings import Handlers, Rejected
from tidings.outbox.table import SqlContext

handlers = Handlers()


@handlers.on(TakePayment)
async def take_payment(command: TakePayment, context: SqlContext) -> None:
    """Authorise the amount or refuse it; no effect if the order was cancelled before."""
    payment = await claim(command.order_id, context)
    before = payment.status
    verdict = decide(command.payment_token, command.amount_cents, settings().limit_cents)
    try:
        moved = payment.take(command.customer_id, command.amount_cents, verdict, context.now)
    except DifferentTerms as error:
        raise Rejected(str(error)) from error
    await record(payment, moved, context)
    if payment.refusal is not None and payment.status is not before:
        context.publish(refused_event(payment, payment.refusal, context.now))


@handlers.on(OrderCompleted)
async def order_completed(event: OrderCompleted, context: SqlContext) -> None:
    """Settle the payment."""
    payment = await claim(event.order_id, context)
    await record(payment, payment.complete(context.now), context)


@handlers.on(OrderCancelled)
async def order_cancelled(event: OrderCancelled, context: SqlContext) -> None:
    """Void or refund the payment, or prevent it if it has not been authorised yet."""
    payment = await claim(event.order_id, context)
    await record(payment, payment.cancel(context.now), context)
