"""Delivers scheduled messages to the handlers of the service, and retries them until they have an outcome."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable

from tidings.consume.batches import Batcher
from tidings.consume.deadletters import DeadLetterPublisher, FailedDelivery, malformed
from tidings.consume.delayed import Delayed, pause
from tidings.consume.delayed import read as read_delayed
from tidings.consume.handlers import Handler
from tidings.consume.policy import RetryPolicy
from tidings.consume.runner import Runner, outcome_of_error
from tidings.errors import MalformedEvent
from tidings.messages import envelope as envelopes
from tidings.messages.delivery import DeliveryContext
from tidings.messages.envelope import Envelope
from tidings.observability import tracing
from tidings.observability.logs import handling
from tidings.outbox.documents import Scheduled
from tidings.outcomes import DeadLetter, Outcome, Postponed, Retry

_DEFAULT = RetryPolicy(duration=0.5, max_interval=30.0, max_retries=100)


class Scheduler:
    """Handles messages scheduled with `context.schedule`.

    Args:
        source: Name of the service.
        handlers: Handlers of the service; the first one for a message's type is used.
        runner: Runs a handler as a unit of work.
        dead_letters: Publishes dead letters.
        retry_delayed: Retries an event that has left the broker's queue.

    """

    def __init__(
        self,
        source: str,
        handlers: Iterable[Handler],
        runner: Runner,
        dead_letters: DeadLetterPublisher,
        retry_delayed: Callable[[Delayed], Awaitable[None]] | None = None,
    ) -> None:
        self._retry_delayed = retry_delayed
        self._source = source
        self._runner = runner
        self._dead_letters = dead_letters
        self._handlers: dict[tuple[str, int], Handler] = {}
        self._concurrency: dict[str, asyncio.Semaphore] = {}
        self._batchers: dict[str, Batcher] = {}
        for handler in handlers:
            for version in handler.versions:
                self._handlers.setdefault((handler.kind.name, version), handler)
            if handler.concurrency:
                self._concurrency[handler.kind.name] = asyncio.Semaphore(handler.concurrency)
            if handler.batch_size:
                self._batchers[handler.kind.name] = Batcher(runner)

    async def deliver(self, scheduled: Scheduled) -> None:
        """Handle a due message; return once it has an outcome."""
        body = bytes(scheduled.event)
        if self._retry_delayed is not None and (delayed := read_delayed(body)) is not None:
            await self._retry_delayed(delayed)
            return
        try:
            envelope = envelopes.decode(body)
        except MalformedEvent as error:
            envelope = envelopes.salvage(body, str(error))
            await self._give_up(malformed(body, envelope, str(error), envelope.label))
            return
        # The task inherits the logging context of the event being handled when it was created: replace it.
        handling.set(DeliveryContext(self._source, envelope, envelope.label))
        handler = self._handlers.get((envelope.type, int(envelope.version or 0)))
        retry = handler.retry or _DEFAULT if handler else _DEFAULT
        attempt, first = 1, time.time()
        while True:
            outcome = await self._attempt(handler, envelope, attempt, retry)
            if isinstance(outcome, DeadLetter):
                await self._give_up(FailedDelivery(body, envelope, outcome, envelope.label, attempt, first))
            if not isinstance(outcome, Retry):
                return
            await asyncio.sleep(pause(outcome, attempt, retry))
            attempt += not isinstance(outcome, Postponed)

    async def _attempt(self, handler: Handler | None, envelope: Envelope, attempt: int, retry: RetryPolicy) -> Outcome:
        if handler is None:
            return DeadLetter(f"no handler for the scheduled message {envelope.label}", "UnknownEventType")
        delivery = DeliveryContext(self._source, envelope, envelope.label, attempt, handler.deduplicate, scheduled=True)
        limit, batcher = self._concurrency.get(envelope.type), self._batchers.get(envelope.type)
        outcome: Outcome | None = None
        try:
            with tracing.consumer(envelope, envelope.label, detached=True) as record_outcome:
                if batcher is not None:
                    outcome = await batcher.attempt(handler, delivery, retry)
                elif limit is None:
                    outcome = await self._runner.attempt(handler, delivery, retry)
                else:
                    async with limit:
                        outcome = await self._runner.attempt(handler, delivery, retry)
                record_outcome(outcome)
        except BaseException as error:  # noqa: BLE001 - errors outside the handler, such as in tracing, are outcomes too
            outcome = outcome or outcome_of_error(error, handler.name, attempt, retry)
        return outcome

    async def _give_up(self, letter: FailedDelivery) -> None:
        """Publish a dead letter; retry until the sidecar and store are available."""
        tries = 1
        while isinstance(outcome := await self._dead_letters.publish(letter), Retry):
            await asyncio.sleep(pause(outcome, tries, _DEFAULT))
            tries += 1
