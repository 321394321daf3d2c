"""What the menu does about events."""

from __future__ import annotations

from menu.consumed import IngredientDelivered, IngredientRanOut
from menu.publishing import MAIN, open_menu, tell
from tidings import Handlers, StateContext

handlers = Handlers()


@handlers.on(IngredientRanOut)
async def ingredient_ran_out(event: IngredientRanOut, context: StateContext) -> None:
    """Offer nothing that needs it."""
    menu = await open_menu(context)
    tell(menu.supply(event.ingredient, event.ran_out_at, context.now, available=False), context)
    context.save(MAIN, menu)


@handlers.on(IngredientDelivered)
async def ingredient_delivered(event: IngredientDelivered, context: StateContext) -> None:
    """Offer again what only lacked this."""
    menu = await open_menu(context)
    tell(menu.supply(event.ingredient, event.delivered_at, context.now, available=True), context)
    context.save(MAIN, menu)
