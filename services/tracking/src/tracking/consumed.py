"""Events consumed from other services, reduced to the fields needed here."""

from __future__ import annotations

from datetime import datetime

from tidings import Event, event
from tracking.domain import Line


class OrderEvent(Event):
    """A fact about an order."""

    order_id: str


class WithContent(OrderEvent):
    """A fact that says what was ordered."""

    fulfilment: str
    lines: tuple[Line, ...]
    total_cents: int


class WithReason(OrderEvent):
    """A fact that says why."""

    reason: str


class WithAmount(OrderEvent):
    """A fact about money."""

    amount_cents: int


@event("orders.orderPlaced", subject="order_id")
class OrderPlaced(WithContent):
    """Somebody ordered."""


@event("orders.orderConfirmed", version=2, subject="order_id")
class OrderConfirmed(WithContent):
    """The order is paid for and will be made."""


@event("orders.orderCancelled", subject="order_id")
class OrderCancelled(WithReason):
    """The order will not be carried out."""


@event("orders.orderCompleted", subject="order_id")
class OrderCompleted(OrderEvent):
    """The customer has the order."""

    fulfilment: str
    total_cents: int


@event("payments.paymentAuthorised", subject="order_id")
class PaymentAuthorised(WithAmount):
    """The money is reserved."""


@event("payments.paymentRefused", subject="order_id")
class PaymentRefused(WithReason):
    """There is no money."""


@event("payments.paymentSettled", subject="order_id")
class PaymentSettled(WithAmount):
    """The money was taken."""


@event("payments.paymentVoided", subject="order_id")
class PaymentVoided(WithAmount):
    """The money is no longer reserved."""


@event("payments.paymentRefunded", subject="order_id")
class PaymentRefunded(WithAmount):
    """The money was given back."""


@event("kitchen.preparationStarted", subject="order_id")
class PreparationStarted(OrderEvent):
    """The kitchen has begun."""


@event("kitchen.pizzaPrepared", subject="order_id")
class PizzaPrepared(OrderEvent):
    """It goes into the oven."""


@event("kitchen.pizzaBaked", subject="order_id")
class PizzaBaked(OrderEvent):
    """It comes out of the oven."""


@event("kitchen.qualityChecked", subject="order_id")
class QualityChecked(OrderEvent):
    """Somebody looked at it."""

    passed: bool
    attempt: int


@event("kitchen.pizzaBoxed", subject="order_id")
class PizzaBoxed(OrderEvent):
    """It is in its boxes."""

    boxes: int


@event("kitchen.orderRejected", subject="order_id")
class OrderRejected(WithReason):
    """The kitchen cannot make it."""


@event("kitchen.preparationStopped", subject="order_id")
class PreparationStopped(OrderEvent):
    """The kitchen has put it aside."""


@event("pickup.orderShelved", subject="order_id")
class OrderShelved(OrderEvent):
    """It waits for its customer, who says the code to be given it."""

    shelf: str
    code: str


@event("pickup.orderCollected", subject="order_id")
class OrderPickedUp(OrderEvent):
    """The customer has taken it."""


@event("pickup.collectionExpired", subject="order_id")
class CollectionExpired(OrderEvent):
    """Nobody came."""


@event("delivery.driverAssigned", subject="order_id")
class DriverAssigned(OrderEvent):
    """Somebody will bring it."""

    driver_name: str


@event("delivery.orderCollected", subject="order_id")
class OrderCollectedByDriver(OrderEvent):
    """It is on its way."""


@event("delivery.orderDelivered", subject="order_id")
class OrderDelivered(OrderEvent):
    """It has arrived."""


@event("delivery.deliveryFailed", subject="order_id")
class DeliveryFailed(WithReason):
    """It could not be brought."""


@event("loyalty.pointsAdded", subject="customer_id")
class PointsAdded(OrderEvent):
    """The customer was given points."""

    customer_id: str
    points: int


@event("notifications.emailSent", subject="email_id")
class EmailSent(OrderEvent):
    """The customer was written to."""

    email_id: str
    template: str


@event("archive.replayCompleted", subject="replay_id")
class ReplayCompleted(Event):
    """The archive sends no more of what was asked for; `state` says whether that was all of it."""

    replay_id: str
    consumer: str
    count: int
    completed_at: datetime
    state: str = "completed"
    reason: str = ""
