"""Batches: messages that wait for the same handler are handled in one unit of work."""

import asyncio
from dataclasses import dataclass, field, replace
from functools import wraps
from itertools import islice
from typing import NamedTuple

import msgspec

from tidings.consume.handlers import Handler
from tidings.consume.policy import RetryPolicy
from tidings.consume.runner import Runner
from tidings.messages.delivery import DeliveryContext
from tidings.outcomes import Done, Outcome, Postponed

_LARGE = 16  # messages: a batch of so many waits for no more
_LATE = 0.5
"""Seconds from an event's time: an older one has been waiting at the broker, and others may be waiting behind it."""


class _Message(NamedTuple):
    handler: Handler
    delivery: DeliveryContext


@dataclass(slots=True)
class _Queue:
    """Waiting messages with the same key; one task at a time holds the lock and handles them."""

    messages: dict[asyncio.Future[Outcome], _Message] = field(default_factory=dict)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass(slots=True)
class Batcher:
    """Collects the waiting messages of one handler in this process and runs one unit of work at a time for each key.

    A batcher serves one subscription, or one type of scheduled messages. The first waiting message runs the unit of
    work for all that have arrived by then; the others receive their outcome from it. Messages are delayed to make a
    batch larger only for a handler with a `linger`.
    """

    runner: Runner
    _queues: dict[str, _Queue] = field(default_factory=dict, init=False)

    async def attempt(
        self, handler: Handler, delivery: DeliveryContext, retry: RetryPolicy, timeout: float | None = None
    ) -> Outcome:
        """Attempt a message once, together with other waiting ones.

        `timeout` is in seconds and applies to the whole batch.
        """
        result: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        key = _key(handler, delivery)
        queue = self._queues.setdefault(key, _Queue())
        queue.messages[result] = _Message(handler, delivery)
        try:
            async with queue.lock:
                while not result.done():
                    # A replay may be long, and nobody watches it: delays would add up.
                    if handler.linger and not delivery.envelope.replayto:
                        await self._wait_for_others(queue, handler.linger)
                    await self._handle_batch(queue, retry, timeout)
            return result.result()
        finally:
            result.cancel()  # after a cancellation of this task, no one awaits the outcome
            queue.messages.pop(result, None)
            if not queue.messages and self._queues.get(key) is queue:
                del self._queues[key]

    async def _wait_for_others(self, queue: _Queue, linger: float) -> None:
        """Wait until a batch is large or has a late event, or no further message has arrived for `linger` seconds.

        A broker that delivers one event of a topic at a time would deliver a backlog at one event per wait.
        """
        count = 0
        while count < len(queue.messages) < _LARGE:
            now = self.runner.clock().timestamp()
            if any((message.delivery.envelope.age(now) or 0.0) > _LATE for message in queue.messages.values()):
                return
            count = len(queue.messages)
            await asyncio.sleep(linger)

    async def _handle_batch(self, queue: _Queue, retry: RetryPolicy, timeout: float | None) -> None:
        # Entries stay queued until they have an outcome: if this task is cancelled, the next in the queue retries them.
        size = next(iter(queue.messages.values())).handler.batch_size
        batch = dict(islice(queue.messages.items(), size))
        messages = list(batch.values())
        outcome = await self._try(messages, retry, timeout)
        if len(batch) == 1 or isinstance(outcome, Done):
            outcomes = [outcome] * len(batch)
        else:  # a single message may have failed the whole batch, or may have been handled before
            outcomes = await self._one_by_one(messages, retry, timeout)
        for result, outcome in zip(batch, outcomes, strict=True):
            queue.messages.pop(result, None)
            if not result.done():  # the delivery may have been cancelled meanwhile
                result.set_result(outcome)

    async def _one_by_one(self, messages: list[_Message], retry: RetryPolicy, timeout: float | None) -> list[Outcome]:
        """Attempt messages individually.

        After two postponed outcomes, the sidecar or store is at fault: postpone the rest.
        """
        outcomes: list[Outcome] = []
        for message in messages:
            unavailable = sum(isinstance(outcome, Postponed) for outcome in outcomes) > 1
            outcomes.append(outcomes[-1] if unavailable else await self._try([message], retry, timeout))
        return outcomes

    async def _try(self, messages: list[_Message], retry: RetryPolicy, timeout: float | None) -> Outcome:
        (handler, first), *rest = messages

        @wraps(handler.function)
        async def handle_all(_first: object, context: object) -> object:
            return await handler.function([each.read(delivery) for each, delivery in messages], context)

        attempt = 0 if rest else first.attempt  # a failed batch counts as an attempt of none of its messages
        members = tuple(message.delivery.envelope for message in rest)
        delivery = msgspec.structs.replace(first, attempt=attempt, batch_members=members)
        return await self.runner.attempt(replace(handler, function=handle_all), delivery, retry, timeout)


def _key(handler: Handler, delivery: DeliveryContext) -> str:
    """Return the key whose messages share a batch."""
    if handler.key is None:
        return ""
    try:
        return handler.key(handler.read(delivery))
    except Exception:  # noqa: BLE001 - handled in a batch of its own, where the error becomes its outcome
        return delivery.envelope.identity
