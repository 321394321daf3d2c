"""Batches: messages that wait for the same handler are handled in one unit of work."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import wraps
from itertools import islice
from math import inf

import msgspec

from tidings.consume.handlers import Handler
from tidings.consume.limits import KeyedLock
from tidings.consume.policy import RetryPolicy
from tidings.consume.runner import Runner
from tidings.messages.delivery import DeliveryContext
from tidings.outcomes import Done, Outcome, Postponed

_LARGE = 16  # messages: a batch of so many does not wait for more
_Queue = dict[asyncio.Future[Outcome], DeliveryContext]


@dataclass(slots=True)
class Batcher:
    """Collects the waiting messages of one handler in this process and runs one unit of work at a time.

    A batcher serves one subscription, or one type of scheduled messages. The first waiting message runs the unit of
    work for all that have arrived by then; the others receive their outcome from it. Messages are delayed to make a
    batch larger only for a handler with an `interval`.
    """

    runner: Runner
    handler: Handler
    _queues: dict[str, _Queue] = field(default_factory=dict, init=False)
    _locks: KeyedLock = field(default_factory=KeyedLock, init=False)
    _began: float = field(default=-inf, init=False)
    _is_large: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    async def attempt(self, delivery: DeliveryContext, retry: RetryPolicy, timeout: float | None = None) -> Outcome:
        """Attempt a message once, together with other waiting ones.

        `timeout` is in seconds and applies to the whole batch.
        """
        result: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        key = delivery.envelope.subject if self.handler.per_subject else ""
        queue = self._queues.setdefault(key, {})
        queue[result] = delivery
        if len(queue) >= _LARGE:
            self._is_large.set()
        try:
            async with self._locks(key):
                while not result.done():
                    if self.handler.interval:
                        await self._wait_for_others(queue)
                    await self._handle_batch(queue, retry, timeout)
            return result.result()
        finally:
            result.cancel()  # after a cancellation of this task, no one awaits the outcome
            queue.pop(result, None)
            if not queue and self._queues.get(key) is queue:
                del self._queues[key]

    async def _wait_for_others(self, queue: _Queue) -> None:
        """Wait until a batch is due, or large."""
        loop, due = asyncio.get_running_loop(), self._began + self.handler.interval
        if len(queue) < _LARGE and loop.time() < due:
            self._is_large.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await self._is_large.wait()
        self._began = loop.time()

    async def _handle_batch(self, queue: _Queue, retry: RetryPolicy, timeout: float | None) -> None:
        # Entries stay queued until they have an outcome: if this task is cancelled, the next in the queue retries them.
        batch = dict(islice(queue.items(), self.handler.batch_size))
        deliveries = list(batch.values())
        outcome = await self._try(deliveries, retry, timeout)
        if len(batch) == 1 or isinstance(outcome, Done):
            outcomes = [outcome] * len(batch)
        else:  # a single message may have failed the whole batch, or may have been handled before
            outcomes = await self._one_by_one(deliveries, retry, timeout)
        for result, outcome in zip(batch, outcomes, strict=True):
            queue.pop(result, None)
            if not result.done():  # the delivery may have been cancelled meanwhile
                result.set_result(outcome)

    async def _one_by_one(
        self, deliveries: list[DeliveryContext], retry: RetryPolicy, timeout: float | None
    ) -> list[Outcome]:
        """Attempt messages individually.

        After two postponed outcomes, the sidecar or store is at fault: postpone the rest.
        """
        outcomes: list[Outcome] = []
        for delivery in deliveries:
            unavailable = sum(isinstance(outcome, Postponed) for outcome in outcomes) > 1
            outcomes.append(outcomes[-1] if unavailable else await self._try([delivery], retry, timeout))
        return outcomes

    async def _try(self, deliveries: list[DeliveryContext], retry: RetryPolicy, timeout: float | None) -> Outcome:
        @wraps(self.handler.function)
        async def handle_all(_first: object, context: object) -> object:
            return await self.handler.function([self.handler.read(delivery) for delivery in deliveries], context)

        first, *rest = deliveries
        attempt = 0 if rest else first.attempt  # a failed batch counts as an attempt of none of its messages
        members = tuple(delivery.envelope for delivery in rest)
        delivery = msgspec.structs.replace(first, attempt=attempt, batch_members=members)
        return await self.runner.attempt(replace(self.handler, function=handle_all), delivery, retry, timeout)
