"""Events consumed from other services, reduced to the fields needed here."""

from datetime import datetime

from kitchen.domain import Fulfilment, Line
from tidings import Event, event


@event("orders.orderConfirmed", version=2, subject="order_id")
class OrderConfirmed(Event):
    """An order is paid for and can be made."""

    order_id: str
    fulfilment: Fulfilment
    lines: list[Line]
    confirmed_at: datetime


@event("orders.orderCancelled", subject="order_id")
class OrderCancelled(Event):
    """The order was cancelled."""

    order_id: str


@event("menu.recipePublished", subject="sku")
class RecipePublished(Event):
    """A recipe was published or changed."""

    sku: str
    ingredients: list[str]
    published_at: datetime
