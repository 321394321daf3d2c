"""Events consumed from other services, reduced to the fields needed here."""

from tidings import Event, event


@event("orders.orderCompleted", subject="order_id")
class OrderCompleted(Event):
    """The customer has the order."""

    order_id: str


@event("orders.orderCancelled", subject="order_id")
class OrderCancelled(Event):
    """The order was cancelled."""

    order_id: str
