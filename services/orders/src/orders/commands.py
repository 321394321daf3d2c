"""What orders asks: of payments and notifications, in words that these own, and of itself, later."""

from __future__ import annotations

from typing import Literal

from orders.events import Cents, Currency
from tidings import Event, command

Template = Literal["orderConfirmed", "orderCancelled", "orderCompleted"]


@command("payments.takePayment", subject="order_id")
class TakePayment(Event):
    """Authorise what the order costs."""

    order_id: str
    customer_id: str
    amount_cents: Cents
    payment_token: str
    currency: Currency = "EUR"


@command("notifications.sendEmail", subject="email_id")
class SendEmail(Event):
    """Tell the customer. The id is the same whenever the same thing is told about the same order."""

    email_id: str
    to: str
    template: Template
    order_id: str
    parameters: dict[str, str]


@command("orders.expirePayment", subject="order_id")
class ExpirePayment(Event):
    """Give the order up, unless its payment has been answered meanwhile."""

    order_id: str
