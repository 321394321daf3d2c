"""Delivers scheduled messages to the service's own handlers: again with growing pauses until they have an outcome."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterable

from tidings import envelope as envelopes
from tidings import tracing
from tidings.context import Cause
from tidings.deadletters import Burial
from tidings.documents import Scheduled
from tidings.envelope import Envelope
from tidings.handlers import Handler
from tidings.logs import handling
from tidings.outcomes import DeadLetter, Outcome, Postponed, Retry
from tidings.policy import RetryPolicy
from tidings.runner import Runner
from tidings.together import Together

_DEFAULT = RetryPolicy(duration=0.5, max_interval=30.0, max_retries=100)


class Scheduler:
    """Handles what `context.schedule` asked for.

    Args:
        source: The service's name.
        handlers: What it handles; the first that takes the message's type is used.
        runner: Runs a handler as a unit of work.
        burial: Publishes dead letters.

    """

    def __init__(self, source: str, handlers: Iterable[Handler], runner: Runner, burial: Burial) -> None:
        self._source = source
        self._runner = runner
        self._burial = burial
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
        """Handle one message that is due; returns once it has an outcome."""
        body = bytes(scheduled.event)
        envelope = envelopes.decode(body)
        # This task was begun while another event was handled: what it logs is about its own message.
        handling.set(Cause(self._source, envelope, envelope.label))
        handler = self._handlers.get((envelope.type, int(envelope.version)))
        retry = handler.retry or _DEFAULT if handler else _DEFAULT
        attempt, first = 1, time.time()
        while True:
            outcome = await self._attempt(handler, envelope, attempt, retry)
            if isinstance(outcome, DeadLetter):
                outcome = await self._burial.bury(body, envelope, outcome, envelope.label, attempt, first)
            if not isinstance(outcome, Retry):
                return
            await asyncio.sleep(_pause(outcome, attempt, retry))
            attempt += not isinstance(outcome, Postponed)

    async def _attempt(self, handler: Handler | None, envelope: Envelope, attempt: int, retry: RetryPolicy) -> Outcome:
        if handler is None:
            return DeadLetter(f"no handler takes the scheduled {envelope.label}", "UnknownEventType")
        cause = Cause(self._source, envelope, envelope.label, attempt, handler.once, scheduled=True)
        slots, together = self._slots.get(envelope.type), self._together.get(envelope.type)
        with tracing.consumer(envelope, envelope.label) as ended:
            if together is not None:
                outcome = await together.attempt(cause, retry)
            elif slots is None:
                outcome = await self._runner.attempt(handler, cause, retry)
            else:
                async with slots:
                    outcome = await self._runner.attempt(handler, cause, retry)
            ended(outcome)
        return outcome


def _pause(outcome: Retry, attempt: int, retry: RetryPolicy) -> float:
    """Seconds until the next attempt: what the handler asked for, else doubling with jitter up to the maximum."""
    if outcome.after is not None:
        return outcome.after
    growing = retry.duration * 2 ** min(attempt - 1, 30) if retry.policy == "exponential" else retry.duration
    return min(growing, retry.max_interval) * random.uniform(0.5, 1.0)  # noqa: S311 - jitter
