"""Double-entry ledger: the postings of each movement of money add up to zero.

Debits are positive, credits negative. Postings are never changed or removed: a movement is reversed by another one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

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
