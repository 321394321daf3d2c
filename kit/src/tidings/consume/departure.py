"""Lets an event leave the broker's queue while its handler is still running: a slow one does not hold up others.

An attempt that takes much longer than usual is stored as a delayed retry (see `tidings.consume.delayed`) that is due at
once, and its delivery is acknowledged. The attempt goes on, and the delayed retry, as soon as it is picked up, waits
for that attempt's outcome instead of making another one. If the process ends first, its successor finds the delayed
retry.
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
"""Seconds for which every attempt keeps its event in the queue."""
TIMES_USUAL = 4.0
"""After this many times the usual duration of its subscription's attempts, an event leaves the queue."""
_LONGEST_COUNTED = 1.0  # seconds: a handler that hangs counts as no more, or the next one could hold its event for long
_WEIGHT = 0.02  # of one attempt in the usual duration


@dataclass(slots=True)
class Pace:
    """The usual duration of a subscription's attempts: a moving average, which follows the machine's load as well."""

    usual: float = 0.0

    @property
    def hold(self) -> float:
        """Seconds after which an attempt is slow."""
        return max(SHORTEST, TIMES_USUAL * self.usual)

    def took(self, seconds: float) -> None:
        """Take an attempt into account."""
        self.usual += _WEIGHT * (min(seconds, _LONGEST_COUNTED) - self.usual)


class Departures:
    """Watches the attempts of one process, with one timer for all of them: most end long before they are slow.

    Args:
        retries: Where slow events go.

    """

    def __init__(self, retries: DelayedRetries) -> None:
        self.retries = retries
        self._under_way: set[Departure] = set()
        self._paces: dict[str, Pace] = defaultdict(Pace)
        self._timer: asyncio.TimerHandle | None = None

    def allowed(self, policy: SubscriptionPolicy) -> bool:
        """Return whether events of a subscription may leave the queue while their attempt goes on."""
        return self.retries.enabled and not policy.ordering.is_ordered

    def of(self, delayed: Delayed, policy: SubscriptionPolicy, acknowledge: Callable[[], Awaitable[None]]) -> Departure:
        """Prepare an attempt; `acknowledge` answers its delivery."""
        return Departure(self, delayed, self._paces[policy.name], partial(self._leave, delayed, policy, acknowledge))

    def begin(self, departure: Departure) -> None:
        """Watch an attempt."""
        self._under_way.add(departure)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(SHORTEST / 2, self._look)

    def end(self, departure: Departure) -> None:
        """Watch it no more."""
        self._under_way.discard(departure)

    def _look(self) -> None:
        now = time.monotonic()
        for each in [each for each in self._under_way if now - each.began > each.pace.hold]:
            self._under_way.discard(each)
            each.start()
        looking = partial(asyncio.get_running_loop().call_later, SHORTEST / 2, self._look)
        self._timer = looking() if self._under_way else None

    async def _leave(
        self, delayed: Delayed, policy: SubscriptionPolicy, acknowledge: Callable[[], Awaitable[None]]
    ) -> Running | None:
        running = await self.retries.leave(delayed, policy)
        if running is not None:
            await acknowledge()
        return running


class Departure:
    """The departure of one event from the queue; a context manager around the attempt.

    Args:
        departures: Watches it.
        delayed: The event.
        pace: Its subscription's.
        leave: Stores the event and acknowledges its delivery; answers None where it stays.

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

    def start(self) -> None:
        """Let the event leave."""
        self._leaving = asyncio.ensure_future(contained(self._leave))

    async def concluded(self, conclusion: Callable[[], Awaitable[bool]]) -> bool:
        """Conclude the attempt if its event has left the queue; return whether it has."""
        running = None if self._leaving is None else await self._leaving
        if running is None:
            return False
        await self._departures.retries.conclude(self._delayed, running, conclusion)
        return True
