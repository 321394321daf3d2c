"""What orders reads of other services' events: of each only the fields it needs."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from msgspec import Meta

from tidings import Event, event

OrderId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9-]{1,64}\Z")]
Sku = Annotated[str, Meta(min_length=1, max_length=64)]
Moment = Annotated[datetime, Meta(tz=True)]
Cents = Annotated[int, Meta(ge=0)]


@event("payments.paymentAuthorised", subject="order_id")
class PaymentAuthorised(Event):
    """The money is reserved."""

    order_id: OrderId


@event("payments.paymentRefused", subject="order_id")
class PaymentRefused(Event):
    """The money is not to be had."""

    order_id: OrderId


@event("kitchen.preparationStarted", subject="order_id")
class PreparationStarted(Event):
    """The kitchen has begun."""

    order_id: OrderId


@event("kitchen.orderRejected", subject="order_id")
class OrderRejected(Event):
    """The kitchen will not do it."""

    order_id: OrderId
    reason: str


@event("kitchen.pizzaBoxed", subject="order_id")
class PizzaBoxed(Event):
    """The kitchen is done."""

    order_id: OrderId


@event("pickup.orderCollected", subject="order_id")
class CollectedByCustomer(Event):
    """The customer has come for it."""

    order_id: OrderId


@event("pickup.collectionExpired", subject="order_id")
class CollectionExpired(Event):
    """The customer has not come for it."""

    order_id: OrderId


@event("delivery.orderCollected", subject="order_id")
class CollectedByDriver(Event):
    """The driver has it."""

    order_id: OrderId


@event("delivery.orderDelivered", subject="order_id")
class OrderDelivered(Event):
    """The customer has it."""

    order_id: OrderId


@event("delivery.deliveryFailed", subject="order_id")
class DeliveryFailed(Event):
    """The customer will not get it."""

    order_id: OrderId
    reason: str


@event("menu.recipePublished", subject="sku")
class RecipePublished(Event):
    """A pizza is on the menu."""

    sku: Sku
    name: str
    price_cents: Cents
    available: bool
    published_at: Moment


@event("menu.priceChanged", subject="sku")
class PriceChanged(Event):
    """A pizza costs something else."""

    sku: Sku
    price_cents: Cents
    changed_at: Moment


@event("menu.itemSoldOut", subject="sku")
class ItemSoldOut(Event):
    """A pizza is not to be had."""

    sku: Sku
    since: Moment


@event("menu.itemRestocked", subject="sku")
class ItemRestocked(Event):
    """A pizza is to be had again."""

    sku: Sku
    since: Moment
