"""Events consumed from other services, reduced to the fields needed here."""

from delivery.domain import Address
from tidings import Event, event


class Customer(Event):
    """The customer of an order."""

    customer_id: str
    name: str


@event("orders.orderConfirmed", version=2, subject="order_id")
class OrderConfirmed(Event):
    """The order is paid for and will be made. Orders for pickup have no address."""

    order_id: str
    customer: Customer
    fulfilment: str
    address: Address | None = None


@event("orders.orderCancelled", subject="order_id")
class OrderCancelled(Event):
    """The order was cancelled; `stage` is the status it had reached."""

    order_id: str
    stage: str


@event("kitchen.pizzaBoxed", subject="order_id")
class PizzaBoxed(Event):
    """The order is ready to be collected."""

    order_id: str
    fulfilment: str
    boxes: int
