"""Use cases of the menu, one unit of work on its single document each, and the events for its changes."""

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files

import msgspec

from menu import events
from menu.domain import AvailabilityChange, Menu, Recipe
from tidings import StateContext

MAIN = "main"
"""State key of the single menu document.

One document is enough: a menu is small and rarely changed, and one ingredient affects many of its pizzas.
"""


def initial_recipes() -> list[Recipe]:
    """Return the recipes in this package's `menu.yaml`."""
    return msgspec.yaml.decode((files("menu") / "menu.yaml").read_bytes(), type=list[Recipe])


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
    recipe = msgspec.structs.asdict(item.recipe)
    return events.RecipePublished(**recipe, available=menu.available(sku), published_at=item.changed_at)


def publish_changes(changes: Iterable[AvailabilityChange], context: StateContext) -> None:
    """Publish an event for each change of availability."""
    for change in changes:
        event_type = events.ItemRestocked if change.available else events.ItemSoldOut
        context.publish(event_type(sku=change.sku, since=change.since))


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
