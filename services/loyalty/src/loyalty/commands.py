"""Scheduled messages of loyalty; they never leave it. They are the queue in front of the SaaS."""

from tidings import Event, command


@command("loyalty.awardPoints", subject="order_id")
class AwardPoints(Event):
    """Award the points for an order through the provider; retried until it responds."""

    order_id: str


@command("loyalty.updateMember", subject="customer_id")
class UpdateMember(Event):
    """Update a member from the current state of an award."""

    customer_id: str
    order_id: str
