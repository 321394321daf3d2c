"""Domain rules of notifications: an e-mail is sent once, and given up after a time.

Pure: no I/O and no clock; `now` is a parameter. The port to the mail server is in notifications' terms; the adapter
speaks its protocol.
"""

import hashlib
import re
from datetime import datetime, timedelta
from typing import Annotated, Literal, Protocol

import msgspec

from tidings.marks import PERSONAL, SUBJECT

Template = Literal["orderConfirmed", "orderCancelled", "orderCompleted"]
Status = Literal["waiting", "sent", "refused"]

_ADDRESS = re.compile(r"[^@\s,;<>\x00-\x1f]+@[^@\s,;<>\x00-\x1f]+")


def deliverable(address: str) -> bool:
    """Return whether the text is a single e-mail address. The mailbox may still not exist."""
    return _ADDRESS.fullmatch(address) is not None


def message_id(email_id: str, host: str) -> str:
    """Return the `Message-ID` of an e-mail. It is the same for each attempt, so that receivers can drop duplicates."""
    # A digest keeps the header on one line: not every mail program reads a folded Message-ID.
    return f"<{hashlib.sha256(email_id.encode()).hexdigest()[:32]}@{host}>"


class AlreadySettled(Exception):
    """The e-mail was sent or refused before."""


class Email(msgspec.Struct, kw_only=True):
    """An e-mail to one customer.

    Attributes:
        asked_at: Time of the request; also the e-mail's `Date`, however late it is sent.
        reason: Reason of a refusal.

    """

    email_id: str
    customer_id: Annotated[str, SUBJECT]
    to: Annotated[str, PERSONAL]
    template: Template
    order_id: str
    asked_at: datetime
    parameters: dict[str, Annotated[str, PERSONAL]] = {}
    status: Status = "waiting"
    settled_at: datetime | None = None
    reason: Annotated[str, PERSONAL] | None = None

    @property
    def waiting(self) -> bool:
        return self.status == "waiting"

    def overdue(self, now: datetime, patience: timedelta) -> bool:
        """Return whether the e-mail has waited for `patience` or longer."""
        return now - self.asked_at >= patience

    def sent(self, now: datetime) -> None:
        """Record that the mail server accepted the e-mail.

        Raises:
            AlreadySettled: The e-mail was sent or refused before.

        """
        self._settle("sent", now)

    def refuse(self, reason: str, now: datetime) -> None:
        """Record that the e-mail will not be sent.

        Raises:
            AlreadySettled: The e-mail was sent or refused before.

        """
        self._settle("refused", now)
        self.reason = reason

    def _settle(self, status: Status, now: datetime) -> None:
        if not self.waiting:
            raise AlreadySettled(f"e-mail {self.email_id} is {self.status} already, not {status}")
        self.status = status
        self.settled_at = now


class NotNow(Exception):
    """The e-mail was not accepted for a reason that does not concern it, or the outcome is unknown. Retry."""


class Refused(Exception):
    """The e-mail is refused for good, because of its recipient or content. Do not retry."""


class Mailer(Protocol):
    """Sender of e-mails."""

    async def send(self, email: Email) -> None:
        """Send an e-mail. Repeated attempts carry the same `Message-ID`.

        Raises:
            NotNow: Retry later.
            Refused: Do not retry.

        """
        ...
