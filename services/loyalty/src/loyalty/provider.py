"""Whoever keeps the points, in loyalty's own words. What they call things themselves stays in the adapter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from loyalty.domain import Gift, Reason, Receipt

State = Literal["closed", "open", "halfOpen"]


class Unavailable(Exception):
    """No answer that counts: nobody knows whether the points were given. To be asked again with the same gift.

    Args:
        reason: What went wrong.
        after: Not before that many seconds; None where nobody said.

    """

    def __init__(self, reason: str, after: float | None = None) -> None:
        super().__init__(reason)
        self.after = after


class Refused(Exception):
    """The provider will not give these points, however often it is asked.

    Args:
        reason: Why.
        detail: The provider's own words, for people.

    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Health:
    """How this replica gets on with the provider.

    Attributes:
        breaker: `closed` while calls are made, `open` while none is, `halfOpen` while one call finds out.
        failures: Calls that failed since one was answered.
        tries_again_in: Seconds until a call may find out; 0 unless `open`.

    """

    breaker: State
    failures: int
    tries_again_in: float


class Provider(Protocol):
    """Gives points."""

    async def give(self, gift: Gift) -> Receipt:
        """Give the points, once for each order however often it is called.

        Raises:
            Unavailable: No answer that counts.
            Refused: They will never be given.

        """
        ...

    @property
    def health(self) -> Health: ...
