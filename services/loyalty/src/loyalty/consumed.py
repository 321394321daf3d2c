"""What loyalty reads of other services' events: only the fields it needs."""

from __future__ import annotations

from tidings import Event, event


class Customer(Event):
    """Who ordered."""

    customer_id: str


@event("orders.orderCompleted", subject="order_id")
class OrderCompleted(Event):
    """A customer has the pizza."""

    order_id: str
    customer: Customer
    total_cents: int
