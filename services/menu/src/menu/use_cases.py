"""What the API asks for, each as one unit of work."""

from __future__ import annotations

from dataclasses import dataclass

from menu import events
from menu.domain import Menu, Recipe
from menu.publishing import MAIN, open_menu, recipe_published, tell
from tidings import StateContext


@dataclass(frozen=True, slots=True)
class Price:
    """What a pizza is to cost, in cents of a euro."""

    sku: str
    cents: int


async def read_menu(_: None, context: StateContext) -> Menu:
    """Look at the menu; empty before it has been opened."""
    return await context.load(Menu, MAIN) or Menu()


async def put_recipe(recipe: Recipe, context: StateContext) -> Menu:
    """Add or change a pizza; nothing happens where it stands like that already."""
    menu = await open_menu(context)
    if menu.put(recipe, context.now) is not None:
        context.publish(recipe_published(menu, recipe.sku))
        context.save(MAIN, menu)
    return menu


async def set_price(price: Price, context: StateContext) -> Menu:
    """Change a price; nothing happens where it is the same.

    Raises:
        UnknownItem: There is no such pizza.

    """
    menu = await open_menu(context)
    since = menu.reprice(price.sku, price.cents, context.now)
    if since is not None:
        context.publish(events.PriceChanged(sku=price.sku, price_cents=price.cents, changed_at=since))
        context.save(MAIN, menu)
    return menu


async def sold_out(sku: str, context: StateContext) -> Menu:
    """Take a pizza off until it is restocked by hand; twice is as once.

    Raises:
        UnknownItem: There is no such pizza.

    """
    menu = await open_menu(context)
    tell(menu.withdraw(sku, context.now), context)
    context.save(MAIN, menu)
    return menu


async def restocked(sku: str, context: StateContext) -> Menu:
    """Offer a pizza again; twice is as once.

    Raises:
        UnknownItem: There is no such pizza.
        StillMissing: One of its ingredients has run out.

    """
    menu = await open_menu(context)
    tell(menu.restore(sku, context.now), context)
    context.save(MAIN, menu)
    return menu
