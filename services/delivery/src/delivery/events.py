"""What delivery tells."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from msgspec import Meta

from delivery.domain import Failure
from tidings import Event, event

Moment = Annotated[datetime, Meta(tz=True)]
"""With an offset from UTC, as RFC 3339 asks."""


@event("delivery.driverCameOnDuty", subject="driver_id")
class DriverCameOnDuty(Event):
    """A driver can be given orders."""

    driver_id: str
    name: str
    at: Moment


@event("delivery.driverWentOffDuty", subject="driver_id")
class DriverWentOffDuty(Event):
    """A driver has gone home, without an order in hand."""

    driver_id: str
    at: Moment


@event("delivery.driverAssigned", subject="order_id")
class DriverAssigned(Event):
    """A driver was found for an order."""

    order_id: str
    driver_id: str
    driver_name: str
    assigned_at: Moment


@event("delivery.orderCollected", subject="order_id")
class OrderCollected(Event):
    """The driver has the order and is on the way."""

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
    """The order does not reach its customer."""

    order_id: str
    reason: Failure
    failed_at: Moment
