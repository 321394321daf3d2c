"""What payments reads: the command it owns, and of other services' events only the fields it needs."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from tidings import Event, command, event


@command("payments.takePayment", subject="order_id")
class TakePayment(Event):
    """Authorise what an order costs; answered by `paymentAuthorised` or `paymentRefused`."""

    order_id: Annotated[str, Meta(min_length=1)]
    customer_id: str
    amount_cents: Annotated[int, Meta(ge=0, description="Euro cents, tax included")]
    payment_token: Annotated[str, Meta(description="What the card was given by the shop's payment form")]
    currency: Literal["EUR"] = "EUR"


@event("orders.orderCompleted", subject="order_id")
class OrderCompleted(Event):
    """The customer has the order."""

    order_id: str


@event("orders.orderCancelled", subject="order_id")
class OrderCancelled(Event):
    """The order has ended without being completed."""

    order_id: str
