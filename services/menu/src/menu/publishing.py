"""The menu's one document, and how its changes become facts."""

from __future__ import annotations

from collections.abc import Iterable

from menu import events
from menu.domain import Flip, Menu
from menu.startup import opening_recipes
from tidings import StateContext

MAIN = "main"
"""The key of the one document: a menu is small and seldom changed, and an ingredient concerns many of its pizzas."""


async def open_menu(context: StateContext) -> Menu:
    """Load the menu for a change; at the first start ever it is opened, and every recipe published."""
    menu = await context.load(Menu, MAIN)
    if menu is None:
        menu = Menu.of(opening_recipes(), context.now)
        context.save(MAIN, menu)
        for sku in menu.items:
            context.publish(recipe_published(menu, sku))
    return menu


def recipe_published(menu: Menu, sku: str) -> events.RecipePublished:
    """Tell how a pizza stands on the menu."""
    item = menu.item(sku)
    return events.RecipePublished(
        sku=sku,
        name=item.recipe.name,
        description=item.recipe.description,
        price_cents=item.recipe.price_cents,
        ingredients=item.recipe.ingredients,
        allergens=item.recipe.allergens,
        image_hint=item.recipe.image_hint,
        available=menu.available(sku),
        published_at=item.changed_at,
    )


def tell(flips: Iterable[Flip], context: StateContext) -> None:
    """Tell what can be had no more, and what can be had again."""
    for flip in flips:
        kind = events.ItemRestocked if flip.available else events.ItemSoldOut
        context.publish(kind(sku=flip.sku, since=flip.since))
