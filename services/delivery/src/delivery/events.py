"""Events published by the delivery service."""

from typing import Annotated

from delivery.domain import Failure
from tidings import PERSONAL, SUBJECT, Event, Moment, event


@event("delivery.driverCameOnDuty", subject="driver_id")
class DriverCameOnDuty(Event):
    """A driver is available for orders."""

    driver_id: Annotated[str, SUBJECT]
    name: Annotated[str, PERSONAL]
    at: Moment


@event("delivery.driverWentOffDuty", subject="driver_id")
class DriverWentOffDuty(Event):
    """A driver has gone off duty with no order under way."""

    driver_id: str
    at: Moment


@event("delivery.driverAssigned", subject="order_id")
class DriverAssigned(Event):
    """An order was assigned to a driver."""

    order_id: str
    driver_id: Annotated[str, SUBJECT]
    driver_name: Annotated[str, PERSONAL]
    assigned_at: Moment


@event("delivery.orderCollected", subject="order_id")
class OrderCollected(Event):
    """The driver has collected the order and is on the way."""

    order_id: str
    driver_id: str
    collected_at: Moment


@event("delivery.orderDelivered", subject="order_id")
class OrderDelivered(Event):
    """The customer has the order."""

    order_id: str
    driver_id: str
    delivered_at: Moment


@event("delivery.deliveryFailed", subject="order_id")
class DeliveryFailed(Event):
    """The order cannot be delivered."""

    order_id: str
    reason: Failure
    failed_at: Moment
