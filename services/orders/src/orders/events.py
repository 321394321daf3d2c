"""Events published by orders."""

from typing import Annotated, Literal

from msgspec import Meta

from tidings import PERSONAL, SUBJECT, Event, Moment, event

Cents = Annotated[int, Meta(ge=0, description="Euro cents, tax included")]
Quantity = Annotated[int, Meta(ge=1)]
Currency = Literal["EUR"]
Fulfilment = Literal["pickup", "delivery"]


class Customer(Event):
    """The customer of an order."""

    customer_id: Annotated[str, SUBJECT]
    name: Annotated[str, PERSONAL]
    email: Annotated[str, PERSONAL]


class Address(Event):
    """Delivery address."""

    street: Annotated[str, PERSONAL]
    city: Annotated[str, PERSONAL]
    postcode: Annotated[str, PERSONAL]


class Line(Event):
    """Quantity of one kind of pizza."""

    sku: str
    name: str
    quantity: Quantity
    unit_price_cents: Cents


@event("orders.orderPlaced", subject="order_id")
class OrderPlaced(Event):
    """A customer has ordered; the payment is not authorised yet."""

    order_id: str
    customer: Customer
    fulfilment: Fulfilment
    lines: list[Line]
    total_cents: Cents
    placed_at: Moment
    address: Address | None = None
    currency: Currency = "EUR"


@event("orders.orderConfirmed", version=1, subject="order_id")
class OrderConfirmedV1(Event):
    """The payment is authorised. Sparse: consumers get the rest from `GET /orders/{orderId}`."""

    order_id: str
    confirmed_at: Moment


@event("orders.orderConfirmed", version=2, subject="order_id")
class OrderConfirmed(Event):
    """The payment is authorised. Carries all the data that kitchen, pickup and delivery need."""

    order_id: str
    customer: Customer
    fulfilment: Fulfilment
    lines: list[Line]
    total_cents: Cents
    confirmed_at: Moment
    address: Address | None = None
    currency: Currency = "EUR"


@event("orders.orderCancelled", subject="order_id")
class OrderCancelled(Event):
    """The order was cancelled."""

    order_id: str
    customer_id: str
    reason: Literal[
        "paymentRefused",
        "paymentTimeout",
        "customerCancelled",
        "kitchenClosed",
        "itemSoldOut",
        "noDriverAvailable",
        "notCollected",
        "deliveryFailed",
        "serviceUnavailable",
    ]
    stage: Literal["placed", "confirmed", "preparing", "boxed", "outForDelivery"]
    cancelled_at: Moment


@event("orders.orderCompleted", subject="order_id")
class OrderCompleted(Event):
    """The customer has the order."""

    order_id: str
    customer: Customer
    fulfilment: Fulfilment
    total_cents: Cents
    placed_at: Moment
    completed_at: Moment
    currency: Currency = "EUR"
