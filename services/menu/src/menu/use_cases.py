"""Use cases of the API, one unit of work each."""

from __future__ import annotations

from dataclasses import dataclass

from menu import events
from menu.domain import Menu, Recipe
from menu.publishing import MAIN, open_menu, publish_changes, recipe_published
from tidings import StateContext


@dataclass(frozen=True, slots=True)
class Price:
    """New price of a pizza, in euro cents."""

    sku: str
    cents: int


async def read_menu(_: None, context: StateContext) -> Menu:
    """Return the menu, which is empty before the first start has created it."""
    return await context.load(Menu, MAIN) or Menu()


async def put_recipe(recipe: Recipe, context: StateContext) -> Menu:
    """Add or change a pizza. Idempotent."""
    menu = await open_menu(context)
    if menu.put(recipe, context.now) is not None:
        context.publish(recipe_published(menu, recipe.sku))
        context.save(MAIN, menu)
    return menu


async def set_price(price: Price, context: StateContext) -> Menu:
    """Change a price. Idempotent.

    Raises:
        UnknownItem: The pizza is not on the menu.

    """
    menu = await open_menu(context)
    since = menu.reprice(price.sku, price.cents, context.now)
    if since is not None:
        context.publish(events.PriceChanged(sku=price.sku, price_cents=price.cents, changed_at=since))
        context.save(MAIN, menu)
    return menu


async def sold_out(sku: str, context: StateContext) -> Menu:
    """Mark a pizza as sold out until it is restocked by hand. Idempotent.

    Raises:
        UnknownItem: The pizza is not on the menu.

    """
    menu = await open_menu(context)
    publish_changes(menu.withdraw(sku, context.now), context)
    context.save(MAIN, menu)
    return menu


async def restocked(sku: str, context: StateContext) -> Menu:
    """Mark a pizza as available again. Idempotent.

    Raises:
        UnknownItem: The pizza is not on the menu.
        IngredientMissing: One of its ingredients has run out.

    """
    menu = await open_menu(context)
    publish_changes(menu.restore(sku, context.now), context)
    context.save(MAIN, menu)
    return menu
