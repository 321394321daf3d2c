"""Delayed retries: a failed event leaves the broker's queue, so that later events are not blocked.

The event is stored in the service's outbox as a message of the service to itself, due after the back-off of the
subscription's retry policy, and the delivery is acknowledged. After a crash before that, the event is still with the
broker; after a crash later, it is in the outbox, where the next start or another replica finds it. In between it may be
in both, and the inbox drops the second handling.

An event stays in the queue and is redelivered by the sidecar if delaying it would be wrong or is impossible:

- The subscription is ordered: a later event with the same key must not overtake it.
- The sidecar, broker or state store is unavailable: the next event would fail too.
- `MAX_DELAYED` events of the subscription are delayed already: the fault is not a single event's, and the queue is the
  place for the others to wait.
- The outbox strategy has no scheduled messages (`dapr`, `direct`).

An event whose attempt is slow leaves the queue in the same way while that attempt goes on: see
`tidings.consume.departure`.
"""

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import msgspec
import structlog

from tidings.consume.policy import RetryPolicy, SubscriptionPolicy
from tidings.consume.runner import Runner
from tidings.errors import SidecarError
from tidings.observability import metrics
from tidings.outcomes import Postponed, Retry

log = structlog.get_logger(__name__)

MAX_DELAYED = 100
"""Maximum number of delayed events per subscription and process."""
MAX_RUNNING = 8
"""Maximum number of events per subscription and process that have left the queue while their attempt is running."""
_LONGEST_PAUSE = 86_400.0  # seconds; longer requests are ignored in favour of the policy's back-off
_UNAVAILABLE = RetryPolicy(duration=1.0, max_interval=30.0)
Running = asyncio.Future[bool]
"""Result of an attempt that is still running after its event left the queue: True once the event has its outcome."""
_retrying: ContextVar[bool] = ContextVar("retrying", default=False)


@contextmanager
def outside_queue(left: bool) -> Iterator[None]:
    """Mark the current task as handling an event that has left the queue, if `left` is True."""
    token = _retrying.set(left)
    try:
        yield
    finally:
        _retrying.reset(token)


class Delayed(msgspec.Struct, frozen=True, rename="camel"):
    """A delivery that is retried outside of the broker.

    Attributes:
        path: Path of the delivery.
        subscription: The EventSubscription that delivered it.
        identity: Identity of the event.
        attempts: Number of failed attempts.
        first: Time of the first attempt in seconds since the Unix epoch.
        body: The event as delivered.

    """

    path: str
    subscription: str
    identity: str
    attempts: int
    first: float
    body: bytes

    @property
    def key(self) -> tuple[str, str, str]:
        """Identifies the delivery within this process."""
        return self.subscription, self.path, self.identity


class _Stored(msgspec.Struct, frozen=True, rename="camel"):
    delayed_retry: Delayed


_decoder = msgspec.json.Decoder(_Stored)
_PREFIX = b'{"delayedRetry":'


def read(event: bytes) -> Delayed | None:
    """Decode a scheduled message; return None if it is not a delayed retry."""
    return _decoder.decode(event).delayed_retry if event.startswith(_PREFIX) else None


def pause(outcome: Retry, attempt: int, retry: RetryPolicy) -> float:
    """Return the seconds until the next attempt: the handler's `after`, else the policy's back-off with jitter."""
    if isinstance(outcome.after, int | float) and 0 <= outcome.after < _LONGEST_PAUSE:
        return outcome.after
    growing = retry.duration * 2 ** min(attempt - 1, 30) if retry.policy == "exponential" else retry.duration
    return min(growing, retry.max_interval) * random.uniform(0.5, 1.0)  # noqa: S311 - jitter


