"""What the kitchen reads of other services' events: only the fields it needs."""

from __future__ import annotations

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
    """An order is not wanted any more."""

    order_id: str


@event("menu.recipePublished", subject="sku")
class RecipePublished(Event):
    """What a pizza is made of."""

    sku: str
    ingredients: list[str]
    published_at: datetime
