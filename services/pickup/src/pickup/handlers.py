"""Handlers of pickup for events and for its scheduled messages."""

import asyncio

from pickup.commands import CollectOrder, ExpireCollection, UpdateShelfIndex
from pickup.consumed import OrderCancelled, OrderConfirmed, PizzaBoxed
from pickup.domain import ShelfIndex, ShelvedOrder, Status
from pickup.events import CollectionExpired
from pickup.use_cases import MAIN, hand_out, load_or_create, new_code, publish_shelved, schedule_index_update
from tidings import Handlers, StateContext

handlers = Handlers()
_PICKUP = "pickup"


@handlers.on(OrderConfirmed)
async def order_confirmed(event: OrderConfirmed, context: StateContext) -> None:
    """Record the customer; arrives before or after `PizzaBoxed`."""
    if event.fulfilment != _PICKUP:
        return
    order = await load_or_create(event.order_id, context)
    if order.confirm(event.customer.customer_id, event.customer.name, code=new_code(), now=context.now):
        publish_shelved(order, context)
    context.save(order.order_id, order)


@handlers.on(PizzaBoxed)
async def pizza_boxed(event: PizzaBoxed, context: StateContext) -> None:
    """Record the boxes; arrives before or after `OrderConfirmed`."""
    if event.fulfilment != _PICKUP:
        return
    order = await load_or_create(event.order_id, context)
    if order.box(event.boxes, code=new_code(), now=context.now):
        publish_shelved(order, context)
    context.save(order.order_id, order)


@handlers.on(OrderCancelled)
async def order_cancelled(event: OrderCancelled, context: StateContext) -> None:
    """Take the order off its shelf, or store the cancellation in case it overtook the other events of the order."""
    if event.stage == "placed":
        # The order was never confirmed: no other event can follow, so there is nothing to remember.
        return
    order = await load_or_create(event.order_id, context)
    if order.cancel(context.now):
        schedule_index_update(order, context)
    context.save(order.order_id, order)


@handlers.on(CollectOrder)
async def collect_order(step: CollectOrder, context: StateContext) -> None:
    """Let the simulated customer collect the order, if it is still on its shelf."""
    order = await context.load(ShelvedOrder, step.order_id)
    if order is not None and order.status is Status.SHELVED:
        hand_out(order, order.code, context)


@handlers.on(ExpireCollection)
async def expire(step: ExpireCollection, context: StateContext) -> None:
    """Take an order off its shelf that was not collected in time."""
    order = await context.load(ShelvedOrder, step.order_id)
    if order is not None and order.expire(context.now):
        context.publish(CollectionExpired(order_id=order.order_id, expired_at=context.now))
        schedule_index_update(order, context)
        context.save(order.order_id, order)


@handlers.batch(UpdateShelfIndex, deduplicate=False)
async def update_shelf_index(commands: list[UpdateShelfIndex], context: StateContext) -> None:
    """Apply a batch of changed orders to the shelf index in one write, since all of them contend for that document."""
    # Load the index before the orders and always write it. Of two concurrent updates, the later writer then gets a
    # conflict and reads the orders again; in any other order the index could keep an outdated state.
    index = await context.load(ShelfIndex, MAIN) or ShelfIndex()
    changed = dict.fromkeys(command.order_id for command in commands)
    for order in await asyncio.gather(*(context.load(ShelvedOrder, order_id) for order_id in changed)):
        if order is not None:
            index.apply(order)
    context.save(MAIN, index)