class DelayedRetries:
    """Events of this process that are waiting for a delayed retry.

    Args:
        source: Name of the service.
        runner: Stores them in the outbox.

    """

    def __init__(self, source: str, runner: Runner) -> None:
        self._source = source
        self._runner = runner
        self.enabled = False
        """False before the outbox has started and while the service stops; events then stay with the broker."""
        self._held: dict[str, set[tuple[str, str]]] = defaultdict(set)
        self._policies: dict[str, RetryPolicy] = {}
        self._running: dict[tuple[str, str, str], Running] = {}
        self._attempts_aside: Counter[str] = Counter()

    def holds(self, path: str, subscription: str, identity: str) -> bool:
        """Return True if a delivered event is already delayed; brokers may redeliver it."""
        return not _retrying.get() and (path, identity) in self._held[subscription]

    async def take(self, delayed: Delayed, outcome: Retry, policy: SubscriptionPolicy | None) -> bool:
        """Store an event for a delayed retry; return False if it must stay in the broker's queue."""
        if not self.enabled or policy is None or _retrying.get() or not self._has_room(delayed, policy):
            return False
        if isinstance(outcome, Postponed) and not outcome.contended:
            return False
        return await self._store(delayed, pause(outcome, delayed.attempts, policy.retry), policy.retry)

    def has_place(self, subscription: str) -> bool:
        """Return True if another event may leave the queue now while its attempt is running."""
        return self.enabled and self._attempts_aside[subscription] < MAX_RUNNING

    def begin_aside(self, delayed: Delayed) -> None:
        """Note a running attempt whose event is about to leave the queue, until `end_aside`."""
        self._attempts_aside[delayed.subscription] += 1
        self._running[delayed.key] = asyncio.get_running_loop().create_future()

    async def leave(self, delayed: Delayed, policy: SubscriptionPolicy) -> bool:
        """Store an event whose attempt is running; return False if it stays in the queue for now."""
        return self.enabled and self._has_room(delayed, policy) and await self._store(delayed, 0.0, policy.retry)

    def end_aside(self, delayed: Delayed, *, done: bool, left: bool) -> None:
        """End a running attempt; `done` is True if the event has its outcome."""
        self._attempts_aside[delayed.subscription] -= 1
        # A stored event's retry takes the result, perhaps later.
        running = self._running.get(delayed.key) if left else self._running.pop(delayed.key, None)
        if running is not None and not running.done():
            running.set_result(done)

    async def _store(self, delayed: Delayed, after: float, retry: RetryPolicy) -> bool:
        held, key = self._held[delayed.subscription], (delayed.path, delayed.identity)
        self._policies[delayed.subscription] = retry
        held.add(key)  # before storing, so that a redelivery meanwhile does not store it again
        stored = False
        try:
            event = msgspec.Raw(msgspec.json.encode(_Stored(delayed)))
            stored = await self._runner.schedule(event, after, self._source)
        except SidecarError as error:
            log.warning("event.delay_failed", subscription=delayed.subscription, reason=str(error))
        finally:
            if not stored:
                held.discard(key)
        metrics.safely(metrics.delayed, delayed.subscription, len(held))
        return stored

    async def run(self, delayed: Delayed, attempt: Callable[[Delayed], Awaitable[bool]]) -> None:
        """Retry a due event with back-off until `attempt` returns True."""
        held, key = self._held[delayed.subscription], (delayed.path, delayed.identity)
        held.add(key)
        tries = max(delayed.attempts, 1)
        try:
            with outside_queue(left=True):
                while not await self._attempt(delayed, attempt):
                    tries += 1
                    await asyncio.sleep(pause(Retry(""), tries, self._policies.get(delayed.subscription, _UNAVAILABLE)))
        finally:
            held.discard(key)
            metrics.safely(metrics.delayed, delayed.subscription, len(held))

    async def _attempt(self, delayed: Delayed, attempt: Callable[[Delayed], Awaitable[bool]]) -> bool:
        """Attempt the event, or wait for the attempt that was running when it left the queue."""
        running = self._running.get(delayed.key)
        if running is None:
            return await attempt(delayed)
        try:
            return await asyncio.shield(running)
        finally:
            self._running.pop(delayed.key, None)

    def _has_room(self, delayed: Delayed, policy: SubscriptionPolicy) -> bool:
        return not policy.ordering.is_ordered and len(self._held[delayed.subscription]) < MAX_DELAYED
