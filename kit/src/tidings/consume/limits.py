"""Consumer limits: concurrency, rate and order per key. They delay deliveries, and neither drop nor retry them.

The limits apply per replica. A waiting delivery is not yet acknowledged to the sidecar, so the broker sends no more
than its limit of unacknowledged messages and keeps the rest. After its acknowledgement timeout, a broker redelivers
waiting events: see `InFlightDeduplication`.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from tidings.consume.policy import RateLimit
from tidings.outcomes import Done, Drop, Outcome, Postponed

_MAX_HANDLED = 10_000


class TokenBucket:
    """At most `limit.events` per `limit.per` seconds, with bursts of `limit.burst`; waiters are served in order.

    `clock` is monotonic, in seconds; it defaults to that of the running event loop.
    """

    def __init__(self, limit: RateLimit, clock: Callable[[], float] | None = None) -> None:
        self._interval = limit.per / limit.events
        self._burst = (max(limit.burst, 1) - 1) * self._interval
        self._clock = clock or (lambda: asyncio.get_running_loop().time())
        self._next = 0.0
        self._queue = asyncio.Lock()

    @property
    def remaining(self) -> float:
        """Seconds until a token is available."""
        now = self._clock()
        self._next = max(self._next, now - self._burst)
        return max(self._next - now, 0.0)

    def reserve(self) -> float:
        """Take the next token and return the seconds to wait before using it."""
        wait = self.remaining
        self._next += self._interval
        return wait

    def pause(self, seconds: float) -> None:
        """Issue no tokens for a number of seconds, for example because of a third party's `Retry-After`."""
        self._next = max(self._next, self._clock() + seconds)

    async def acquire(self) -> None:
        """Wait for a token. A cancelled waiter consumes none."""
        async with self._queue:  # asyncio.Lock wakes its waiters in order of arrival
            while (wait := self.remaining) > 0:  # noqa: ASYNC110 - a pause may come meanwhile
                await asyncio.sleep(wait)
            self.reserve()


@dataclass(slots=True)
class KeyedLock:
    """Mutual exclusion per key, in order of arrival. Unused keys take no memory."""

    _locks: dict[str, tuple[asyncio.Lock, list[None]]] = field(default_factory=dict)

    @asynccontextmanager
    async def __call__(self, key: str) -> AsyncIterator[None]:
        """Hold the lock of a key."""
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
class InFlightDeduplication:
    """Coalesces redeliveries of an in-flight event: duplicates share the first delivery's outcome and consume no token.

    Otherwise the redeliveries of a slow consumer would use its tokens and concurrency and slow it down further. This
    saves work only; the inbox guarantees that an event has its effect once.
    """

    _in_flight: dict[str, asyncio.Future[Outcome]] = field(default_factory=dict)
    _handled: OrderedDict[str, None] = field(default_factory=OrderedDict)

    async def __call__(self, key: str | None, handle: Callable[[], Awaitable[Outcome]]) -> Outcome:
        """Handle a delivery, unless one with the same key is in flight or was handled recently."""
        if key is None:
            return await handle()
        if key in self._handled:
            return Done()
        if key in self._in_flight:
            # Shielded: cancelling the duplicate must not cancel the shared outcome.
            return await asyncio.shield(self._in_flight[key])
        result: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._in_flight[key] = result
        outcome: Outcome = Postponed("the first delivery of this event was cancelled")  # unless it completes
        try:
            outcome = await handle()
        finally:
            del self._in_flight[key]
            result.set_result(outcome)
        if isinstance(outcome, Done | Drop):
            self._handled[key] = None
            if len(self._handled) > _MAX_HANDLED:
                self._handled.popitem(last=False)
        return outcome


class Limiter:
    """The concurrency, rate and order limits of one subscription on one replica."""

    def __init__(self, concurrency: int | None, rate: RateLimit | None, *, ordered: bool) -> None:
        self._concurrency = asyncio.Semaphore(concurrency) if concurrency else None
        self._bucket = TokenBucket(rate) if rate else None
        self._key_locks = KeyedLock() if ordered else None
        self.limits = bool(self._concurrency or self._bucket or self._key_locks)
        """True if deliveries may have to wait."""
        self.deduplicate = InFlightDeduplication()

    @asynccontextmanager
    async def __call__(self, key: str) -> AsyncIterator[None]:
        """Wait until an event with this ordering key may be handled, and occupy its place meanwhile."""
        async with AsyncExitStack() as held:
            # First the key, so that events waiting for their key do not occupy the concurrency limit.
            if self._key_locks:
                await held.enter_async_context(self._key_locks(key))
            if self._concurrency:
                await held.enter_async_context(self._concurrency)
            if self._bucket:
                await self._bucket.acquire()
            yield
