"""Outcomes: every handling of an event ends in exactly one of them."""

from dataclasses import dataclass

from tidings.errors import UnknownOutcome


@dataclass(frozen=True, slots=True)
class Done:
    """The event was handled, now or earlier. The default: returning None means `Done`."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Retry the event later by the subscription's retry policy; dead-letter it after the last attempt.

    `after` is the delay in seconds, such as a third party's `Retry-After`. It applies to retries that the SDK schedules
    itself.
    """

    reason: str
    after: float | None = None


@dataclass(frozen=True, slots=True)
class Postponed(Retry):
    """The sidecar, broker or store was unavailable. Retry without counting an attempt.

    `contended` is True if they were available, but concurrent writes to the same document did not stop.
    """

    contended: bool = False


@dataclass(frozen=True, slots=True)
class Drop:
    """Deliberately ignore the event: it is acknowledged, logged with the reason, counted and not retried."""

    reason: str


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Give up: the event moves to the dead-letter topic with the reason, where people inspect, replay or discard it."""

    reason: str
    error: str = ""


Outcome = Done | Retry | Drop | DeadLetter


def read(returned: object) -> Outcome:
    """Convert a handler's return value to an outcome.

    Raises:
        UnknownOutcome: The value is neither None nor an outcome. Sent to the sidecar, `return body, 500` would mean
            HTTP 200 and the event would be lost; this error makes it a failed attempt.

    """
    if returned is None:
        return Done()
    if isinstance(returned, Postponed):  # reserved for the SDK: a retry requested by a handler counts as an attempt
        return Retry(returned.reason, returned.after)
    if isinstance(returned, Done | Retry | Drop | DeadLetter):
        return returned
    raise UnknownOutcome(
        f"a handler must return None, Done, Retry, Drop or DeadLetter, not {type(returned).__name__}: {returned!r:.80}"
    )
