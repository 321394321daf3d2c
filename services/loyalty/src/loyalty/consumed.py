"""Events consumed from other services, reduced to the fields needed here."""

from tidings import Event, event


class Customer(Event):
    """The customer of an order."""

    customer_id: str


@event("orders.orderCompleted", subject="order_id")
class OrderCompleted(Event):
    """The customer has the order."""

    order_id: str
    customer: Customer
    total_cents: int
