"""Simulated card processor: the payment token determines the response."""

from enum import StrEnum


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
