"""Events published by the menu. Consumers order the events of a sku by their times."""

from typing import Annotated, Literal

from msgspec import Meta

from tidings import Event, Moment, event

Cents = Annotated[int, Meta(ge=0)]


@event("menu.recipePublished", subject="sku")
class RecipePublished(Event):
    """A pizza was added or changed; replaces all earlier data of the sku."""

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
    """The price of a pizza has changed."""

    sku: str
    price_cents: Cents
    currency: Literal["EUR"] = "EUR"
    changed_at: Moment


@event("menu.itemSoldOut", subject="sku")
class ItemSoldOut(Event):
    """A pizza is not available for now."""

    sku: str
    since: Moment


@event("menu.itemRestocked", subject="sku")
class ItemRestocked(Event):
    """A pizza is available again."""

    sku: str
    since: Moment
