"""What notifications is asked, and what it tells."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from msgspec import Meta

from notifications.domain import Template
from tidings import Event, command, event

Moment = Annotated[datetime, Meta(tz=True)]
"""With an offset from UTC, as RFC 3339 asks."""


@command("notifications.sendEmail", subject="email_id")
class SendEmail(Event):
    """Send an e-mail to a customer, once for each `emailId`; answered by `emailSent` or `emailRefused`."""

    email_id: Annotated[str, Meta(min_length=1, max_length=200)]
    to: str
    template: Template
    order_id: str
    parameters: Annotated[
        dict[str, str],
        Meta(description="name, items, total, fulfilment; address where delivered; explanation where cancelled"),
    ]


@event("notifications.emailSent", subject="email_id")
class EmailSent(Event):
    """The mail server has taken the e-mail."""

    email_id: str
    order_id: str
    template: Template
    sent_at: Moment


@event("notifications.emailRefused", subject="email_id")
class EmailRefused(Event):
    """The e-mail will not reach its customer; `reason` is for people."""

    email_id: str
    order_id: str
    template: Template
    reason: str
    refused_at: Moment
