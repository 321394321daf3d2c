"""The kit's circuit breaker, in loyalty's words."""

from __future__ import annotations

import time
from collections.abc import Callable

from loyalty.provider import Unavailable
from tidings import breaker


class BreakerOpen(Unavailable):
    """No call was made: the last ones have failed."""


class Breaker(breaker.Breaker):
    """Refuses with `BreakerOpen`."""

    def __init__(
        self, failures: int, pause: float, counted: type[Exception], clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(failures, pause, counted, BreakerOpen, clock)
