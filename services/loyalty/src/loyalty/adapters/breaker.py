"""The SDK's circuit breaker with an exception that the handlers retry."""

import time
from collections.abc import Callable

from loyalty.domain import Unavailable
from tidings import breaker


class BreakerOpen(Unavailable):
    """The circuit breaker is open; no call was made."""


class Breaker(breaker.Breaker):
    """Circuit breaker that raises `BreakerOpen`."""

    def __init__(
        self, failures: int, pause: float, counted: type[Exception], clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(failures, pause, counted, BreakerOpen, clock)
