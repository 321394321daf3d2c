"""What loyalty decides: what an order is worth, what has become of its points, and what a member has.

Pure: no I/O and no clock; `now` is always given.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

CENTS_PER_POINT = 100

Status = Literal["waiting", "given", "rejected"]
Reason = Literal["accountUnknown", "accountClosed", "refused"]


def points_for(total_cents: int) -> int:
    """One point for each full euro."""
    return total_cents // CENTS_PER_POINT


class AlreadySettled(Exception):
    """The points have been given or rejected before; what they have become stays."""


class Receipt(msgspec.Struct, frozen=True):
    """Proof that points were given.

    Attributes:
        balance: What the member had then, these points included.
        entry: The number of the entry in the books: of two, the higher one is the later one.

    """

    balance: int
    entry: int


class Gift(msgspec.Struct, kw_only=True):
    """The points for one order: given once, however often the order is told and however often giving is tried.

    Attributes:
        receipt: There once they are given.
        reason: Why they were rejected.

    """

    order_id: str
    customer_id: str
    points: int
    asked_at: datetime
    status: Status = "waiting"
    settled_at: datetime | None = None
    receipt: Receipt | None = None
    reason: Reason | None = None

    @property
    def waiting(self) -> bool:
        return self.status == "waiting"

    def give(self, receipt: Receipt, now: datetime) -> None:
        """Note that the points have been given.

        Raises:
            AlreadySettled: They have been given or rejected before.

        """
        self._settle("given", now)
        self.receipt = receipt

    def reject(self, reason: Reason, now: datetime) -> None:
        """Note that the points will not be given.

        Raises:
            AlreadySettled: They have been given or rejected before.

        """
        self._settle("rejected", now)
        self.reason = reason

    def _settle(self, status: Status, now: datetime) -> None:
        if not self.waiting:
            raise AlreadySettled(f"the points for order {self.order_id} are {self.status} already, not {status}")
        self.status = status
        self.settled_at = now


class Member(msgspec.Struct, kw_only=True):
    """A customer who collects points: a copy of what the books say, and what has yet to be entered there.

    Attributes:
        balance: As of the latest receipt; 0 before the first.
        entry: That receipt's number.
        waiting: Points on their way, by order.

    """

    customer_id: str
    changed_at: datetime
    balance: int = 0
    entry: int = 0
    waiting: dict[str, int] = {}

    @property
    def points_waiting(self) -> int:
        return sum(self.waiting.values())

    def reflect(self, gift: Gift, now: datetime) -> None:
        """Bring the copy in line with a gift as it now is; in any order of gifts, and as often as one likes."""
        if gift.waiting:
            self.waiting[gift.order_id] = gift.points
        else:
            self.waiting.pop(gift.order_id, None)
        if gift.receipt is not None and gift.receipt.entry > self.entry:
            self.balance, self.entry = gift.receipt.balance, gift.receipt.entry
        self.changed_at = now
