"""Use cases of pickup: one unit of work on one order each, and the messages that follow from it."""

import secrets

from pickup.commands import CollectOrder, ExpireCollection, UpdateShelfIndex
from pickup.domain import ShelfIndex, ShelvedOrder
from pickup.events import OrderCollected, OrderShelved
from pickup.settings import settings
from tidings import StateContext

MAIN = "main"
"""State key of the single shelf index."""

# Codes are spoken and typed: no characters that are mistaken for others, such as 0 and O.
_ALPHABET = "23456789ABCDEFGHJKMNPQRSTVWXYZ"
_CODE_LENGTH = 5


async def read_order(order_id: str, context: StateContext) -> ShelvedOrder:
    """Return an order.

    Raises:
        NotFound: There is no pickup of this order.

    """
    missing = f"no pickup of order {order_id}: it is not confirmed yet, or is for delivery"
    return await context.require(ShelvedOrder, order_id, missing)


async def read_shelf(_nothing: object, context: StateContext) -> ShelfIndex:
    """Return the orders on all shelves."""
    return await context.load(ShelfIndex, MAIN) or ShelfIndex()


def hand_out(order: ShelvedOrder, code: str, context: StateContext) -> None:
    """Hand the order out and publish the event. Idempotent.

    Raises:
        NotOnShelf: The order is not on a shelf.
        WrongCode: The code does not match.

    """
    if order.collect(code, context.now):
        context.publish(OrderCollected(order_id=order.order_id, collected_at=context.now))
        schedule_index_update(order, context)
        context.save(order.order_id, order)


async def load_or_create(order_id: str, context: StateContext) -> ShelvedOrder:
    """Load an order, or create it with the correlation id of the message."""
    order = await context.load(ShelvedOrder, order_id)
    return order or ShelvedOrder(order_id=order_id, correlation_id=context.correlation_id)


def publish_shelved(order: ShelvedOrder, context: StateContext) -> None:
    """Publish that the order can be collected, and schedule its expiry."""
    context.publish(OrderShelved(order_id=order.order_id, shelf=order.shelf, code=order.code, shelved_at=context.now))
    schedule_index_update(order, context)
    context.schedule(ExpireCollection(order_id=order.order_id), after=settings().shelf_life)
    if settings().autopilot:
        context.schedule(CollectOrder(order_id=order.order_id), after=settings().walk)


def schedule_index_update(order: ShelvedOrder, context: StateContext) -> None:
    """Schedule an update of the shelf index from this order."""
    context.schedule(UpdateShelfIndex(order_id=order.order_id))


def new_code() -> str:
    """Return a random code for collecting an order."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(_CODE_LENGTH))
