"""Handlers of pickup for events and for its scheduled messages."""

from __future__ import annotations

import asyncio
import secrets

from pickup.commands import CollectOrder, ExpireCollection, UpdateShelfIndex
from pickup.consumed import OrderCancelled, OrderConfirmed, PizzaBoxed
from pickup.domain import ShelfIndex, ShelvedOrder, Status
from pickup.events import CollectionExpired, OrderCollected, OrderShelved
from pickup.settings import settings
from tidings import Handlers, StateContext

handlers = Handlers()
MAIN = "main"
"""State key of the single shelf index."""

# Codes are spoken and typed: no characters that are mistaken for others, such as 0 and O.
_ALPHABET = "23456789ABCDEFGHJKMNPQRSTVWXYZ"
_CODE_LENGTH = 5
_PICKUP = "pickup"


@handlers.on(OrderConfirmed)
async def order_confirmed(event: OrderConfirmed, context: StateContext) -> None:
    """Record the customer; arrives before or after `PizzaBoxed`."""
    if event.fulfilment != _PICKUP:
        return
    order = await _load_or_create(event.order_id, context)
    if order.confirm(event.customer.name, code=_new_code(), now=context.now):
        _publish_shelved(order, context)
    context.save(order.order_id, order)


@handlers.on(PizzaBoxed)
async def pizza_boxed(event: PizzaBoxed, context: StateContext) -> None:
    """Record the boxes; arrives before or after `OrderConfirmed`."""
    if event.fulfilment != _PICKUP:
        return
    order = await _load_or_create(event.order_id, context)
    if order.box(event.boxes, code=_new_code(), now=context.now):
        _publish_shelved(order, context)
    context.save(order.order_id, order)


@handlers.on(OrderCancelled)
async def order_cancelled(event: OrderCancelled, context: StateContext) -> None:
    """Take the order off its shelf, or store the cancellation in case it overtook the other events of the order."""
    if event.stage == "placed":
        # The order was never confirmed: no other event can follow, so there is nothing to remember.
        return
    order = await _load_or_create(event.order_id, context)
    if order.cancel(context.now):
        _schedule_index_update(order, context)
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
        _schedule_index_update(order, context)
        context.save(order.order_id, order)


@handlers.together(UpdateShelfIndex, once=False)
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


def hand_out(order: ShelvedOrder, code: str, context: StateContext) -> None:
    """Hand the order out and publish the event. Idempotent.

    Raises:
        NotOnShelf: The order is not on a shelf.
        WrongCode: The code does not match.

    """
    if order.collect(code, context.now):
        context.publish(OrderCollected(order_id=order.order_id, collected_at=context.now))
        _schedule_index_update(order, context)
        context.save(order.order_id, order)


async def _load_or_create(order_id: str, context: StateContext) -> ShelvedOrder:
    order = await context.load(ShelvedOrder, order_id)
    return order or ShelvedOrder(order_id=order_id, correlation_id=context.correlation_id)


def _publish_shelved(order: ShelvedOrder, context: StateContext) -> None:
    """Publish that the order can be collected, and schedule its expiry."""
    context.publish(OrderShelved(order_id=order.order_id, shelf=order.shelf, code=order.code, shelved_at=context.now))
    _schedule_index_update(order, context)
    context.schedule(ExpireCollection(order_id=order.order_id), after=settings().shelf_life)
    if settings().autopilot:
        context.schedule(CollectOrder(order_id=order.order_id), after=settings().walk)


def _schedule_index_update(order: ShelvedOrder, context: StateContext) -> None:
    context.schedule(UpdateShelfIndex(order_id=order.order_id))


def _new_code() -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(_CODE_LENGTH))
