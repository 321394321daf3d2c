"""The life of a dead letter: open until a person replays or discards it, and open again if it fails again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["open", "replayed", "discarded"]
UNKNOWN_REASON = "given up by the sidecar, which records no reason: the app did not answer, or could not read it"


class DeadLetterError(Exception):
    """What was asked cannot be done with this dead letter."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What decides what may become of a dead letter. `last` is when it failed last, empty where nobody said."""

    state: State
    subscription: str
    last: str


def fails_again(known: Standing, last: str) -> bool:
    """Whether a dead letter that arrives under a known key tells of a new failure, or is the known one once more."""
    if last and known.last:
        return last > known.last
    return known.state == "replayed"


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
        DeadLetterError: It was replayed, so there is nothing left to discard.

    """
    if known.state == "replayed":
        raise DeadLetterError("it was replayed: there is nothing to discard unless it fails again")
