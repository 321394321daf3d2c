"""What other services report about an order, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from orders import menu_copy, publishing
from orders.commands import ExpirePayment
from orders.consumed import (
    CollectedByCustomer,
    CollectedByDriver,
    CollectionExpired,
    DeliveryFailed,
    OrderDelivered,
    OrderRejected,
    PaymentAuthorised,
    PaymentRefused,
    PizzaBoxed,
    PreparationStarted,
)
from orders.domain import Order, OrderError, Reason, Status
from orders.use_cases import find
from tidings import Handlers, Rejected, StateContext

log = structlog.get_logger(__name__)
handlers = Handlers(list(menu_copy.handlers))

REJECTIONS = {"itemSoldOut": Reason.ITEM_SOLD_OUT}
FAILURES = {"noDriverAvailable": Reason.NO_DRIVER_AVAILABLE}


@handlers.on(PaymentAuthorised)
async def confirm(event: PaymentAuthorised, context: StateContext) -> None:
    """The kitchen may begin."""
    await change(event.order_id, context, lambda order: order.confirm(context.now))


@handlers.on(PaymentRefused)
async def refuse(event: PaymentRefused, context: StateContext) -> None:
    """No money, no pizza."""
    await fail(event.order_id, context, Reason.PAYMENT_REFUSED)


@handlers.on(ExpirePayment)
async def expire(event: ExpirePayment, context: StateContext) -> None:
    """Nobody waits for ever for an answer from payments."""
    await fail(event.order_id, context, Reason.PAYMENT_TIMEOUT)


@handlers.on(PreparationStarted)
async def prepare(event: PreparationStarted, context: StateContext) -> None:
    """The kitchen is at it."""
    await change(event.order_id, context, lambda order: order.reach(Status.PREPARING))


@handlers.on(OrderRejected)
async def reject(event: OrderRejected, context: StateContext) -> None:
    """The kitchen cannot do it; a reason that is new here counts as a closed kitchen."""
    await fail(event.order_id, context, REJECTIONS.get(event.reason, Reason.KITCHEN_CLOSED))


@handlers.on(PizzaBoxed)
async def box(event: PizzaBoxed, context: StateContext) -> None:
    """The kitchen is done."""
    await change(event.order_id, context, lambda order: order.reach(Status.BOXED))


@handlers.on(CollectedByDriver)
async def send_out(event: CollectedByDriver, context: StateContext) -> None:
    """From here on the customer can no longer cancel."""
    await change(event.order_id, context, lambda order: order.reach(Status.OUT_FOR_DELIVERY))


@handlers.on(CollectedByCustomer, OrderDelivered)
async def complete(event: CollectedByCustomer | OrderDelivered, context: StateContext) -> None:
    """The customer has it."""
    order = await change(event.order_id, context, lambda order: order.hand_over(context.now))
    if order.given_away_at == context.now:
        log.warning(
            "order.given_away", order_id=order.order_id, reason="it was cancelled, and handed over all the same"
        )


@handlers.on(CollectionExpired)
async def give_up_waiting(event: CollectionExpired, context: StateContext) -> None:
    """Nobody came."""
    await fail(event.order_id, context, Reason.NOT_COLLECTED)


@handlers.on(DeliveryFailed)
async def fail_delivery(event: DeliveryFailed, context: StateContext) -> None:
    """No driver, or nobody to deliver to."""
    await fail(event.order_id, context, FAILURES.get(event.reason, Reason.DELIVERY_FAILED))


async def fail(order_id: str, context: StateContext, reason: Reason) -> Order:
    """Cancel an order because of what went wrong, and tell everybody. Raises as `change` does."""
    return await change(order_id, context, lambda order: order.fail(reason, context.now))


async def change(order_id: str, context: StateContext, step: Callable[[Order], bool]) -> Order:
    """Take an order a step further, and announce the status that it thereby reaches.

    Raises:
        Rejected: There is no such order, or the step is impossible: orders is always told last, so the event is wrong.

    """
    try:
        order = await find(order_id, context)
        before, changed = order.status, step(order)
    except OrderError as error:
        raise Rejected(str(error)) from error
    if changed:
        context.save(order_id, order)
    if order.status is not before:
        publishing.announce(order, context)
    return order
