"""The life of a dead letter: open until it is handled or discarded; what a replay did is what the consumer confirms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["open", "sent", "handled", "dropped", "discarded"]
"""`sent`: a replay is under way, or was never confirmed. `dropped`: its handler did not want it."""
Confirmed = Literal["handled", "failed", "unread", "dropped"]
UNKNOWN_REASON = "given up by the sidecar, which records no reason: the app did not answer, or could not read it"
_AFTER: dict[Confirmed, State] = {"handled": "handled", "failed": "open", "unread": "open", "dropped": "dropped"}


class DeadLetterError(Exception):
    """What was asked cannot be done with this dead letter."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What decides what may become of a dead letter."""

    state: State
    subscription: str


def reopens(state: str, *, is_earlier: bool) -> bool:
    """Return whether a new failure opens a dead letter again; not that of an earlier replay once it is handled."""
    return not (is_earlier and state == "handled")


def state_after(state: str, latest: str, replay_id: str, outcome: Confirmed) -> State | None:
    """Return the state that a confirmation leads to; None: it stays as it is.

    Whatever replay it was, what is handled is handled. Everything else counts only for the latest replay, and only
    while that is waited for: somebody may have discarded the letter meanwhile.
    """
    if outcome == "handled":
        return "handled"
    return _AFTER[outcome] if replay_id == latest and state == "sent" else None


def replay(known: Standing, subscription: str | None) -> str:
    """Send it to the consumer that failed; answers the subscription that it is for. Twice is harmless.

    Args:
        known: How it stands.
        subscription: The one to send it to where the sidecar, not the app, gave it up: it does not say which.

    Raises:
        DeadLetterError: It was discarded, another subscription failed, or nobody says which one is to have it.

    """
    if known.state == "discarded":
        raise DeadLetterError("it was discarded: a decision that a replay would undo")
    if known.subscription and subscription not in (None, known.subscription):
        raise DeadLetterError(f"{known.subscription} failed, so only {known.subscription} may have it again")
    target = known.subscription or subscription
    if not target:
        raise DeadLetterError("it does not say which subscription failed: name the one that is to have it again")
    return target


def discard(known: Standing) -> None:
    """Decide that nobody needs it. Twice is as once.

    Raises:
        DeadLetterError: It was handled, so there is nothing left to discard.

    """
    if known.state == "handled":
        raise DeadLetterError("it was handled after a replay: there is nothing to discard unless it fails again")
