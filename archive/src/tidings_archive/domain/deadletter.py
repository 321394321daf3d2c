"""Life cycle of a dead letter: open until it is handled or discarded. The consumer confirms the outcome of a replay."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

State = Literal["open", "sent", "handled", "dropped", "discarded"]
"""`sent`: a replay is under way or was never confirmed. `dropped`: the handler rejected the event."""
Outcome = Literal["handled", "failed", "unread", "dropped"]
UNKNOWN_REASON = "dead-lettered by the sidecar, which records no reason: the app did not answer or could not read it"
_AFTER: dict[Outcome, State] = {"handled": "handled", "failed": "open", "unread": "open", "dropped": "dropped"}


class DeadLetterError(Exception):
    """The operation is not allowed for this dead letter."""


@dataclass(frozen=True, slots=True)
class LetterStatus:
    """State and failed subscription of a dead letter; empty where the subscription is unknown."""

    state: State
    subscription: str


@dataclass(frozen=True, slots=True)
class LetterFilter:
    """Conditions that a dead letter must meet; None matches any value. `since` and `until` bound its arrival.

    `reason` is a part of the error and its reason, such as `Rejected: no such shelf`, in upper or lower case.
    """

    app: str | None = None
    subscription: str | None = None
    type: str | None = None
    state: State | None = None
    correlation_id: str | None = None
    id: str | None = None
    reason: str | None = None
    since: datetime | None = None
    until: datetime | None = None


def reopens(state: str, *, is_superseded: bool) -> bool:
    """Return whether a new failure reopens a dead letter: a superseded replay's does not once the letter is handled."""
    return not (is_superseded and state == "handled")


def state_after(state: str, latest: str, replay_id: str, outcome: Outcome) -> State | None:
    """Return the state after a confirmed outcome, or None if the state does not change.

    `handled` is final, whichever replay it confirms. Any other outcome applies only to the latest replay, and only
    while its outcome is pending: an operator may have discarded the letter in the meantime.
    """
    if outcome == "handled":
        return "handled"
    return _AFTER[outcome] if replay_id == latest and state == "sent" else None


def replay_target(status: LetterStatus, subscription: str | None) -> str:
    """Return the subscription to which a dead letter is replayed: the one that failed.

    Args:
        status: Current state of the dead letter.
        subscription: The target of a letter from a sidecar, which does not record the failed subscription.

    Raises:
        DeadLetterError: The letter was discarded, another subscription failed, or the target is unknown.

    """
    if status.state == "discarded":
        raise DeadLetterError("it was discarded, and a replay would undo that decision")
    if status.subscription and subscription not in (None, status.subscription):
        raise DeadLetterError(f"{status.subscription} failed, so it can be replayed only to {status.subscription}")
    target = status.subscription or subscription
    if not target:
        raise DeadLetterError("the failed subscription is not recorded: name the subscription to replay it to")
    return target


def check_discardable(status: LetterStatus) -> None:
    """Check that a dead letter may be discarded. A discarded one may be discarded again.

    Raises:
        DeadLetterError: The letter was handled.

    """
    if status.state == "handled":
        raise DeadLetterError("it was handled after a replay: it can be discarded only if it fails again")
