"""Use cases of the API, one unit of work on one order each."""

from __future__ import annotations

import hashlib
from datetime import timedelta

import msgspec

from orders import publishing
from orders.commands import ExpirePayment
from orders.domain import Draft, Menu, Order, OrderUnknown
from tidings import StateContext

MENU = "current"
"""State key of the single menu document."""


class Placing(msgspec.Struct, frozen=True, kw_only=True):
    """A request to place an order.

    Attributes:
        payment_token: Token for payments; passed on and never stored.
        pay_within: Time after which an order without a response from payments is cancelled.

    """

    order_id: str
    draft: Draft
    payment_token: str
    pay_within: timedelta

    @property
    def digest(self) -> str:
        # Identifies the request: two requests under one idempotency key must be equal.
        return hashlib.sha256(msgspec.json.encode([self.draft, self.payment_token], order="sorted")).hexdigest()


async def place(placing: Placing, context: StateContext) -> Order:
    """Place an order and request its payment; an order that exists is returned unchanged.

    Raises:
        KeyReused: The idempotency key belongs to a different order.
        MenuMissing: No recipe is known yet.
        UnknownSku: An item is not on the menu.
        SoldOut: An item is sold out.

    """
    order, is_new = await record(placing, context)
    if is_new:
        context.publish(publishing.payment(order, placing.payment_token))
    return order


async def record(placing: Placing, context: StateContext) -> tuple[Order, bool]:
    """Place an order without requesting its payment; return it and whether it is new. Raises as `place` does."""
    existing = await context.load(Order, placing.order_id)
    if existing is not None:
        existing.check_repeated(placing.digest)
        return existing, False
    menu = await context.load(Menu, MENU) or Menu()
    lines = menu.lines(placing.draft.quantities)
    order = Order.place(placing.order_id, placing.draft, lines, context.now, placing.digest)
    context.save(order.order_id, order)
    context.publish(publishing.placed(order))
    context.schedule(ExpirePayment(order_id=order.order_id), after=placing.pay_within)
    return order, True


async def cancel(order_id: str, context: StateContext) -> Order:
    """Cancel an order for its customer. Idempotent.

    Raises:
        OrderUnknown: There is no such order.
        TooLate: The order can no longer be cancelled.

    """
    order = await find(order_id, context)
    if order.cancel(context.now):
        context.save(order_id, order)
        publishing.publish_status(order, context)
    return order


async def find(order_id: str, context: StateContext) -> Order:
    """Return an order.

    Raises:
        OrderUnknown: There is no such order.

    """
    order = await context.load(Order, order_id)
    if order is None:
        raise OrderUnknown(order_id)
    return order
