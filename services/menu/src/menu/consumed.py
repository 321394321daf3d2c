"""Events consumed from other services, reduced to the fields needed here."""

from datetime import datetime

from tidings import Event, event


@event("kitchen.ingredientRanOut", subject="ingredient")
class IngredientRanOut(Event):
    """An ingredient has run out."""

    ingredient: str
    ran_out_at: datetime


@event("kitchen.ingredientDelivered", subject="ingredient")
class IngredientDelivered(Event):
    """An ingredient that had run out is available again."""

    ingredient: str
    delivered_at: datetime
