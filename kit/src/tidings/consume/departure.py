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

SHORTEST = 0.005
"""Seconds for which every event stays in the queue: leaving costs a write, which takes about as long."""
FIRST = 0.05
"""Seconds for which the first event of a subscription stays in the queue."""
_DEVIATIONS = 4.0  # beyond the mean, as TCP waits before it retransmits (RFC 6298)
_LONGEST_COUNTED = 1.0  # seconds
_WEIGHT = 0.02  # of a single attempt in the moving averages
_UNTIL_PLACE = 0.025  # seconds between checks for a place outside the queue
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0  # seconds between tries to store an event


@dataclass(slots=True)
class Pace:
    """Usual duration of a subscription's attempts, and its deviation: moving averages, which adapt to the load."""

    mean: float = 0.0
    deviation: float = FIRST / _DEVIATIONS

    @property
    def hold(self) -> float:
        """Seconds after which an attempt counts as slow."""
        return max(SHORTEST, self.mean + _DEVIATIONS * self.deviation)

    def took(self, seconds: float) -> None:
        """Record the duration of an attempt."""
        # A slow attempt counts as the shortest slow one: those that hang must not delay later departures.
        counted = min(seconds, self.hold, _LONGEST_COUNTED)
        self.deviation += _WEIGHT * (abs(counted - self.mean) - self.deviation)
        self.mean += _WEIGHT * (counted - self.mean)


class Departures:
    """Makes departures, and knows each subscription's pace.

    Args:
        retries: Stores slow events.

    """

    def __init__(self, retries: DelayedRetries) -> None:
        self.retries = retries
        self._paces: dict[str, Pace] = defaultdict(Pace)

    def of(self, delayed: Delayed, policy: SubscriptionPolicy, acknowledge: Callable[[], Awaitable[None]]) -> Departure:
        """Prepare an attempt; `acknowledge` acknowledges its delivery."""
        return Departure(self.retries, delayed, policy, self._paces[policy.name], acknowledge)


class Departure:
    """Early departure of one event; a context manager around its attempt.

    Args:
        retries: Stores the event.
        delayed: The event.
        policy: The event's subscription.
        pace: Usual duration of its subscription's attempts.
        acknowledge: Acknowledges the delivery.

    """

    __slots__ = (
        "_acknowledge",
        "_began",
        "_delayed",
        "_ended",
        "_leaving",
        "_left",
        "_pace",
        "_policy",
        "_retries",
        "_timer",
    )

    def __init__(
        self,
        retries: DelayedRetries,
        delayed: Delayed,
        policy: SubscriptionPolicy,
        pace: Pace,
        acknowledge: Callable[[], Awaitable[None]],
    ) -> None:
        self._began = 0.0
        self._retries = retries
        self._delayed = delayed
        self._policy = policy
        self._pace = pace
        self._acknowledge = acknowledge
        self._timer: asyncio.TimerHandle | None = None
        self._leaving: asyncio.Future[None] | None = None
        self._ended: asyncio.Future[None] | None = None
        self._left = False

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        self._wait(self._pace.hold)
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._pace.took(time.monotonic() - self._began)
        if self._ended is not None:
            self._ended.set_result(None)

    def _wait(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._start)

    def _start(self) -> None:
        """Start moving the event out of the queue, as soon as there is a place for it outside."""
        if not self._retries.has_place(self._delayed.subscription):
            return self._wait(_UNTIL_PLACE)
        self._timer = None
        self._ended = asyncio.get_running_loop().create_future()
        self._retries.begin_aside(self._delayed)
        self._leaving = asyncio.ensure_future(contained(self._leave))
        return None

    async def _leave(self) -> None:
        """Store the event and acknowledge its delivery; repeat that until it succeeds or the attempt ends."""
        ended, pause = self._ended, _FIRST_PAUSE
        while ended is not None and not ended.done():
            if await self._retries.leave(self._delayed, self._policy):
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
            log.error("event.leave_failed", subscription=self._delayed.subscription, left=self._left, exc_info=error)
        return self._left

    def close(self, *, done: bool) -> None:
        """End the attempt, also a cancelled one; `done` is True if the event has its outcome."""
        if self._leaving is not None:
            self._retries.end_aside(self._delayed, done=done, left=self._left)
