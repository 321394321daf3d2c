"""Domain rules of loyalty: the points for an order, the state of their award, and the account of a member.

Pure: no I/O and no clock; `now` is a parameter.
"""

from datetime import datetime
from typing import Literal

import msgspec

CENTS_PER_POINT = 100

Status = Literal["waiting", "given", "rejected"]
Reason = Literal["accountUnknown", "accountClosed", "refused"]


def points_for(total_cents: int) -> int:
    """Return the points for an amount: one for each full euro."""
    return total_cents // CENTS_PER_POINT


class AlreadySettled(Exception):
    """The award was given or rejected before; its outcome is final."""


class Receipt(msgspec.Struct, frozen=True):
    """Confirmation by the provider that points were given.

    Attributes:
        balance: Balance of the member after this entry.
        entry: Number of the ledger entry; later entries have higher numbers.

    """

    balance: int
    entry: int


class Award(msgspec.Struct, kw_only=True):
    """The award of points for one order. It is given at most once, however many deliveries and attempts there are.

    Attributes:
        receipt: Present once the points are given.
        reason: Present once they are rejected.

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
        """Record that the points were given.

        Raises:
            AlreadySettled: The award was given or rejected before.

        """
        self._settle("given", now)
        self.receipt = receipt

    def reject(self, reason: Reason, now: datetime) -> None:
        """Record that the points will not be given.

        Raises:
            AlreadySettled: The award was given or rejected before.

        """
        self._settle("rejected", now)
        self.reason = reason

    def _settle(self, status: Status, now: datetime) -> None:
        if not self.waiting:
            raise AlreadySettled(f"the points for order {self.order_id} are {self.status} already, not {status}")
        self.status = status
        self.settled_at = now


class Member(msgspec.Struct, kw_only=True):
    """A customer who collects points: a copy of the provider's balance, and the pending points.

    Attributes:
        balance: Balance as of the latest receipt; 0 before the first.
        entry: Entry number of that receipt.
        waiting: Pending points by order id.

    """

    customer_id: str
    changed_at: datetime
    balance: int = 0
    entry: int = 0
    waiting: dict[str, int] = {}

    @property
    def points_waiting(self) -> int:
        return sum(self.waiting.values())

    def apply(self, award: Award, now: datetime) -> None:
        """Update the account from the current state of an award. Idempotent and independent of order."""
        if award.waiting:
            self.waiting[award.order_id] = award.points
        else:
            self.waiting.pop(award.order_id, None)
        # Receipts may be applied out of order: only a later ledger entry replaces the balance.
        if award.receipt is not None and award.receipt.entry > self.entry:
            self.balance, self.entry = award.receipt.balance, award.receipt.entry
        self.changed_at = now
