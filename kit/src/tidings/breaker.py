"""Circuit breaker for calls made by many tasks of one event loop.

Existing libraries do not fit: purgatory 3.0 and circuitbreaker 2.1 let all waiting calls through at once when half
open, a burst for a service that has just recovered. purgatory also raises the same exception object every time, whose
traceback grows with every rejected call.
"""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import structlog

log = structlog.get_logger(__name__)

State = Literal["closed", "open", "halfOpen"]


class Breaker:
    """Opens after a number of consecutive failures; after a pause, a single probe call decides whether it closes.

    Args:
        failures: Number of consecutive failures that open it.
        pause: Seconds until the probe.
        counted: Exception type that counts as a failure; any other exception is a response.
        refusal: Creates the exception for rejected calls from the reason and the seconds until the next try. These vary
            randomly, so that callers do not return all at once.
        clock: Monotonic clock in seconds.

    """

    def __init__(
        self,
        failures: int,
        pause: float,
        counted: type[Exception],
        refusal: Callable[[str, float], Exception],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.failures = 0
        self._limit = failures
        self._pause = pause
        self._counted = counted
        self._refusal = refusal
        self._clock = clock
        self._opened: float | None = None
        self._probing = False

    @property
    def state(self) -> State:
        """Current state."""
        if self._opened is None:
            return "closed"
        return "open" if self.remaining > 0 else "halfOpen"

    @property
    def remaining(self) -> float:
        """Seconds until the probe is allowed."""
        return 0.0 if self._opened is None else max(self._opened + self._pause - self._clock(), 0.0)

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Guard a call; raise the exception created by `refusal` if the call is not allowed now."""
        probe = self._admit()
        try:
            yield
        except self._counted as error:
            self.failures += 1
            # A call that began before the breaker opened does not extend the pause.
            if probe or (self._opened is None and self.failures >= self._limit):
                self._opened = self._clock()
                log.warning("breaker.opened", failures=self.failures, reason=str(error), retry_in=self._pause)
            raise
        except Exception:
            self._answered(probe=probe)
            raise
        else:
            self._answered(probe=probe)
        finally:
            if probe:
                self._probing = False

    def _admit(self) -> bool:
        """Return True if this call is the probe."""
        if self._opened is None:
            return False
        if self.remaining > 0 or self._probing:
            after = self.remaining + self._pause * random.uniform(0.1, 0.5)  # noqa: S311 - jitter
            raise self._refusal(f"circuit breaker open after {self.failures} consecutive failures", after)
        self._probing = True
        return True

    def _answered(self, *, probe: bool) -> None:
        """Close after a successful probe. A call that began before the breaker opened does not close it."""
        if probe:
            log.info("breaker.closed", failures=self.failures)
            self._opened = None
        if self._opened is None:
            self.failures = 0
