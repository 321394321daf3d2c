"""Command and events owned by notifications."""

from typing import Annotated

from msgspec import Meta

from notifications.domain import Template
from tidings import PERSONAL, SUBJECT, Event, Moment, command, event


@command("notifications.sendEmail", subject="email_id")
class SendEmail(Event):
    """Send an e-mail to a customer, once for each `emailId`; answered by `emailSent` or `emailRefused`."""

    email_id: Annotated[str, Meta(min_length=1, max_length=200)]
    customer_id: Annotated[str, SUBJECT]
    to: Annotated[str, PERSONAL]
    template: Template
    order_id: str
    parameters: Annotated[
        dict[str, Annotated[str, PERSONAL]],
        Meta(description="name, items, total, fulfilment; address of a delivery; explanation of a cancellation"),
    ]


@event("notifications.emailSent", subject="email_id")
class EmailSent(Event):
    """The mail server accepted the e-mail."""

    email_id: str
    order_id: str
    template: Template
    sent_at: Moment


@event("notifications.emailRefused", subject="email_id")
class EmailRefused(Event):
    """The e-mail will not be sent; `reason` is for operators."""

    email_id: str
    order_id: str
    template: Template
    customer_id: Annotated[str, SUBJECT]
    reason: Annotated[str, PERSONAL]
    refused_at: Moment
