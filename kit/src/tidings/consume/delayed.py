"""Delayed retries: an event whose handling failed leaves the broker's queue, so that later events go on.

It is stored in the service's outbox as a message of the service to itself, due after the back-off that the
subscription's retry policy asks for, and the delivery is acknowledged. A crash before that leaves the event with the
broker; a crash after it leaves it in the outbox, where the next start, or another replica, finds it. In between it may
be in both: the inbox drops the second handling.

An event stays in the queue, and is delivered again by the sidecar, where leaving it would be wrong or impossible:

- The subscription is ordered: a later event with the same key must not overtake it.
- The sidecar, the broker or the state store did not answer: that is no fault of the event, and the next would fail too.
- `MOST` events of the subscription are delayed already. Then it is not one event that fails, and the queue is where the
  others wait.
- The outbox strategy has no scheduled messages (`dapr`, `direct`).

An event whose attempt is slow leaves the queue in the same way while that attempt goes on: see
`tidings.consume.departure`.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from contextvars import ContextVar

import msgspec
import structlog

from tidings.consume.policy import RetryPolicy, SubscriptionPolicy
from tidings.consume.runner import Runner
from tidings.errors import SidecarError
from tidings.observability import metrics
from tidings.outcomes import Postponed, Retry

log = structlog.get_logger(__name__)

MOST = 100
"""Events of one subscription that may be delayed at once in one process."""
MOST_RUNNING = 8
"""Events of one subscription that may have left the queue in one process while their attempt goes on."""
_LONGEST_PAUSE = 86_400.0  # seconds: what asks for more than a day is tried again as if it had not asked
_UNAVAILABLE = RetryPolicy(duration=1.0, max_interval=30.0)
Running = asyncio.Future[bool]
"""The end of an attempt that goes on although its event has left the queue: whether it has its outcome."""
_retrying: ContextVar[bool] = ContextVar("retrying", default=False)


class Delayed(msgspec.Struct, frozen=True, rename="camel"):
    """A delivery that is retried outside of the broker.

    Attributes:
        path: Where the sidecar delivered it.
        identity: The event's.
        attempts: How often it has failed.
        first: When it was tried first, in seconds since 1970.
        body: The event as it was delivered.

    """

    path: str
    subscription: str
    identity: str
    attempts: int
    first: float
    body: bytes

    @property
    def key(self) -> tuple[str, str, str]:
        """What tells it from others in this process."""
        return self.subscription, self.path, self.identity


class _Stored(msgspec.Struct, frozen=True, rename="camel"):
    delayed_retry: Delayed


_decoder = msgspec.json.Decoder(_Stored)
_PREFIX = b'{"delayedRetry":'


def read(event: bytes) -> Delayed | None:
    """Read a scheduled message; None where it is not a delayed retry."""
    return _decoder.decode(event).delayed_retry if event.startswith(_PREFIX) else None


def pause(outcome: Retry, attempt: int, retry: RetryPolicy) -> float:
    """Return the seconds until the next attempt: what the handler asked for, else doubling with jitter."""
    if isinstance(outcome.after, int | float) and 0 <= outcome.after < _LONGEST_PAUSE:
        return outcome.after
    growing = retry.duration * 2 ** min(attempt - 1, 30) if retry.policy == "exponential" else retry.duration
    return min(growing, retry.max_interval) * random.uniform(0.5, 1.0)  # noqa: S311 - jitter


class DelayedRetries:
    """The events of this process that wait for their next attempt outside of the broker.

    Args:
        source: The service's name.
        runner: Stores them in the outbox.

    """

    def __init__(self, source: str, runner: Runner) -> None:
        self._source = source
        self._runner = runner
        self.enabled = False
        """Whether events may leave the queue: not before the outbox has started, nor once the service stops."""
        self._held: dict[str, set[tuple[str, str]]] = defaultdict(set)
        self._policies: dict[str, RetryPolicy] = {}
        self._running: dict[tuple[str, str, str], Running] = {}
        self._attempts_aside: Counter[str] = Counter()

    def holds(self, path: str, subscription: str, identity: str) -> bool:
        """Return whether an event that is delivered now is delayed already: the broker may deliver it again."""
        return not _retrying.get() and (path, identity) in self._held[subscription]

    async def take(self, delayed: Delayed, outcome: Retry, policy: SubscriptionPolicy | None) -> bool:
        """Store an event for a later attempt; return False where it has to stay in the broker's queue."""
        if not self.enabled or policy is None or _retrying.get() or not self._may_leave(delayed, outcome, policy):
            return False
        return await self._store(delayed, pause(outcome, delayed.attempts, policy.retry), policy.retry)

    async def leave(self, delayed: Delayed, policy: SubscriptionPolicy) -> Running | None:
        """Store an event whose attempt goes on, which must then end with `conclude`; None: it stays in the queue."""
        name = delayed.subscription
        if not self.enabled or _retrying.get() or not self._room(delayed, policy):
            return None
        if self._attempts_aside[name] >= MOST_RUNNING:
            return None
        self._attempts_aside[name] += 1
        running = self._running[delayed.key] = asyncio.get_running_loop().create_future()
        left = False
        try:
            left = await self._store(delayed, 0.0, policy.retry)
        finally:
            if not left:
                self._end(delayed, running, done=False)
                self._running.pop(delayed.key, None)
        return running if left else None

    async def conclude(self, delayed: Delayed, running: Running, conclusion: Callable[[], Awaitable[bool]]) -> None:
        """End the attempt at an event that has left the queue: `conclusion` says whether the event has its outcome."""
        done, token = False, _retrying.set(True)
        try:
            done = await conclusion()
        finally:
            _retrying.reset(token)
            self._end(delayed, running, done=done)

    def _end(self, delayed: Delayed, running: Running, *, done: bool) -> None:
        self._attempts_aside[delayed.subscription] -= 1
        running.set_result(done)

    async def _store(self, delayed: Delayed, after: float, retry: RetryPolicy) -> bool:
        held, key = self._held[delayed.subscription], (delayed.path, delayed.identity)
        self._policies[delayed.subscription] = retry
        held.add(key)  # before it is stored: a second delivery meanwhile must not store it, too
        stored = False
        try:
            event = msgspec.Raw(msgspec.json.encode(_Stored(delayed)))
            stored = await self._runner.schedule(event, after, self._source)
        except SidecarError as error:
            log.warning("event.not_delayed", subscription=delayed.subscription, reason=str(error))
        finally:
            if not stored:
                held.discard(key)
        metrics.safely(metrics.delayed, delayed.subscription, len(held))
        return stored

    async def run(self, delayed: Delayed, attempt: Callable[[Delayed], Awaitable[bool]]) -> None:
        """Retry a delayed event that is due, with growing pauses, until `attempt` says that it has its outcome."""
        held, key = self._held[delayed.subscription], (delayed.path, delayed.identity)
        held.add(key)
        token = _retrying.set(True)
        tries = max(delayed.attempts, 1)
        try:
            while not await self._attempt(delayed, attempt):
                tries += 1
                await asyncio.sleep(pause(Retry(""), tries, self._policies.get(delayed.subscription, _UNAVAILABLE)))
        finally:
            _retrying.reset(token)
            held.discard(key)
            metrics.safely(metrics.delayed, delayed.subscription, len(held))

    async def _attempt(self, delayed: Delayed, attempt: Callable[[Delayed], Awaitable[bool]]) -> bool:
        """Attempt it, or wait for the attempt that was under way when the event left the queue."""
        running = self._running.get(delayed.key)
        if running is None:
            return await attempt(delayed)
        try:
            return await asyncio.shield(running)
        finally:
            self._running.pop(delayed.key, None)

    def _may_leave(self, delayed: Delayed, outcome: Retry, policy: SubscriptionPolicy) -> bool:
        unavailable = isinstance(outcome, Postponed) and not outcome.contended
        return not unavailable and self._room(delayed, policy)

    def _room(self, delayed: Delayed, policy: SubscriptionPolicy) -> bool:
        return not policy.ordering.is_ordered and len(self._held[delayed.subscription]) < MOST
