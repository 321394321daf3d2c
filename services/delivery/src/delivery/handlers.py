"""Event handlers of the delivery service."""

from delivery.commands import DriveOn, GiveUp, HandOver, UpdateRoster
from delivery.consumed import OrderCancelled, OrderConfirmed, PizzaBoxed
from delivery.domain import Delivery, Recipient, Status
from delivery.use_cases import progress, rostering
from tidings import Handlers, Rejected, StateContext

handlers = Handlers()
_DELIVERY = "delivery"


@handlers.on(OrderConfirmed)
async def order_confirmed(event: OrderConfirmed, context: StateContext) -> None:
    """Record the address; arrives before or after `PizzaBoxed`."""
    if event.fulfilment != _DELIVERY:
        return
    if event.address is None:
        raise Rejected(f"order {event.order_id} is for delivery but has no address")
    recipient = Recipient(event.customer.customer_id, event.customer.name, event.address)
    delivery = await _load_or_create(event.order_id, context)
    if delivery.confirm(recipient, context.now):
        progress.find_driver(delivery, context)
    context.save(delivery.order_id, delivery)


@handlers.on(PizzaBoxed)
async def pizza_boxed(event: PizzaBoxed, context: StateContext) -> None:
    """Record that the order can be collected; arrives before or after `OrderConfirmed`."""
    if event.fulfilment != _DELIVERY:
        return
    delivery = await _load_or_create(event.order_id, context)
    if delivery.box(event.boxes, context.now):
        progress.find_driver(delivery, context)
    context.save(delivery.order_id, delivery)


@handlers.on(OrderCancelled)
async def order_cancelled(event: OrderCancelled, context: StateContext) -> None:
    """Cancel the delivery, or store the cancellation in case it overtook the other events of the order."""
    if event.stage == "placed":
        # The order was never confirmed: no other event can follow, so there is nothing to remember.
        return
    delivery = await _load_or_create(event.order_id, context)
    if delivery.cancel(context.now):
        progress.update_roster(delivery, context)
    context.save(delivery.order_id, delivery)


@handlers.batch(UpdateRoster, deduplicate=False)
async def update_roster(commands: list[UpdateRoster], context: StateContext) -> None:
    """Apply a batch of changed deliveries to the roster in one write, since all of them contend for that document."""
    await rostering.update([command.order_id for command in commands], context)


@handlers.on(HandOver)
async def hand_over(command: HandOver, context: StateContext) -> None:
    """Assign the order to the driver chosen from the roster."""
    delivery = await context.load(Delivery, command.order_id)
    if delivery is not None:
        # The command carries the correlation id of the order that freed the driver, not of this one.
        context.correlate(delivery.correlation_id)
        progress.assign(delivery, command.driver_id, command.driver_name, context)


@handlers.on(GiveUp)
async def give_up(command: GiveUp, context: StateContext) -> None:
    """Fail a delivery that is still waiting for a driver."""
    delivery = await context.load(Delivery, command.order_id)
    if delivery is not None:
        progress.give_up(delivery, context)


@handlers.on(DriveOn)
async def drive_on(command: DriveOn, context: StateContext) -> None:
    """Do the simulated driver's next step, unless the delivery has moved on in the meantime."""
    delivery = await context.load(Delivery, command.order_id)
    if delivery is None or delivery.status is not command.status:
        return
    if delivery.status is Status.ASSIGNED:
        progress.collect(delivery, context)
    else:
        progress.deliver(delivery, context)


async def _load_or_create(order_id: str, context: StateContext) -> Delivery:
    delivery = await context.load(Delivery, order_id)
    return delivery or Delivery(order_id=order_id, correlation_id=context.correlation_id)
