"""Events published by loyalty."""

from typing import Annotated

from msgspec import Meta

from loyalty.domain import Reason
from tidings import Event, Moment, event

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
