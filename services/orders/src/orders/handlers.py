"""Handlers of orders for the events of other services and for its own timeout."""

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
    """Confirm the order."""
    await change(event.order_id, context, lambda order: order.confirm(context.now))


@handlers.on(PaymentRefused)
async def refuse(event: PaymentRefused, context: StateContext) -> None:
    """Cancel the order because its payment was refused."""
    await fail(event.order_id, context, Reason.PAYMENT_REFUSED)


@handlers.on(ExpirePayment)
async def expire(event: ExpirePayment, context: StateContext) -> None:
    """Cancel the order if payments has not responded in time."""
    await fail(event.order_id, context, Reason.PAYMENT_TIMEOUT)


@handlers.on(PreparationStarted)
async def prepare(event: PreparationStarted, context: StateContext) -> None:
    """Record that the kitchen has started."""
    await change(event.order_id, context, lambda order: order.reach(Status.PREPARING))


@handlers.on(OrderRejected)
async def reject(event: OrderRejected, context: StateContext) -> None:
    """Cancel the order because the kitchen rejected it."""
    # Reasons added by later versions of the kitchen count as a closed kitchen.
    await fail(event.order_id, context, REJECTIONS.get(event.reason, Reason.KITCHEN_CLOSED))


@handlers.on(PizzaBoxed)
async def box(event: PizzaBoxed, context: StateContext) -> None:
    """Record that the order is boxed."""
    await change(event.order_id, context, lambda order: order.reach(Status.BOXED))


@handlers.on(CollectedByDriver)
async def send_out(event: CollectedByDriver, context: StateContext) -> None:
    """Record that the driver has the order, so that the customer can no longer cancel it."""
    await change(event.order_id, context, lambda order: order.reach(Status.OUT_FOR_DELIVERY))


@handlers.on(CollectedByCustomer, OrderDelivered)
async def complete(event: CollectedByCustomer | OrderDelivered, context: StateContext) -> None:
    """Record that the customer has the order."""
    order = await change(event.order_id, context, lambda order: order.hand_over(context.now))
    if order.given_away_at == context.now:
        log.warning(
            "order.given_away", order_id=order.order_id, reason="the order was cancelled before it was handed over"
        )


@handlers.on(CollectionExpired)
async def expire_collection(event: CollectionExpired, context: StateContext) -> None:
    """Cancel the order because it was not collected."""
    await fail(event.order_id, context, Reason.NOT_COLLECTED)


@handlers.on(DeliveryFailed)
async def fail_delivery(event: DeliveryFailed, context: StateContext) -> None:
    """Cancel the order because it could not be delivered."""
    await fail(event.order_id, context, FAILURES.get(event.reason, Reason.DELIVERY_FAILED))


async def fail(order_id: str, context: StateContext, reason: Reason) -> Order:
    """Cancel an order for a reason, and publish it. Raises the same errors as `change`."""
    return await change(order_id, context, lambda order: order.fail(reason, context.now))


async def change(order_id: str, context: StateContext, step: Callable[[Order], bool]) -> Order:
    """Apply a step to an order, and publish the status it reaches.

    Raises:
        Rejected: The order is unknown, or the step is impossible. Both cannot be a matter of timing: other services
            learn of an order from this service, so the event is wrong and a retry would not help.

    """
    try:
        order = await find(order_id, context)
        before, changed = order.status, step(order)
    except OrderError as error:
        raise Rejected(str(error)) from error
    if changed:
        context.save(order_id, order)
    if order.status is not before:
        publishing.publish_status(order, context)
    return order
