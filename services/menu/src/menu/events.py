"""What the menu publishes. Of two facts about a sku the one with the later moment is the later one."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta

from tidings import Event, event

Moment = Annotated[datetime, Meta(tz=True)]
"""With an offset from UTC, as RFC 3339 asks."""
Cents = Annotated[int, Meta(ge=0)]


@event("menu.recipePublished", subject="sku")
class RecipePublished(Event):
    """A pizza is on the menu, as it is described here; it replaces what was said of it before."""

    sku: str
    name: str
    description: str
    price_cents: Cents
    currency: Literal["EUR"] = "EUR"
    ingredients: tuple[str, ...]
    allergens: tuple[str, ...]
    image_hint: str
    available: bool
    published_at: Moment


@event("menu.priceChanged", subject="sku")
class PriceChanged(Event):
    """A pizza costs something else from now on."""

    sku: str
    price_cents: Cents
    currency: Literal["EUR"] = "EUR"
    changed_at: Moment


@event("menu.itemSoldOut", subject="sku")
class ItemSoldOut(Event):
    """A pizza cannot be had for the time being."""

    sku: str
    since: Moment


@event("menu.itemRestocked", subject="sku")
class ItemRestocked(Event):
    """A pizza can be had again."""

    sku: str
    since: Moment
