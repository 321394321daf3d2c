"""What customers ask for, each a unit of work on one order."""

from __future__ import annotations

import hashlib
from datetime import timedelta

import msgspec

from orders import publishing
from orders.commands import ExpirePayment
from orders.domain import Draft, Menu, Order, OrderUnknown
from tidings import StateContext

MENU = "current"
"""The key of the one menu."""


class Placing(msgspec.Struct, frozen=True, kw_only=True):
    """A request to place an order.

    Attributes:
        payment_token: What payments takes the money with; it is passed on and never stored.
        pay_within: How long payments has to answer before the order is given up.

    """

    order_id: str
    draft: Draft
    payment_token: str
    pay_within: timedelta

    @property
    def digest(self) -> str:
        return hashlib.sha256(msgspec.json.encode([self.draft, self.payment_token], order="sorted")).hexdigest()


async def place(placing: Placing, context: StateContext) -> Order:
    """Place an order and ask for its payment; one that is placed already stays as it is.

    Raises:
        KeyReused: The idempotency key belongs to a different order.
        MenuMissing: No recipe is known yet.
        UnknownSku: Something is not on the menu.
        SoldOut: Something is not to be had.

    """
    order, is_new = await record(placing, context)
    if is_new:
        context.publish(publishing.payment(order, placing.payment_token))
    return order


async def record(placing: Placing, context: StateContext) -> tuple[Order, bool]:
    """Place an order without asking for its payment; says whether it is new. The errors are those of `place`."""
    known = await context.load(Order, placing.order_id)
    if known is not None:
        known.check_repeated(placing.digest)
        return known, False
    menu = await context.load(Menu, MENU) or Menu()
    lines = menu.lines(placing.draft.quantities)
    order = Order.place(placing.order_id, placing.draft, lines, context.now, placing.digest)
    context.save(order.order_id, order)
    context.publish(publishing.placed(order))
    context.schedule(ExpirePayment(order_id=order.order_id), after=placing.pay_within)
    return order, True


async def cancel(order_id: str, context: StateContext) -> Order:
    """Cancel an order for its customer; one that is cancelled already stays as it is.

    Raises:
        OrderUnknown: There is none.
        TooLate: It can no longer be cancelled.

    """
    order = await find(order_id, context)
    if order.cancel(context.now):
        context.save(order_id, order)
        publishing.announce(order, context)
    return order


async def find(order_id: str, context: StateContext) -> Order:
    """Read an order.

    Raises:
        OrderUnknown: There is none.

    """
    order = await context.load(Order, order_id)
    if order is None:
        raise OrderUnknown(order_id)
    return order
