"""Delivers scheduled messages to the service's own handlers: again with growing pauses until they have an outcome."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable

from tidings.consume.batches import Together
from tidings.consume.deadletters import DeadLetterPublisher, Failed, malformed
from tidings.consume.delayed import Delayed, pause
from tidings.consume.delayed import read as read_delayed
from tidings.consume.handlers import Handler
from tidings.consume.policy import RetryPolicy
from tidings.consume.runner import Runner, failed
from tidings.errors import MalformedEvent
from tidings.messages import envelope as envelopes
from tidings.messages.delivery import Cause
from tidings.messages.envelope import Envelope
from tidings.observability import tracing
from tidings.observability.logs import handling
from tidings.outbox.documents import Scheduled
from tidings.outcomes import DeadLetter, Outcome, Postponed, Retry

_DEFAULT = RetryPolicy(duration=0.5, max_interval=30.0, max_retries=100)


class Scheduler:
    """Handles what `context.schedule` asked for.

    Args:
        source: The service's name.
        handlers: What it handles; the first that takes the message's type is used.
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
        self._slots: dict[str, asyncio.Semaphore] = {}
        self._together: dict[str, Together] = {}
        for handler in handlers:
            for version in handler.versions:
                self._handlers.setdefault((handler.kind.name, version), handler)
            if handler.concurrency:
                self._slots[handler.kind.name] = asyncio.Semaphore(handler.concurrency)
            if handler.together:
                self._together[handler.kind.name] = Together(runner, handler)

    async def deliver(self, scheduled: Scheduled) -> None:
        """Handle one message that is due; returns once it has an outcome, whatever the message is."""
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
        # This task was begun while another event was handled: what it logs is about its own message.
        handling.set(Cause(self._source, envelope, envelope.label))
        handler = self._handlers.get((envelope.type, int(envelope.version or 0)))
        retry = handler.retry or _DEFAULT if handler else _DEFAULT
        attempt, first = 1, time.time()
        while True:
            outcome = await self._attempt(handler, envelope, attempt, retry)
            if isinstance(outcome, DeadLetter):
                await self._give_up(Failed(body, envelope, outcome, envelope.label, attempt, first))
            if not isinstance(outcome, Retry):
                return
            await asyncio.sleep(pause(outcome, attempt, retry))
            attempt += not isinstance(outcome, Postponed)

    async def _attempt(self, handler: Handler | None, envelope: Envelope, attempt: int, retry: RetryPolicy) -> Outcome:
        if handler is None:
            return DeadLetter(f"no handler takes the scheduled {envelope.label}", "UnknownEventType")
        cause = Cause(self._source, envelope, envelope.label, attempt, handler.once, scheduled=True)
        slots, together = self._slots.get(envelope.type), self._together.get(envelope.type)
        outcome: Outcome | None = None
        try:
            with tracing.consumer(envelope, envelope.label, detached=True) as ended:
                if together is not None:
                    outcome = await together.attempt(cause, retry)
                elif slots is None:
                    outcome = await self._runner.attempt(handler, cause, retry)
                else:
                    async with slots:
                        outcome = await self._runner.attempt(handler, cause, retry)
                ended(outcome)
        except BaseException as error:  # noqa: BLE001 - whatever is raised around a handler is an outcome, too
            outcome = outcome or failed(error, handler.name, attempt, retry)
        return outcome

    async def _give_up(self, letter: Failed) -> None:
        """Publish a dead letter, as often as it takes until sidecar and store answer."""
        tries = 1
        while isinstance(outcome := await self._dead_letters.publish(letter), Retry):
            await asyncio.sleep(pause(outcome, tries, _DEFAULT))
            tries += 1
