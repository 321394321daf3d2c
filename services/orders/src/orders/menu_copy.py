"""Handlers that maintain orders' copy of the menu, so that orders are priced without calling another service."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from orders.consumed import ItemRestocked, ItemSoldOut, PriceChanged, RecipePublished
from orders.domain import Menu
from orders.use_cases import MENU
from tidings import Handlers, Rejected, StateContext

handlers = Handlers()
MAX_CLOCK_SKEW = timedelta(minutes=5)


@handlers.on(RecipePublished)
async def publish(event: RecipePublished, context: StateContext) -> None:
    """Add or update an item."""
    await change(
        context,
        event.published_at,
        lambda menu: menu.publish(
            event.sku, event.name, event.price_cents, available=event.available, at=event.published_at
        ),
    )


@handlers.on(PriceChanged)
async def reprice(event: PriceChanged, context: StateContext) -> None:
    """Change a price for future orders."""
    await change(
        context, event.changed_at, lambda menu: menu.change_price(event.sku, event.price_cents, event.changed_at)
    )


@handlers.on(ItemSoldOut)
async def take_off(event: ItemSoldOut, context: StateContext) -> None:
    """Mark an item as sold out."""
    await change(context, event.since, lambda menu: menu.set_available(event.sku, available=False, at=event.since))


@handlers.on(ItemRestocked)
async def put_back(event: ItemRestocked, context: StateContext) -> None:
    """Mark an item as available."""
    await change(context, event.since, lambda menu: menu.set_available(event.sku, available=True, at=event.since))


async def change(context: StateContext, at: datetime, step: Callable[[Menu], None]) -> None:
    """Apply a change with the time `at` to the menu.

    Raises:
        Rejected: `at` is in the future. The latest change wins, so this one would suppress all others until then.

    """
    if at > context.now + MAX_CLOCK_SKEW:
        raise Rejected(f"the change is dated {at.isoformat()}, which is in the future: check the clock of menu")
    menu = await context.load(Menu, MENU) or Menu()
    step(menu)
    context.save(MENU, menu)
