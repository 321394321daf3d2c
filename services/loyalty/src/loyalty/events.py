"""Events published by loyalty."""

from datetime import datetime
from typing import Annotated

from msgspec import Meta

from loyalty.domain import Reason
from tidings import Event, event

Moment = Annotated[datetime, Meta(tz=True)]
"""A time with a UTC offset (RFC 3339)."""
Points = Annotated[int, Meta(ge=1)]


@event("loyalty.pointsAdded", subject="customer_id")
class PointsAdded(Event):
    """A customer was given the points for an order; `balance` includes them."""

    customer_id: str
    order_id: str
    points: Points
    balance: int
    added_at: Moment


@event("loyalty.pointsRejected", subject="customer_id")
class PointsRejected(Event):
    """The points for an order will not be given."""

    customer_id: str
    order_id: str
    points: Points
    reason: Reason
    rejected_at: Moment
