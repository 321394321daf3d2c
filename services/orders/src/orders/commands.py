"""Commands sent to payments and notifications, as owned by these services, and scheduled messages of orders."""

from typing import Annotated, Literal

from orders.events import Cents, Currency
from tidings import PERSONAL, SUBJECT, Event, command

Template = Literal["orderConfirmed", "orderCancelled", "orderCompleted"]


@command("payments.takePayment", subject="order_id")
class TakePayment(Event):
    """Authorise the amount of an order."""

    order_id: str
    customer_id: str
    amount_cents: Cents
    payment_token: str
    currency: Currency = "EUR"


@command("notifications.sendEmail", subject="email_id")
class SendEmail(Event):
    """Send an e-mail to the customer. The id is the same for the same template and order."""

    email_id: str
    customer_id: Annotated[str, SUBJECT]
    to: Annotated[str, PERSONAL]
    template: Template
    order_id: str
    parameters: dict[str, Annotated[str, PERSONAL]]


@command("orders.expirePayment", subject="order_id")
class ExpirePayment(Event):
    """Cancel the order if payments has not responded by now."""

    order_id: str
