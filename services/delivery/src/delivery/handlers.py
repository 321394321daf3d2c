"""What delivery does when something happens."""

from __future__ import annotations

from delivery import progress, rostering
from delivery.commands import DriveOn, GiveUp, HandOver, UpdateRoster
from delivery.domain import Delivery, Status
from delivery.incoming import OrderCancelled, OrderConfirmed, PizzaBoxed
from tidings import Handlers, Rejected, StateContext

handlers = Handlers()
_DELIVERY = "delivery"


@handlers.on(OrderConfirmed)
async def order_confirmed(event: OrderConfirmed, context: StateContext) -> None:
    """Know where the order goes, before or after the kitchen has boxed it."""
    if event.fulfilment != _DELIVERY:
        return
    if event.address is None:
        raise Rejected(f"order {event.order_id} is for delivery and has no address")
    delivery = await _delivery(event.order_id, context)
    if delivery.confirm(event.customer.name, event.address, context.now):
        progress.find_driver(delivery, context)
    context.save(delivery.order_id, delivery)


@handlers.on(PizzaBoxed)
async def pizza_boxed(event: PizzaBoxed, context: StateContext) -> None:
    """Know that the order can go, before or after its address is known."""
    if event.fulfilment != _DELIVERY:
        return
    delivery = await _delivery(event.order_id, context)
    if delivery.box(event.boxes, context.now):
        progress.find_driver(delivery, context)
    context.save(delivery.order_id, delivery)


@handlers.on(OrderCancelled)
async def order_cancelled(event: OrderCancelled, context: StateContext) -> None:
    """Stop the delivery, wherever it is, or remember not to begin it.

    An order cancelled when it was only placed is never confirmed: nothing else of it can arrive.
    """
    if event.stage == "placed":
        return
    delivery = await _delivery(event.order_id, context)
    if delivery.cancel(context.now):
        progress.update_roster(delivery, context)
    context.save(delivery.order_id, delivery)


@handlers.together(UpdateRoster, once=False)
async def update_roster(commands: list[UpdateRoster], context: StateContext) -> None:
    """Bring the roster in line with all deliveries that have changed since: they share it."""
    await rostering.follow([command.order_id for command in commands], context)


@handlers.on(HandOver)
async def hand_over(command: HandOver, context: StateContext) -> None:
    """Give the order to the driver whom the roster has chosen."""
    delivery = await context.load(Delivery, command.order_id)
    if delivery is not None:
        context.correlate(delivery.correlation_id)  # the command comes from the order that set the driver free
        progress.assign(delivery, command.driver_id, command.driver_name, context)


@handlers.on(GiveUp)
async def give_up(command: GiveUp, context: StateContext) -> None:
    """Let an order fail that no driver was found for."""
    delivery = await context.load(Delivery, command.order_id)
    if delivery is not None:
        progress.give_up(delivery, context)


@handlers.on(DriveOn)
async def drive_on(command: DriveOn, context: StateContext) -> None:
    """Do the autopilot's next step, unless somebody has done it."""
    delivery = await context.load(Delivery, command.order_id)
    if delivery is None or delivery.status is not command.status:
        return
    if delivery.status is Status.ASSIGNED:
        progress.collect(delivery, context)
    else:
        progress.deliver(delivery, context)


async def _delivery(order_id: str, context: StateContext) -> Delivery:
    found = await context.load(Delivery, order_id)
    return found or Delivery(order_id=order_id, correlation_id=context.correlation_id)
