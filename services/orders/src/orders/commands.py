"""What orders asks of itself, later."""

from __future__ import annotations

from tidings import Event, command


@command("orders.expirePayment", subject="order_id")
class ExpirePayment(Event):
    """Give the order up, unless its payment has been answered meanwhile."""

    order_id: str
