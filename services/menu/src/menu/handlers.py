"""Event handlers of the menu."""

from menu.consumed import IngredientDelivered, IngredientRanOut
from menu.use_cases import MAIN, open_menu, publish_changes
from tidings import Handlers, StateContext

handlers = Handlers()


@handlers.on(IngredientRanOut)
async def ingredient_ran_out(event: IngredientRanOut, context: StateContext) -> None:
    """Mark the pizzas that need the ingredient as sold out."""
    menu = await open_menu(context)
    publish_changes(menu.supply(event.ingredient, event.ran_out_at, context.now, available=False), context)
    context.save(MAIN, menu)


@handlers.on(IngredientDelivered)
async def ingredient_delivered(event: IngredientDelivered, context: StateContext) -> None:
    """Make the pizzas available again that lacked this ingredient only."""
    menu = await open_menu(context)
    publish_changes(menu.supply(event.ingredient, event.delivered_at, context.now, available=True), context)
    context.save(MAIN, menu)
