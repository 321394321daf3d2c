"""Early departure: an event leaves the broker's queue while its slow handler is running, to not block later events.

An attempt that takes much longer than usual is stored as a delayed retry that is due immediately (see
`tidings.consume.delayed`), and its delivery is acknowledged. The attempt continues, and the delayed retry waits for its
outcome instead of making another attempt. If the process ends first, its successor finds the delayed retry.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Self

from tidings.background import contained
from tidings.consume.delayed import Delayed, DelayedRetries, Running
from tidings.consume.policy import SubscriptionPolicy

SHORTEST = 0.05
"""Seconds for which every event stays in the queue."""
TIMES_USUAL = 4.0
"""An event leaves the queue after this multiple of the usual duration of its subscription's attempts."""
_LONGEST_COUNTED = 1.0  # seconds; a longer duration would keep later slow events in the queue for too long
_WEIGHT = 0.02  # of a single attempt in the moving average


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
        self.usual += _WEIGHT * (min(seconds, _LONGEST_COUNTED) - self.usual)


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
        return Departure(self, delayed, self._paces[policy.name], partial(self._leave, delayed, policy, acknowledge))

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

    async def _leave(
        self, delayed: Delayed, policy: SubscriptionPolicy, acknowledge: Callable[[], Awaitable[None]]
    ) -> Running | None:
        running = await self.retries.leave(delayed, policy)
        if running is not None:
            await acknowledge()
        return running


class Departure:
    """Early departure of one event; a context manager around its attempt.

    Args:
        departures: Watches it.
        delayed: The event.
        pace: Usual duration of its subscription's attempts.
        leave: Stores the event and acknowledges its delivery; returns None if the event stays in the queue.

    """

    __slots__ = ("_delayed", "_departures", "_leave", "_leaving", "began", "pace")

    def __init__(
        self, departures: Departures, delayed: Delayed, pace: Pace, leave: Callable[[], Awaitable[Running | None]]
    ) -> None:
        self.began = 0.0
        self.pace = pace
        self._departures = departures
        self._delayed = delayed
        self._leave = leave
        self._leaving: asyncio.Future[Running | None] | None = None

    def __enter__(self) -> Self:
        self.began = time.monotonic()
        self._departures.begin(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._departures.end(self)
        self.pace.took(time.monotonic() - self.began)

    @property
    def subscription(self) -> str:
        """Subscription of the event."""
        return self._delayed.subscription

    def start(self) -> None:
        """Start moving the event out of the queue."""
        self._leaving = asyncio.ensure_future(contained(self._leave))

    async def concluded(self, conclusion: Callable[[], Awaitable[bool]]) -> bool:
        """Conclude the attempt if its event has left the queue, and return True if so."""
        running = None if self._leaving is None else await self._leaving
        if running is None:
            return False
        await self._departures.retries.conclude(self._delayed, running, conclusion)
        return True
