"""Deduplicating work queue with exponential backoff per key.

Slow keys have a separate queue, which is served one key at a time while no other key is waiting.
"""

import asyncio
import random
import time
from collections import deque
from typing import NamedTuple

FIRST_DELAY, LONGEST_DELAY = 0.25, 60.0
TURN = 50
"""Number of consecutive quick keys after which a slow key is served, even under constant load."""


class Key(NamedTuple):
    """A key to reconcile: an app, or an object by its kind."""

    what: str
    namespace: str
    name: str


class WorkQueue:
    """A queue of keys. A key that is added while it is processed is queued again afterwards."""

    def __init__(self) -> None:
        self._order: deque[Key] = deque()
        self._slow_order: deque[Key] = deque()
        self._slow: set[Key] = set()
        self._in_a_row = 0
        self._waiting: dict[Key, float] = {}
        self._active: set[Key] = set()
        self._again: set[Key] = set()
        self._failures: dict[Key, int] = {}
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._more = asyncio.Event()

    def __len__(self) -> int:
        return len(self._order) + len(self._slow_order)

    @property
    def outstanding(self) -> int:
        """Number of keys that are queued, active or waiting for a retry."""
        return len(self) + len(self._active) + len(self._timers)

    @property
    def idle(self) -> bool:
        """True if no work is left."""
        return not self.outstanding

    def add(self, key: Key) -> None:
        """Queue a key."""
        if key in self._active:
            self._again.add(key)
        elif key not in self._waiting:
            self._waiting[key] = time.monotonic()
            (self._slow_order if key in self._slow else self._order).append(key)
            self._more.set()

    def is_slow(self, key: Key) -> bool:
        """Return True if a key was slow the last time."""
        return key in self._slow

    def slow(self, key: Key, *, is_slow: bool = True) -> None:
        """Move a key to or from the slow lane."""
        (self._slow.add if is_slow else self._slow.discard)(key)

    def later(self, key: Key, delay: float) -> None:
        """Queue a key after a delay in seconds; the earliest of several requests counts."""
        when = asyncio.get_running_loop().time() + delay
        known = self._timers.get(key)
        if known is None or when < known.when():
            if known:
                known.cancel()
            self._timers[key] = asyncio.get_running_loop().call_later(delay, self._due, key)

    async def get(self) -> tuple[Key, float]:
        """Wait for the next key; also return the seconds it had waited. `done` or `failed` must follow."""
        while not (key := self._next()):
            self._more.clear()
            await self._more.wait()
        self._active.add(key)
        return key, time.monotonic() - self._waiting.pop(key)

    def _next(self) -> Key | None:
        may_be_slow = self._slow_order and self._active.isdisjoint(self._slow)
        if self._order and not (may_be_slow and self._in_a_row >= TURN):
            self._in_a_row += 1
            return self._order.popleft()
        self._in_a_row = 0
        return self._slow_order.popleft() if may_be_slow else None

    def done(self, key: Key) -> None:
        """Mark a key as processed."""
        self._failures.pop(key, None)
        self._finish(key)

    def failed(self, key: Key, retry_after: float = 0.0) -> float:
        """Schedule a retry of a key and return its delay in seconds."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        delay = min(FIRST_DELAY * 2.0 ** min(failures - 1, 10), LONGEST_DELAY)
        delay = max(delay * random.uniform(0.75, 1.25), retry_after)  # noqa: S311 - no secret
        self._finish(key)
        self.later(key, delay)
        return delay

    def _finish(self, key: Key) -> None:
        self._active.discard(key)
        if self._slow_order:
            self._more.set()  # a slow key may have waited for this one
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    def _due(self, key: Key) -> None:
        self._timers.pop(key, None)
        self.add(key)
