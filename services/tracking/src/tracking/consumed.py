"""Events consumed from other services, reduced to the fields needed here."""

from datetime import datetime

from tidings import Event, event
from tracking.domain import Line


class OrderEvent(Event):
    """An event about an order."""

    order_id: str


class WithContent(OrderEvent):
    """An event with the content of the order."""

    fulfilment: str
    lines: tuple[Line, ...]
    total_cents: int


class WithReason(OrderEvent):
    """An event with a reason."""

    reason: str


class WithAmount(OrderEvent):
    """An event with an amount of money."""

    amount_cents: int


@event("orders.orderPlaced", subject="order_id")
class OrderPlaced(WithContent):
    """A customer has ordered."""


@event("orders.orderConfirmed", version=2, subject="order_id")
class OrderConfirmed(WithContent):
    """The order is paid for and will be made."""


@event("orders.orderCancelled", subject="order_id")
class OrderCancelled(WithReason):
    """The order was cancelled."""


@event("orders.orderCompleted", subject="order_id")
class OrderCompleted(OrderEvent):
    """The customer has the order."""

    fulfilment: str
    total_cents: int


@event("payments.paymentAuthorised", subject="order_id")
class PaymentAuthorised(WithAmount):
    """The payment is authorised."""


@event("payments.paymentRefused", subject="order_id")
class PaymentRefused(WithReason):
    """The payment was refused."""


@event("payments.paymentSettled", subject="order_id")
class PaymentSettled(WithAmount):
    """The amount was charged."""


@event("payments.paymentVoided", subject="order_id")
class PaymentVoided(WithAmount):
    """The authorisation was released."""


@event("payments.paymentRefunded", subject="order_id")
class PaymentRefunded(WithAmount):
    """The amount was paid back."""


@event("kitchen.preparationStarted", subject="order_id")
class PreparationStarted(OrderEvent):
    """The kitchen has started the order."""


@event("kitchen.pizzaPrepared", subject="order_id")
class PizzaPrepared(OrderEvent):
    """The pizzas go into the oven."""


@event("kitchen.pizzaBaked", subject="order_id")
class PizzaBaked(OrderEvent):
    """The pizzas are out of the oven."""


@event("kitchen.qualityChecked", subject="order_id")
class QualityChecked(OrderEvent):
    """The quality was checked."""

    passed: bool
    attempt: int


@event("kitchen.pizzaBoxed", subject="order_id")
class PizzaBoxed(OrderEvent):
    """The order is boxed."""

    boxes: int


@event("kitchen.orderRejected", subject="order_id")
class OrderRejected(WithReason):
    """The kitchen rejected the order."""


@event("kitchen.preparationStopped", subject="order_id")
class PreparationStopped(OrderEvent):
    """The kitchen has stopped working on the order."""


@event("pickup.orderShelved", subject="order_id")
class OrderShelved(OrderEvent):
    """The order waits on a shelf; the customer needs the code to collect it."""

    shelf: str
    code: str


@event("pickup.orderCollected", subject="order_id")
class OrderPickedUp(OrderEvent):
    """The customer has collected the order."""


@event("pickup.collectionExpired", subject="order_id")
class CollectionExpired(OrderEvent):
    """The order was not collected in time."""


@event("delivery.driverAssigned", subject="order_id")
class DriverAssigned(OrderEvent):
    """The order was assigned to a driver."""

    driver_id: str
    driver_name: str


@event("delivery.orderCollected", subject="order_id")
class OrderCollectedByDriver(OrderEvent):
    """The driver is on the way."""


@event("delivery.orderDelivered", subject="order_id")
class OrderDelivered(OrderEvent):
    """The order was delivered."""


@event("delivery.deliveryFailed", subject="order_id")
class DeliveryFailed(WithReason):
    """The order could not be delivered."""


@event("loyalty.pointsAdded", subject="customer_id")
class PointsAdded(OrderEvent):
    """The customer was given loyalty points."""

    customer_id: str
    points: int


@event("notifications.emailSent", subject="email_id")
class EmailSent(OrderEvent):
    """An e-mail was sent to the customer."""

    email_id: str
    template: str


@event("archive.replayCompleted", subject="replay_id")
class ReplayCompleted(Event):
    """A replay has ended; `state` says whether it was complete."""

    replay_id: str
    consumer: str
    count: int
    completed_at: datetime
    state: str = "completed"
    reason: str = ""
