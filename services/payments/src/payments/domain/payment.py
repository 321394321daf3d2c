"""A payment: what is taken for one order, and what became of it.

Commands and facts arrive in any order and more than once. Whatever the order, the same ones lead to the same money:
a cancelled order costs nothing, a completed one what it cost.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

import msgspec

from payments.domain.cards import Refusal, Verdict
from payments.domain.ledger import Movement


class Status(StrEnum):
    """How far a payment has come."""

    EXPECTED = "expected"  # something was heard of the order, but not yet what to take
    AUTHORISED = "authorised"
    REFUSED = "refused"
    SETTLED = "settled"
    VOIDED = "voided"
    REFUNDED = "refunded"
    FORESTALLED = "forestalled"  # cancelled before anything was to be taken


class DifferentTerms(Exception):
    """The same order is to be paid with another amount: neither of the two can be told to be the right one."""


class Payment(msgspec.Struct, kw_only=True):
    """A payment; each order has one.

    Attributes:
        payment_id: Its own id, the same in every fact about it.
        order_id: What is paid.
        status: How far it has come.
        customer_id: Who pays; empty until that is known.
        amount_cents: How much, in cents; None until that is known.
        refusal: Why the card was not charged.
        completed: The order was completed before its payment was to be taken.
        changed_at: When the status last changed.

    """

    payment_id: str
    order_id: str
    changed_at: datetime
    status: Status = Status.EXPECTED
    customer_id: str = ""
    amount_cents: int | None = None
    refusal: Refusal | None = None
    completed: bool = False

    def take(self, customer_id: str, amount_cents: int, verdict: Verdict, now: datetime) -> list[Movement]:
        """Take the money as the card's issuer says; answers what moved.

        Raises:
            DifferentTerms: It was to be taken before, with another amount.

        """
        if self.amount_cents not in {None, amount_cents}:
            raise DifferentTerms(
                f"order {self.order_id}: {amount_cents} cents are to be taken, {self.amount_cents} were before"
            )
        if self.amount_cents is not None:
            return []
        self.customer_id, self.amount_cents = customer_id, amount_cents
        if self.status is Status.FORESTALLED:
            return []
        if verdict is not None:
            self.refusal = verdict
            self._become(Status.REFUSED, now)
            return []
        self._become(Status.AUTHORISED, now)
        return [Movement.AUTHORISED, *(self.complete(now) if self.completed else [])]

    def complete(self, now: datetime) -> list[Movement]:
        """Settle, since the customer has the order."""
        if self.status is Status.EXPECTED:
            self.completed = True
        if self.status is not Status.AUTHORISED:
            return []
        self._become(Status.SETTLED, now)
        return [Movement.SETTLED]

    def cancel(self, now: datetime) -> list[Movement]:
        """Give back what was taken, or see to it that nothing will be."""
        match self.status:
            case Status.EXPECTED:
                self._become(Status.FORESTALLED, now)
            case Status.AUTHORISED:
                self._become(Status.VOIDED, now)
                return [Movement.VOIDED]
            case Status.SETTLED:
                self._become(Status.REFUNDED, now)
                return [Movement.REFUNDED]
        return []

    def _become(self, status: Status, now: datetime) -> None:
        self.status, self.changed_at = status, now
