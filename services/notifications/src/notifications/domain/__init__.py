"""Domain rules of notifications, and the port to the mail server. Pure: no I/O and no clock; `now` is a parameter."""

from notifications.domain.email import AlreadySettled, Email, Status, Template, deliverable, message_id
from notifications.domain.mailer import Mailer, NotNow, Refused

__all__ = [
    "AlreadySettled",
    "Email",
    "Mailer",
    "NotNow",
    "Refused",
    "Status",
    "Template",
    "deliverable",
    "message_id",
]
