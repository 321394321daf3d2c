"""The payment of one order, as a state machine.

Commands and events arrive in any order and more than once. Every order of arrival leads to the same result: a
cancelled order costs nothing, a completed one its price.
"""

from datetime import datetime
from enum import StrEnum

import msgspec

from payments.domain.cards import Refusal, Verdict
from payments.domain.ledger import Movement


class Status(StrEnum):
    """Status of a payment."""

    EXPECTED = "expected"  # an event of the order has arrived, but not the command with the amount
    AUTHORISED = "authorised"
    REFUSED = "refused"
    SETTLED = "settled"
    VOIDED = "voided"
    REFUNDED = "refunded"
    FORESTALLED = "forestalled"  # cancelled before the command arrived


class DifferentTerms(Exception):
    """A second command asks for a different amount for the same order, and neither can be known to be right."""


class Payment(msgspec.Struct, kw_only=True):
    """The payment of an order.

    Attributes:
        payment_id: Id of the payment, used in all its events.
        order_id: The order paid for.
        status: Current status.
        customer_id: The paying customer; empty until known.
        amount_cents: Amount in cents; None until known.
        refusal: Reason of a refusal.
        completed: The order was completed before the command with the amount arrived.
        changed_at: Time of the last change of `status`.

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
        """Apply the card issuer's verdict; return the movements of money.

        Raises:
            DifferentTerms: The amount differs from that of an earlier command.

        """
        if self.amount_cents not in {None, amount_cents}:
            raise DifferentTerms(
                f"order {self.order_id}: {amount_cents} cents are requested, {self.amount_cents} were before"
            )
        if self.amount_cents is not None:
            return []
        self.customer_id, self.amount_cents = customer_id, amount_cents
        if self.status is Status.FORESTALLED:
            return []
        if verdict is not None:
            self.refusal = verdict
            self._set_status(Status.REFUSED, now)
            return []
        self._set_status(Status.AUTHORISED, now)
        return [Movement.AUTHORISED, *(self.complete(now) if self.completed else [])]

    def complete(self, now: datetime) -> list[Movement]:
        """Settle the payment of a completed order; return the movements of money."""
        if self.status is Status.EXPECTED:
            self.completed = True
        if self.status is not Status.AUTHORISED:
            return []
        self._set_status(Status.SETTLED, now)
        return [Movement.SETTLED]

    def cancel(self, now: datetime) -> list[Movement]:
        """Void or refund the payment of a cancelled order, or prevent it; return the movements of money."""
        match self.status:
            case Status.EXPECTED:
                self._set_status(Status.FORESTALLED, now)
            case Status.AUTHORISED:
                self._set_status(Status.VOIDED, now)
                return [Movement.VOIDED]
            case Status.SETTLED:
                self._set_status(Status.REFUNDED, now)
                return [Movement.REFUNDED]
        return []

    def _set_status(self, status: Status, now: datetime) -> None:
        self.status, self.changed_at = status, now
