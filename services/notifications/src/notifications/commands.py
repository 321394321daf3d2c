"""What notifications tells itself: scheduled messages, never published. They are its queue before the mail server."""

from __future__ import annotations

from tidings import Event, command


@command("notifications.deliverEmail", subject="email_id")
class DeliverEmail(Event):
    """Hand an e-mail to the mail server; tried until there is an answer or it is overdue."""

    email_id: str
