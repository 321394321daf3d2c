"""What loyalty tells itself: scheduled messages, never published. They are its queue before the SaaS."""

from __future__ import annotations

from tidings import Event, command


@command("loyalty.givePoints", subject="order_id")
class GivePoints(Event):
    """Have the points for an order entered in the provider's books; tried until there is an answer."""

    order_id: str


@command("loyalty.updateMember", subject="customer_id")
class UpdateMember(Event):
    """Bring a member in line with the points for an order as they now are."""

    customer_id: str
    order_id: str
