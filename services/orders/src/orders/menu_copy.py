"""Keeps orders' own copy of the menu, so that an order is priced without asking anybody."""

from __future__ import annotations

from collections.abc import Callable

from orders.domain import Menu
from orders.incoming import ItemRestocked, ItemSoldOut, PriceChanged, RecipePublished
from orders.requests import MENU
from tidings import Handlers, StateContext

handlers = Handlers()


@handlers.on(RecipePublished)
async def publish(event: RecipePublished, context: StateContext) -> None:
    """Something new, or something new about it."""
    await change(
        context,
        lambda menu: menu.publish(
            event.sku, event.name, event.price_cents, available=event.available, at=event.published_at
        ),
    )


@handlers.on(PriceChanged)
async def reprice(event: PriceChanged, context: StateContext) -> None:
    """What was ordered before keeps its price."""
    await change(context, lambda menu: menu.change_price(event.sku, event.price_cents, event.changed_at))


@handlers.on(ItemSoldOut)
async def take_off(event: ItemSoldOut, context: StateContext) -> None:
    """Not to be ordered for now."""
    await change(context, lambda menu: menu.set_available(event.sku, available=False, at=event.since))


@handlers.on(ItemRestocked)
async def put_back(event: ItemRestocked, context: StateContext) -> None:
    """To be ordered again."""
    await change(context, lambda menu: menu.set_available(event.sku, available=True, at=event.since))


async def change(context: StateContext, step: Callable[[Menu], None]) -> None:
    """Change the one menu."""
    menu = await context.load(Menu, MENU) or Menu()
    step(menu)
    context.save(MENU, menu)
