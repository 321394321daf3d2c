"""What the menu reads of other services' events: only the fields it needs."""

from __future__ import annotations

from datetime import datetime

from tidings import Event, event


@event("kitchen.ingredientRanOut", subject="ingredient")
class IngredientRanOut(Event):
    """Nothing is left of an ingredient."""

    ingredient: str
    ran_out_at: datetime


@event("kitchen.ingredientDelivered", subject="ingredient")
class IngredientDelivered(Event):
    """An ingredient that had run out is there again."""

    ingredient: str
    delivered_at: datetime
