"""Keeps orders' own copy of the menu, so that an order is priced without asking anybody."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from orders.consumed import ItemRestocked, ItemSoldOut, PriceChanged, RecipePublished
from orders.domain import Menu
from orders.use_cases import MENU
from tidings import Handlers, Rejected, StateContext

handlers = Handlers()
AHEAD = timedelta(minutes=5)  # clocks of two machines may differ that much


@handlers.on(RecipePublished)
async def publish(event: RecipePublished, context: StateContext) -> None:
    """Something new, or something new about it."""
    await change(
        context,
        event.published_at,
        lambda menu: menu.publish(
            event.sku, event.name, event.price_cents, available=event.available, at=event.published_at
        ),
    )


@handlers.on(PriceChanged)
async def reprice(event: PriceChanged, context: StateContext) -> None:
    """What was ordered before keeps its price."""
    await change(
        context, event.changed_at, lambda menu: menu.change_price(event.sku, event.price_cents, event.changed_at)
    )


@handlers.on(ItemSoldOut)
async def take_off(event: ItemSoldOut, context: StateContext) -> None:
    """Not to be ordered for now."""
    await change(context, event.since, lambda menu: menu.set_available(event.sku, available=False, at=event.since))


@handlers.on(ItemRestocked)
async def put_back(event: ItemRestocked, context: StateContext) -> None:
    """To be ordered again."""
    await change(context, event.since, lambda menu: menu.set_available(event.sku, available=True, at=event.since))


async def change(context: StateContext, at: datetime, step: Callable[[Menu], None]) -> None:
    """Change the one menu by what is so since `at`.

    Raises:
        Rejected: It lies in the future. The latest fact holds, so nothing else would count until then.

    """
    if at > context.now + AHEAD:
        raise Rejected(f"nothing can change from {at.isoformat()} on, which is in the future: is menu's clock right?")
    menu = await context.load(Menu, MENU) or Menu()
    step(menu)
    context.save(MENU, menu)
