"""Domain rules of payments. Pure: no I/O and no clock; `now` is a parameter.

The payment of an order is a state machine. Commands and events arrive in any order and more than once. Every order of
arrival leads to the same result: a cancelled order costs nothing, a completed one its price.

In the double-entry ledger, the postings of each movement of money add up to zero. Debits are positive, credits
negative. Postings are never changed or removed: a movement is reversed by another one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Literal

import msgspec


class Refusal(StrEnum):
    """Reason of a refusal."""

    CARD_DECLINED = "cardDeclined"
    INVALID_TOKEN = "invalidToken"  # noqa: S105 - a reason, no secret
    LIMIT_EXCEEDED = "limitExceeded"


Verdict = Refusal | None
"""A refusal, or None if the payment is authorised."""


def decide(token: str, amount_cents: int, limit_cents: int) -> Verdict:
    """Authorise or refuse an amount.

    `tok_ok…` pays up to the limit, `tok_declined…` is always declined, and any other token is invalid.
    """
    if token.startswith("tok_declined"):
        return Refusal.CARD_DECLINED
    if not token.startswith("tok_ok"):
        return Refusal.INVALID_TOKEN
    return Refusal.LIMIT_EXCEEDED if amount_cents > limit_cents else None


Account = Literal["cardHolds", "openAuthorisations", "bank", "sales"]
ACCOUNTS: tuple[Account, ...] = ("cardHolds", "openAuthorisations", "bank", "sales")
"""Amounts held by card issuers and the open authorisations behind them; money received and revenue."""


class Movement(StrEnum):
    """Kind of movement of money."""

    AUTHORISED = "authorised"
    SETTLED = "settled"
    VOIDED = "voided"
    REFUNDED = "refunded"


_SIGNS: Mapping[Movement, Mapping[Account, int]] = {
    Movement.AUTHORISED: {"cardHolds": +1, "openAuthorisations": -1},
    Movement.SETTLED: {"cardHolds": -1, "openAuthorisations": +1, "bank": +1, "sales": -1},
    Movement.VOIDED: {"cardHolds": -1, "openAuthorisations": +1},
    Movement.REFUNDED: {"bank": -1, "sales": +1},
}
_DEBITED: Mapping[Movement, Account] = {
    Movement.AUTHORISED: "cardHolds",
    Movement.SETTLED: "bank",
    Movement.VOIDED: "openAuthorisations",
    Movement.REFUNDED: "sales",
}
"""The account that a movement debits; its postings give the amount of the movement."""


def postings(movement: Movement, amount_cents: int) -> dict[Account, int]:
    """Return the change of each account in cents."""
    return {account: sign * amount_cents for account, sign in _SIGNS[movement].items()}


@dataclass(frozen=True, slots=True)
class Totals:
    """Totals of all postings, in cents.

    Attributes:
        movements: Amount by movement.
        accounts: Balance by account.
        open_cents: Authorised, and neither settled nor voided.
        revenue_cents: Settled and not refunded.
        balanced: True if the accounts add up to zero and agree with the movements.

    """

    movements: Mapping[Movement, int]
    accounts: Mapping[Account, int]

    @classmethod
    def of(cls, booked: Iterable[tuple[Movement, Account, int]]) -> Totals:
        """Add up postings or partial sums."""
        movements = dict.fromkeys(Movement, 0)
        accounts: dict[Account, int] = dict.fromkeys(ACCOUNTS, 0)
        for movement, account, cents in booked:
            accounts[account] += cents
            if account == _DEBITED[movement]:
                movements[movement] += cents
        return cls(movements, accounts)

    @property
    def open_cents(self) -> int:
        return -self.accounts["openAuthorisations"]

    @property
    def revenue_cents(self) -> int:
        return -self.accounts["sales"]

    @property
    def balanced(self) -> bool:
        moved = self.movements
        return (
            sum(self.accounts.values()) == 0
            and moved[Movement.AUTHORISED] == moved[Movement.SETTLED] + moved[Movement.VOIDED] + self.open_cents
            and moved[Movement.SETTLED] - moved[Movement.REFUNDED] == self.revenue_cents == self.accounts["bank"]
        )


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
