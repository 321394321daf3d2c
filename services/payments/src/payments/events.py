"""Command and events owned by payments."""

from typing import Annotated, Literal

from msgspec import Meta

from tidings import Event, Moment, command, event

Cents = Annotated[int, Meta(ge=0, description="Euro cents, tax included")]
Currency = Literal["EUR"]


@command("payments.takePayment", subject="order_id")
class TakePayment(Event):
    """Authorise what an order costs; answered by `paymentAuthorised` or `paymentRefused`."""

    order_id: Annotated[str, Meta(min_length=1)]
    customer_id: str
    amount_cents: Cents
    payment_token: Annotated[str, Meta(description="Token for the card, issued by the shop's payment form")]
    currency: Currency = "EUR"


@event("payments.paymentAuthorised", subject="order_id")
class PaymentAuthorised(Event):
    """The card issuer holds the amount; the order can be made."""

    payment_id: str
    order_id: str
    amount_cents: Cents
    authorised_at: Moment
    currency: Currency = "EUR"


@event("payments.paymentRefused", subject="order_id")
class PaymentRefused(Event):
    """The payment was refused."""

    payment_id: str
    order_id: str
    reason: Literal["cardDeclined", "invalidToken", "limitExceeded"]
    refused_at: Moment


@event("payments.paymentSettled", subject="order_id")
class PaymentSettled(Event):
    """The customer has the order, and the amount was charged."""

    payment_id: str
    order_id: str
    amount_cents: Cents
    settled_at: Moment
    currency: Currency = "EUR"


@event("payments.paymentVoided", subject="order_id")
class PaymentVoided(Event):
    """The order was cancelled before the amount was charged; the authorisation is released."""

    payment_id: str
    order_id: str
    amount_cents: Cents
    voided_at: Moment


@event("payments.paymentRefunded", subject="order_id")
class PaymentRefunded(Event):
    """The order was cancelled after the amount was charged; it is paid back."""

    payment_id: str
    order_id: str
    amount_cents: Cents
    refunded_at: Moment
