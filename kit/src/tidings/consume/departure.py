"""Early departure: an event leaves the broker's queue while its slow handler is running, to not block later events.

An attempt that takes much longer than usual is stored as a delayed retry that is due immediately (see
`tidings.consume.delayed`), and its delivery is acknowledged. The attempt continues, and the delayed retry waits for its
outcome instead of making another attempt. If the process ends first, its successor finds the delayed retry.

If the store does not answer, storing the event is repeated for as long as the attempt runs: otherwise, one slow write
would leave a hanging handler's event in the queue until its timeout.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Self

import structlog

from tidings.background import contained
from tidings.consume.delayed import Delayed, DelayedRetries
from tidings.consume.policy import SubscriptionPolicy

log = structlog.get_logger(__name__)

SHORTEST = 0.05
"""Seconds for which every event stays in the queue."""
TIMES_USUAL = 4.0
"""An event leaves the queue after this multiple of the usual duration of its subscription's attempts."""
_TIMES_HOLD = 2.0  # a longer attempt counts as this multiple of `hold`: a hanging one must not delay later departures
_LONGEST_COUNTED = 1.0  # seconds, likewise
_WEIGHT = 0.02  # of a single attempt in the moving average
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0  # seconds between tries to store an event


@dataclass(slots=True)
class Pace:
    """Usual duration of a subscription's attempts, as a moving average, which adapts to the machine's load."""

    usual: float = 0.0

    @property
    def hold(self) -> float:
        """Seconds after which an attempt counts as slow."""
        return max(SHORTEST, TIMES_USUAL * self.usual)

    def took(self, seconds: float) -> None:
        """Record the duration of an attempt."""
        counted = min(seconds, _TIMES_HOLD * self.hold, _LONGEST_COUNTED)
        self.usual += _WEIGHT * (counted - self.usual)


class Departures:
    """Watches the running attempts of one process with a single timer, because most end long before they are slow.

    Args:
        retries: Stores slow events.

    """

    def __init__(self, retries: DelayedRetries) -> None:
        self.retries = retries
        self._in_flight: set[Departure] = set()
        self._paces: dict[str, Pace] = defaultdict(Pace)
        self._timer: asyncio.TimerHandle | None = None

    def of(self, delayed: Delayed, policy: SubscriptionPolicy, acknowledge: Callable[[], Awaitable[None]]) -> Departure:
        """Prepare an attempt; `acknowledge` acknowledges its delivery."""
        return Departure(self, delayed, policy, self._paces[policy.name], acknowledge)

    def begin(self, departure: Departure) -> None:
        """Start watching an attempt."""
        self._in_flight.add(departure)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(SHORTEST / 2, self._look)

    def end(self, departure: Departure) -> None:
        """Stop watching an attempt."""
        self._in_flight.discard(departure)

    def _look(self) -> None:
        now = time.monotonic()
        for departure in [slow for slow in self._in_flight if now - slow.began > slow.pace.hold]:
            if self.retries.has_place(departure.subscription):  # otherwise, it is checked again next time
                self._in_flight.discard(departure)
                departure.start()
        self._timer = None
        if self._in_flight:
            self._timer = asyncio.get_running_loop().call_later(SHORTEST / 2, self._look)


class Departure:
    """Early departure of one event; a context manager around its attempt.

    Args:
        departures: Watches it.
        delayed: The event.
        policy: The event's subscription.
        pace: Usual duration of its subscription's attempts.
        acknowledge: Acknowledges the delivery.

    """

    __slots__ = ("_acknowledge", "_delayed", "_departures", "_ended", "_leaving", "_left", "_policy", "began", "pace")

    def __init__(
        self,
        departures: Departures,
        delayed: Delayed,
        policy: SubscriptionPolicy,
        pace: Pace,
        acknowledge: Callable[[], Awaitable[None]],
    ) -> None:
        self.began = 0.0
        self.pace = pace
        self._departures = departures
        self._delayed = delayed
        self._policy = policy
        self._acknowledge = acknowledge
        self._leaving: asyncio.Future[None] | None = None
        self._ended: asyncio.Future[None] | None = None
        self._left = False

    def __enter__(self) -> Self:
        self.began = time.monotonic()
        self._departures.begin(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._departures.end(self)
        self.pace.took(time.monotonic() - self.began)
        if self._ended is not None:
            self._ended.set_result(None)

    @property
    def subscription(self) -> str:
        """Subscription of the event."""
        return self._delayed.subscription

    def start(self) -> None:
        """Start moving the event out of the queue."""
        self._ended = asyncio.get_running_loop().create_future()
        self._departures.retries.begin_aside(self._delayed)
        self._leaving = asyncio.ensure_future(contained(self._leave))

    async def _leave(self) -> None:
        """Store the event and acknowledge its delivery; repeat that until it succeeds or the attempt ends."""
        ended, pause = self._ended, _FIRST_PAUSE
        while ended is not None and not ended.done():
            if await self._departures.retries.leave(self._delayed, self._policy):
                self._left = True
                return await self._acknowledge()
            await asyncio.wait([ended], timeout=pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        return None

    async def left(self) -> bool:
        """Wait until the event has left the queue or stays in it; return True if it has left.

        An event also counts as left if its delivery could not be acknowledged: the broker's redelivery is recognised.
        """
        if self._leaving is None:
            return False
        await asyncio.wait([self._leaving])
        if error := self._leaving.exception():
            log.error("event.leave_failed", subscription=self.subscription, left=self._left, exc_info=error)
        return self._left

    def close(self, *, done: bool) -> None:
        """End the attempt, also a cancelled one; `done` is True if the event has its outcome."""
        if self._leaving is not None:
            self._departures.retries.end_aside(self._delayed, done=done, left=self._left)
