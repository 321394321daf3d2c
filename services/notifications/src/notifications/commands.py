"""Scheduled messages of notifications; they never leave it. They are the queue in front of the mail server."""

from tidings import Event, command


@command("notifications.deliverEmail", subject="email_id")
class DeliverEmail(Event):
    """Hand an e-mail to the mail server; retried until it is accepted or refused, or is overdue."""

    email_id: str
