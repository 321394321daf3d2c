"""Port to the provider that keeps the points, in loyalty's terms. The adapter translates the provider's terms."""

from dataclasses import dataclass
from typing import Literal, Protocol

from loyalty.domain.points import Award, Reason, Receipt

State = Literal["closed", "open", "halfOpen"]


class Unavailable(Exception):
    """The provider gave no usable response, so the outcome is unknown. Retry with the same award.

    Args:
        reason: Cause of the failure.
        after: Seconds to wait before the retry; None if the provider did not ask for a pause.

    """

    def __init__(self, reason: str, after: float | None = None) -> None:
        super().__init__(reason)
        self.after = after


class Refused(Exception):
    """The provider refuses these points for good. Do not retry.

    Args:
        reason: Reason in loyalty's terms.
        detail: Message of the provider, for operators.

    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Health:
    """Health of the provider as seen by this replica.

    Attributes:
        breaker: State of the circuit breaker: `halfOpen` while a single trial call is made.
        failures: Consecutive failed calls.
        tries_again_in: Seconds until the next trial call; 0 unless `open`.

    """

    breaker: State
    failures: int
    tries_again_in: float


class Provider(Protocol):
    """Provider of the points programme."""

    async def give(self, award: Award) -> Receipt:
        """Give the points. Idempotent per order.

        Raises:
            Unavailable: The outcome is unknown.
            Refused: The points will never be given.

        """
        ...

    @property
    def health(self) -> Health: ...
