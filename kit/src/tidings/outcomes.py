"""What becomes of an event: each handling ends in exactly one of these."""

from __future__ import annotations

from dataclasses import dataclass

from tidings.errors import UnknownOutcome


@dataclass(frozen=True, slots=True)
class Done:
    """Handled, now or before. The default: a handler that returns None is done."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Not now. It comes again, by the subscription's retry policy, and is dead-lettered after the last attempt.

    `after` is in seconds and holds for scheduled messages, which the kit itself brings again: what a third party's
    `Retry-After` asks.
    """

    reason: str
    after: float | None = None


@dataclass(frozen=True, slots=True)
class Postponed(Retry):
    """Not now, through no fault of the event's: sidecar, broker or store did not answer. It counts as no attempt.

    `contended`: they did, and others kept writing the same document first.
    """

    contended: bool = False


@dataclass(frozen=True, slots=True)
class Drop:
    """Consciously not wanted: acknowledged, logged with the reason and counted, and never seen again."""

    reason: str


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Given up: kept in the dead-letter topic with the reason, to be read, replayed or discarded by a person."""

    reason: str
    error: str = ""


Outcome = Done | Retry | Drop | DeadLetter


def read(returned: object) -> Outcome:
    """Read what a handler returned.

    Raises:
        UnknownOutcome: It is neither None nor an outcome. `return body, 500` would be HTTP 200 to the sidecar, and
            the event lost: here it is an error, and the event is retried.

    """
    if returned is None:
        return Done()
    if isinstance(returned, Postponed):  # the kit's own: what a handler asks for is an attempt
        return Retry(returned.reason, returned.after)
    if isinstance(returned, Done | Retry | Drop | DeadLetter):
        return returned
    raise UnknownOutcome(
        f"a handler returns None, Done, Retry, Drop or DeadLetter, not {type(returned).__name__}: {returned!r:.80}"
    )
