"""What pickup does when something happens."""

from __future__ import annotations

import asyncio
import secrets

from pickup.commands import CollectOrder, ExpireCollection, UpdateRack
from pickup.consumed import OrderCancelled, OrderConfirmed, PizzaBoxed
from pickup.domain import Rack, ShelvedOrder, Status
from pickup.events import CollectionExpired, OrderCollected, OrderShelved
from pickup.settings import settings
from tidings import Handlers, StateContext

handlers = Handlers()
MAIN = "main"
"""The key of the rack, of which there is only one."""

# Easily said and heard: no letter or digit that is taken for another one.
_ALPHABET = "23456789ABCDEFGHJKMNPQRSTVWXYZ"
_CODE_LENGTH = 5
_PICKUP = "pickup"


@handlers.on(OrderConfirmed)
async def learn_customer(event: OrderConfirmed, context: StateContext) -> None:
    """Know whose order it is, before or after the kitchen has boxed it."""
    if event.fulfilment != _PICKUP:
        return
    order = await _order(event.order_id, context)
    if order.confirm(event.customer.name, code=_new_code(), now=context.now):
        _shelved(order, context)
    context.save(order.order_id, order)


@handlers.on(PizzaBoxed)
async def take_boxes(event: PizzaBoxed, context: StateContext) -> None:
    """Take the boxes from the kitchen, before or after the customer is known."""
    if event.fulfilment != _PICKUP:
        return
    order = await _order(event.order_id, context)
    if order.box(event.boxes, code=_new_code(), now=context.now):
        _shelved(order, context)
    context.save(order.order_id, order)


@handlers.on(OrderCancelled)
async def cancel(event: OrderCancelled, context: StateContext) -> None:
    """Take the order off its shelf, or remember not to put it there.

    An order cancelled when it was only placed is never confirmed: nothing else of it can arrive.
    """
    if event.stage == "placed":
        return
    order = await _order(event.order_id, context)
    if order.cancel(context.now):
        _update_rack(order, context)
    context.save(order.order_id, order)


@handlers.on(CollectOrder)
async def collect_by_itself(step: CollectOrder, context: StateContext) -> None:
    """Let the autopilot's customer have the order, if it is still there."""
    order = await context.load(ShelvedOrder, step.order_id)
    if order is not None and order.status is Status.SHELVED:
        hand_out(order, order.code, context)


@handlers.on(ExpireCollection)
async def expire(step: ExpireCollection, context: StateContext) -> None:
    """Take an order off its shelf that nobody came for."""
    order = await context.load(ShelvedOrder, step.order_id)
    if order is not None and order.expire(context.now):
        context.publish(CollectionExpired(order_id=order.order_id, expired_at=context.now))
        _update_rack(order, context)
        context.save(order.order_id, order)


@handlers.together(UpdateRack, once=False)
async def update_rack(commands: list[UpdateRack], context: StateContext) -> None:
    """Bring the counter's list in line with all orders that have changed since: they share it.

    The list is loaded before the orders and written each time: of two replicas the slower one conflicts and looks at
    the orders again, so the list cannot stay behind.
    """
    rack = await context.load(Rack, MAIN) or Rack()
    changed = dict.fromkeys(command.order_id for command in commands)
    for order in await asyncio.gather(*(context.load(ShelvedOrder, order_id) for order_id in changed)):
        if order is not None:
            rack.reflect(order)
    context.save(MAIN, rack)


def hand_out(order: ShelvedOrder, code: str, context: StateContext) -> None:
    """Give the order to whoever knows its code; once is enough.

    Raises:
        PickupError: The order is not there, or the code is wrong.

    """
    if order.collect(code, context.now):
        context.publish(OrderCollected(order_id=order.order_id, collected_at=context.now))
        _update_rack(order, context)
        context.save(order.order_id, order)


async def _order(order_id: str, context: StateContext) -> ShelvedOrder:
    found = await context.load(ShelvedOrder, order_id)
    return found or ShelvedOrder(order_id=order_id, correlation_id=context.correlation_id)


def _shelved(order: ShelvedOrder, context: StateContext) -> None:
    """Tell that the order can be collected, and see to it that it does not lie there for ever."""
    context.publish(OrderShelved(order_id=order.order_id, shelf=order.shelf, code=order.code, shelved_at=context.now))
    _update_rack(order, context)
    context.schedule(ExpireCollection(order_id=order.order_id), after=settings().shelf_life)
    if settings().autopilot:
        context.schedule(CollectOrder(order_id=order.order_id), after=settings().walk)


def _update_rack(order: ShelvedOrder, context: StateContext) -> None:
    context.schedule(UpdateRack(order_id=order.order_id))


def _new_code() -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(_CODE_LENGTH))
