"""The ledger: every movement of money is booked on several accounts whose changes add up to nothing.

A debit is positive, a credit negative. Nothing is ever changed or removed: a movement is undone by another one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

Account = Literal["cardHolds", "openAuthorisations", "bank", "sales"]
ACCOUNTS: tuple[Account, ...] = ("cardHolds", "openAuthorisations", "bank", "sales")
"""What card issuers hold for us and what that is owed to (authorised, not decided yet); what we have and earned."""


class Movement(StrEnum):
    """What happens to money."""

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
_TELLING: Mapping[Movement, Account] = {
    Movement.AUTHORISED: "cardHolds",
    Movement.SETTLED: "bank",
    Movement.VOIDED: "openAuthorisations",
    Movement.REFUNDED: "sales",
}
"""The account that a movement debits, and so tells how much it was."""


def postings(movement: Movement, amount_cents: int) -> dict[Account, int]:
    """Say by how many cents a movement changes each account."""
    return {account: sign * amount_cents for account, sign in _SIGNS[movement].items()}


@dataclass(frozen=True, slots=True)
class Totals:
    """All that was booked so far, in cents."""

    movements: Mapping[Movement, int]
    accounts: Mapping[Account, int]

    @classmethod
    def of(cls, booked: Iterable[tuple[Movement, Account, int]]) -> Totals:
        """Add up postings, or sums of them."""
        movements = dict.fromkeys(Movement, 0)
        accounts: dict[Account, int] = dict.fromkeys(ACCOUNTS, 0)
        for movement, account, cents in booked:
            accounts[account] += cents
            if account == _TELLING[movement]:
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
