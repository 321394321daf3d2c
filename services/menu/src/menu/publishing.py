"""The menu's document, and the events for its changes."""

from __future__ import annotations

from collections.abc import Iterable

from menu import events
from menu.domain import AvailabilityChange, Menu
from menu.startup import initial_recipes
from tidings import StateContext

MAIN = "main"
"""State key of the single menu document.

One document is enough: a menu is small and rarely changed, and one ingredient affects many of its pizzas.
"""


async def open_menu(context: StateContext) -> Menu:
    """Load the menu, or create it on the very first start and publish all recipes."""
    menu = await context.load(Menu, MAIN)
    if menu is None:
        menu = Menu.of(initial_recipes(), context.now)
        context.save(MAIN, menu)
        for sku in menu.items:
            context.publish(recipe_published(menu, sku))
    return menu


def recipe_published(menu: Menu, sku: str) -> events.RecipePublished:
    """Return the event for the current state of a pizza."""
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


def publish_changes(changes: Iterable[AvailabilityChange], context: StateContext) -> None:
    """Publish an event for each change of availability."""
    for change in changes:
        event_type = events.ItemRestocked if change.available else events.ItemSoldOut
        context.publish(event_type(sku=change.sku, since=change.since))
