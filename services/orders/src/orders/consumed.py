"""Events consumed from other services, reduced to the fields needed here."""

from typing import Annotated

from msgspec import Meta

from tidings import Event, Moment, event

OrderId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9-]{1,64}\Z")]
Sku = Annotated[str, Meta(min_length=1, max_length=64)]
Cents = Annotated[int, Meta(ge=0)]


@event("payments.paymentAuthorised", subject="order_id")
class PaymentAuthorised(Event):
    """The payment is authorised."""

    order_id: OrderId


@event("payments.paymentRefused", subject="order_id")
class PaymentRefused(Event):
    """The payment was refused."""

    order_id: OrderId


@event("kitchen.preparationStarted", subject="order_id")
class PreparationStarted(Event):
    """The kitchen has started the order."""

    order_id: OrderId


@event("kitchen.orderRejected", subject="order_id")
class OrderRejected(Event):
    """The kitchen rejected the order."""

    order_id: OrderId
    reason: str


@event("kitchen.pizzaBoxed", subject="order_id")
class PizzaBoxed(Event):
    """The order is boxed."""

    order_id: OrderId


@event("pickup.orderCollected", subject="order_id")
class CollectedByCustomer(Event):
    """The customer has collected the order."""

    order_id: OrderId


@event("pickup.collectionExpired", subject="order_id")
class CollectionExpired(Event):
    """The customer has not collected the order in time."""

    order_id: OrderId


@event("delivery.orderCollected", subject="order_id")
class CollectedByDriver(Event):
    """The driver has collected the order."""

    order_id: OrderId


@event("delivery.orderDelivered", subject="order_id")
class OrderDelivered(Event):
    """The order was delivered."""

    order_id: OrderId


@event("delivery.deliveryFailed", subject="order_id")
class DeliveryFailed(Event):
    """The order could not be delivered."""

    order_id: OrderId
    reason: str


@event("menu.recipePublished", subject="sku")
class RecipePublished(Event):
    """A pizza was added or changed."""

    sku: Sku
    name: str
    price_cents: Cents
    available: bool
    published_at: Moment


@event("menu.priceChanged", subject="sku")
class PriceChanged(Event):
    """The price of a pizza has changed."""

    sku: Sku
    price_cents: Cents
    changed_at: Moment


@event("menu.itemSoldOut", subject="sku")
class ItemSoldOut(Event):
    """A pizza is not available for now."""

    sku: Sku
    since: Moment


@event("menu.itemRestocked", subject="sku")
class ItemRestocked(Event):
    """A pizza is available again."""

    sku: Sku
    since: Moment
