"""Handlers of orders for the events of other services and for its own timeout."""

import structlog

from orders.commands import ExpirePayment
from orders.consumed import (
    CollectedByCustomer,
    CollectedByDriver,
    CollectionExpired,
    DeliveryFailed,
    ItemRestocked,
    ItemSoldOut,
    OrderDelivered,
    OrderRejected,
    PaymentAuthorised,
    PaymentRefused,
    PizzaBoxed,
    PreparationStarted,
    PriceChanged,
    RecipePublished,
)
from orders.domain import Reason, Status
from orders.use_cases import change, change_menu, fail
from tidings import Handlers, StateContext

log = structlog.get_logger(__name__)
handlers = Handlers()

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


@handlers.on(RecipePublished)
async def publish_item(event: RecipePublished, context: StateContext) -> None:
    """Add or update an item."""
    await change_menu(
        context,
        event.published_at,
        lambda menu: menu.publish(
            event.sku, event.name, event.price_cents, available=event.available, at=event.published_at
        ),
    )


@handlers.on(PriceChanged)
async def reprice_item(event: PriceChanged, context: StateContext) -> None:
    """Change a price for future orders."""
    await change_menu(
        context, event.changed_at, lambda menu: menu.change_price(event.sku, event.price_cents, event.changed_at)
    )


@handlers.on(ItemSoldOut)
async def take_off(event: ItemSoldOut, context: StateContext) -> None:
    """Mark an item as sold out."""
    await change_menu(context, event.since, lambda menu: menu.set_available(event.sku, available=False, at=event.since))


@handlers.on(ItemRestocked)
async def put_back(event: ItemRestocked, context: StateContext) -> None:
    """Mark an item as available."""
    await change_menu(context, event.since, lambda menu: menu.set_available(event.sku, available=True, at=event.since))
