"""A circuit breaker for calls made by many tasks of one event loop.

Own code, because those at hand do not keep what is needed here. purgatory 3.0 and circuitbreaker 2.1 let every
waiting call through at once when they are half open, a burst on somebody who is just getting up; purgatory also
raises the same exception each time, whose traceback then grows with every refused call.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import structlog

log = structlog.get_logger(__name__)

State = Literal["closed", "open", "halfOpen"]


class Breaker:
    """Opens after a number of failures in a row; after a pause one call, the probe, finds out for all.

    Args:
        failures: How many in a row open it.
        pause: Seconds until the probe.
        counted: What is a failure; any other exception is an answer.
        refusal: Makes what is raised instead of a call, of the reason and the seconds after which to try again, which
            are spread, so that not all come back together.
        clock: Seconds, never going back.

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
        """How it stands."""
        if self._opened is None:
            return "closed"
        return "open" if self.remaining > 0 else "halfOpen"

    @property
    def remaining(self) -> float:
        """Seconds until the probe may go."""
        return 0.0 if self._opened is None else max(self._opened + self._pause - self._clock(), 0.0)

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Make a call inside; raises what `refusal` makes where it must not be made now."""
        probe = self._admit()
        try:
            yield
        except self._counted as error:
            self._failed(str(error), probe=probe)
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
        """Whether the call is the probe."""
        if self._opened is None:
            return False
        if self.remaining > 0 or self._probing:
            after = self.remaining + self._pause * random.uniform(0.1, 0.5)  # noqa: S311 - jitter
            raise self._refusal(f"no call is made after {self.failures} failures in a row", after)
        self._probing = True
        return True

    def _failed(self, reason: str, *, probe: bool) -> None:
        """Count; what began before it opened and fails after that does not open it anew."""
        self.failures += 1
        if probe or (self._opened is None and self.failures >= self._limit):
            self._opened = self._clock()
            log.warning("breaker.opened", failures=self.failures, reason=reason, again_in=self._pause)

    def _answered(self, *, probe: bool) -> None:
        """Close; what began before it opened and is answered after that does not close it: the probe does."""
        if probe:
            log.info("breaker.closed", failures=self.failures)
            self._opened = None
        if self._opened is None:
            self.failures = 0
