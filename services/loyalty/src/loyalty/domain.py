"""Domain rules of loyalty: the points for an order, the state of their award, and the account of a member.

Pure: no I/O and no clock; `now` is a parameter. The port to the provider that keeps the points is in loyalty's terms;
the adapter translates the provider's terms.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

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


State = Literal["closed", "open", "halfOpen"]


class Unavailable(Exception):
    """The provider gave no usable response, so the outcome is unknown. Retry with the same award.

    Args:
        reason: Cause of the failure.
        after: Seconds to wait before the retry; None if the provider did not ask for a pause.

    """

    def __init__(self, reason: str, after: float | None = None) -> None:
        super().__init__(reason)
        self.after = after


class Refused(Exception):
    """The provider refuses these points for good. Do not retry.

    Args:
        reason: Reason in loyalty's terms.
        detail: Message of the provider, for operators.

    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Health:
    """Health of the provider as seen by this replica.

    Attributes:
        breaker: State of the circuit breaker: `halfOpen` while a single trial call is made.
        failures: Consecutive failed calls.
        tries_again_in: Seconds until the next trial call; 0 unless `open`.

    """

    breaker: State
    failures: int
    tries_again_in: float


class Provider(Protocol):
    """Provider of the points programme."""

    async def give(self, award: Award) -> Receipt:
        """Give the points. Idempotent per order.

        Raises:
            Unavailable: The outcome is unknown.
            Refused: The points will never be given.

        """
        ...

    @property
    def health(self) -> Health: ...
