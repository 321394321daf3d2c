"""What notifications decides: that an e-mail goes out once, and when it is given up.

Pure: no I/O and no clock; `now` is always given.
"""

from __future__ import annotations

import hashlib
import re
from datetime import datetime, timedelta
from typing import Literal

import msgspec

Template = Literal["orderConfirmed", "orderCancelled", "orderCompleted"]
Status = Literal["waiting", "sent", "refused"]

_ADDRESS = re.compile(r"[^@\s,;<>\x00-\x1f]+@[^@\s,;<>\x00-\x1f]+")


def deliverable(address: str) -> bool:
    """Whether it is one e-mail address at all; whether there is such a mailbox, only its server knows."""
    return _ADDRESS.fullmatch(address) is not None


def message_id(email_id: str, host: str) -> str:
    """The `Message-ID` of an e-mail, the same for each sending: who has it already need not keep it twice.

    A digest of the id, so that the header fits on one line: folded ones are not read by every mail program.
    """
    return f"<{hashlib.sha256(email_id.encode()).hexdigest()[:32]}@{host}>"


class AlreadySettled(Exception):
    """The e-mail has been sent or refused before."""


class Email(msgspec.Struct, kw_only=True):
    """An e-mail to one customer.

    Attributes:
        asked_at: When it was asked for: its date, however late it goes out.
        reason: Why it was refused.

    """

    email_id: str
    to: str
    template: Template
    order_id: str
    asked_at: datetime
    parameters: dict[str, str] = {}
    status: Status = "waiting"
    settled_at: datetime | None = None
    reason: str | None = None

    @property
    def waiting(self) -> bool:
        return self.status == "waiting"

    def overdue(self, now: datetime, patience: timedelta) -> bool:
        """Whether it has waited so long that nobody would want it any more."""
        return now - self.asked_at >= patience

    def sent(self, now: datetime) -> None:
        """Note that the mail server has taken it.

        Raises:
            AlreadySettled: It has been sent or refused before.

        """
        self._settle("sent", now)

    def refuse(self, reason: str, now: datetime) -> None:
        """Note that it will not go out.

        Raises:
            AlreadySettled: It has been sent or refused before.

        """
        self._settle("refused", now)
        self.reason = reason

    def _settle(self, status: Status, now: datetime) -> None:
        if not self.waiting:
            raise AlreadySettled(f"e-mail {self.email_id} is {self.status} already, not {status}")
        self.status = status
        self.settled_at = now
