"""Limits that a consumer keeps: concurrency, rate, and order per key. All wait; none drops or retries.

They hold for one replica. What waits here is a delivery that the sidecar has not had its answer to, so the broker
brings no more than it may have under way, and the rest stays with the broker. A broker that waits long enough for an
answer delivers again what still waits here: see `Once`.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from tidings.consume.policy import RateLimit
from tidings.outcomes import Done, Drop, Outcome, Postponed

_REMEMBERED = 10_000


class TokenBucket:
    """At most `limit.events` per `limit.per` seconds with bursts of `limit.burst`; waiters are served in order.

    `clock` gives seconds and never goes back; by default it is that of the running event loop.
    """

    def __init__(self, limit: RateLimit, clock: Callable[[], float] | None = None) -> None:
        self._interval = limit.per / limit.events
        self._burst = (max(limit.burst, 1) - 1) * self._interval
        self._clock = clock or (lambda: asyncio.get_running_loop().time())
        self._next = 0.0
        self._turns = asyncio.Lock()

    @property
    def remaining(self) -> float:
        """Seconds until there is a token."""
        now = self._clock()
        self._next = max(self._next, now - self._burst)
        return max(self._next - now, 0.0)

    def reserve(self) -> float:
        """Take the next token; answers how many seconds to wait before using it."""
        wait = self.remaining
        self._next += self._interval
        return wait

    def pause(self, seconds: float) -> None:
        """Hand out no token for that long: what a third party's `Retry-After` asks."""
        self._next = max(self._next, self._clock() + seconds)

    async def acquire(self) -> None:
        """Wait for a token; one who is cancelled meanwhile takes none."""
        async with self._turns:
            while (wait := self.remaining) > 0:  # noqa: ASYNC110 - a pause may come meanwhile
                await asyncio.sleep(wait)
            self.reserve()


@dataclass(slots=True)
class Keyed:
    """One at a time per key, in the order of arrival; keys nobody waits for take no memory."""

    _locks: dict[str, tuple[asyncio.Lock, list[None]]] = field(default_factory=dict)

    @asynccontextmanager
    async def __call__(self, key: str) -> AsyncIterator[None]:
        """Hold the key."""
        lock, users = self._locks.setdefault(key, (asyncio.Lock(), []))
        users.append(None)
        try:
            async with lock:
                yield
        finally:
            users.pop()
            if not users:
                del self._locks[key]


@dataclass(slots=True)
class Once:
    """Lets what is delivered again while it waits use up nothing: it shares the outcome of the first delivery.

    Without it a slow consumer's redeliveries would take its tokens and its slots, and slow it down further. It saves
    work only: that an event has its effect once is the inbox's affair.
    """

    _under_way: dict[str, asyncio.Future[Outcome]] = field(default_factory=dict)
    _handled: OrderedDict[str, None] = field(default_factory=OrderedDict)

    async def __call__(self, key: str | None, handle: Callable[[], Awaitable[Outcome]]) -> Outcome:
        """Handle a delivery, unless the one with that key is under way or was handled here lately."""
        if key is None:
            return await handle()
        if key in self._handled:
            return Done()
        if key in self._under_way:
            return await asyncio.shield(self._under_way[key])
        return await self._first(key, handle)

    async def _first(self, key: str, handle: Callable[[], Awaitable[Outcome]]) -> Outcome:
        mine: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._under_way[key] = mine
        outcome: Outcome = Postponed("the delivery of it that was under way has been broken off")
        try:
            outcome = await handle()
        finally:
            del self._under_way[key]
            mine.set_result(outcome)
        if isinstance(outcome, Done | Drop):
            self._handled[key] = None
            if len(self._handled) > _REMEMBERED:
                self._handled.popitem(last=False)
        return outcome


class Limiter:
    """What one subscription may do at once and per second, on one replica."""

    def __init__(self, concurrency: int | None, rate: RateLimit | None, *, ordered: bool) -> None:
        self._slots = asyncio.Semaphore(concurrency) if concurrency else None
        self._bucket = TokenBucket(rate) if rate else None
        self._keyed = Keyed() if ordered else None
        self.limits = bool(self._slots or self._bucket or self._keyed)
        """Whether anything has to be waited for."""
        self.once = Once()

    @asynccontextmanager
    async def __call__(self, key: str) -> AsyncIterator[None]:
        """Wait until the event with that ordering key may be handled, and hold its place while it is."""
        async with AsyncExitStack() as held:
            if self._keyed:
                await held.enter_async_context(self._keyed(key))
            if self._slots:
                await held.enter_async_context(self._slots)
            if self._bucket:
                await self._bucket.acquire()
            yield
