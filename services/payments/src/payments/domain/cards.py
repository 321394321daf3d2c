"""The card processor's model: what a card issuer would answer, told by the payment token alone."""

from __future__ import annotations

from enum import StrEnum


class Refusal(StrEnum):
    """Why a card is not charged."""

    CARD_DECLINED = "cardDeclined"
    INVALID_TOKEN = "invalidToken"  # noqa: S105 - a reason, no secret
    LIMIT_EXCEEDED = "limitExceeded"


Verdict = Refusal | None
"""None authorises."""


def decide(token: str, amount_cents: int, limit_cents: int) -> Verdict:
    """Decide on an amount: `tok_ok…` pays up to the limit, `tok_declined…` never, any other token is invalid."""
    if token.startswith("tok_declined"):
        return Refusal.CARD_DECLINED
    if not token.startswith("tok_ok"):
        return Refusal.INVALID_TOKEN
    return Refusal.LIMIT_EXCEEDED if amount_cents > limit_cents else None
