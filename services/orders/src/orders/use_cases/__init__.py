"""Use cases of orders: one unit of work on one order, or on the copy of the menu, each."""

import hashlib
from collections.abc import Callable
from datetime import datetime, timedelta

import msgspec

from orders.commands import ExpirePayment
from orders.domain import Draft, Menu, Order, OrderError, OrderUnknown, Reason
from orders.use_cases import publishing
from tidings import Rejected, StateContext

MENU = "current"
"""State key of the single menu document."""
MAX_CLOCK_SKEW = timedelta(minutes=5)
"""How far in the future a change of the menu may be dated."""


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


async def change_menu(context: StateContext, at: datetime, step: Callable[[Menu], None]) -> None:
    """Apply a change with the time `at` to the menu.

    Raises:
        Rejected: `at` is in the future. The latest change wins, so this one would suppress all others until then.

    """
    if at > context.now + MAX_CLOCK_SKEW:
        raise Rejected(f"the change is dated {at.isoformat()}, which is in the future: check the clock of menu")
    menu = await context.load(Menu, MENU) or Menu()
    step(menu)
    context.save(MENU, menu)
