"""Runs a handler as a unit of work, and repeats it after write conflicts."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar

import msgspec
import structlog

from tidings import outcomes
from tidings.background import ends_task
from tidings.consume.handlers import Handler
from tidings.consume.policy import RetryPolicy
from tidings.context import AlreadyHandled, Outgoing, request
from tidings.errors import (
    EventTooLarge,
    KeyTaken,
    MalformedEvent,
    Rejected,
    SidecarError,
    SidecarUnavailable,
    StateConflict,
    StatementTimeout,
    TopicMissing,
)
from tidings.messages import personal
from tidings.messages.delivery import DeliveryContext
from tidings.observability import tracing
from tidings.observability.logs import handling, log_failure
from tidings.outbox.port import Outbox
from tidings.outcomes import DeadLetter, Done, Drop, Outcome, Postponed, Retry

log = structlog.get_logger(__name__)
T = TypeVar("T")
_MAX_TRIES = 30
_MAX_TRIES_OF_KEY = 3  # a key that is still taken then was not inserted by a concurrent unit of work
_MAX_REASON = 10_000  # characters of an error's text
_MAX_CANCELLED = 1_000


class Runner:
    """Runs functions as units of work of an outbox.

    Args:
        outbox: Commits writes and messages atomically.
        clock: Returns the current time in UTC.

    """

    def __init__(self, outbox: Outbox, clock: Callable[[], datetime]) -> None:
        self._outbox = outbox
        self.clock = clock
        self._cancelled: set[str] = set()  # events whose latest attempt was cancelled

    async def execute(
        self, function: Callable[[Any, Any], Awaitable[T]], message: object, delivery: DeliveryContext
    ) -> T:
        """Run a function as a unit of work and return its result after the commit.

        Raises:
            StateConflict: Concurrent writes to the same document did not stop.
            StateRefused: The store rejects the write permanently.
            AlreadyHandled: The event was handled before.

        """
        token = handling.set(delivery)
        # A request without baggage keeps that of the context, which an instrumented framework has set.
        carrying = tracing.carrying(delivery.envelope) if delivery.envelope.baggage else nullcontext()
        try:
            with carrying, personal.remembering():
                return await self._retry_conflicts(function, message, delivery)
        finally:
            handling.reset(token)

    async def _retry_conflicts(
        self, function: Callable[[Any, Any], Awaitable[T]], message: object, delivery: DeliveryContext
    ) -> T:
        for attempt in range(_MAX_TRIES):
            try:
                return await self._unit(function, message, delivery)
            except (StateConflict, KeyTaken) as error:
                if isinstance(error, KeyTaken) and attempt + 1 == _MAX_TRIES_OF_KEY:
                    raise
                await asyncio.sleep(random.uniform(0.0, 0.002 * 2 ** min(attempt, 6)))  # noqa: S311 - jitter
        raise StateConflict(
            f"{delivery.source}: the document was written concurrently during each of {_MAX_TRIES} tries"
        )

    async def _unit(
        self, function: Callable[[Any, Any], Awaitable[T]], message: object, delivery: DeliveryContext
    ) -> T:
        async with self._outbox.unit(delivery, self.clock()) as context:
            returned = await function(message, context)
            if not isinstance(returned, outcomes.Retry | outcomes.Drop | outcomes.DeadLetter):
                await context.commit()
                context.committed()
            return returned

    async def store(self, message: Outgoing, source: str) -> None:
        """Write a message to the outbox in its own unit of work.

        Raises:
            SidecarUnavailable: The sidecar or store did not answer.
            StateConflict: Concurrent writes did not stop.

        """

        async def put(_message: object, context: Any) -> None:
            context.outgoing.append(message)

        await self.execute(put, None, DeliveryContext(source, request()))

    async def schedule(self, event: msgspec.Raw, after: float, source: str) -> bool:
        """Store a message of the service to itself, due in `after` seconds.

        Return False if the outbox strategy has no scheduled messages.

        Raises:
            SidecarUnavailable: The sidecar or store did not answer.
            StateConflict: Concurrent writes did not stop.

        """

        async def put(_message: object, context: Any) -> bool:
            schedule = getattr(context, "schedule_event", None)
            if schedule is not None:
                schedule(event, after=after)
            return schedule is not None

        return await self.execute(put, None, DeliveryContext(source, request()))

    async def attempt(
        self, handler: Handler, delivery: DeliveryContext, retry: RetryPolicy, timeout: float | None = None
    ) -> Outcome:
        """Run a handler once for an event. Exceptions become outcomes, except those that end the task."""
        with personal.remembering():
            return await self._attempt(handler, delivery, retry, timeout)

    async def _attempt(
        self, handler: Handler, delivery: DeliveryContext, retry: RetryPolicy, timeout: float | None
    ) -> Outcome:
        token = handling.set(delivery)  # reset only after logging the outcome, so that log lines carry the event's ids
        try:
            with tracing.carrying(delivery.envelope):
                message = handler.read(delivery)
                running: Awaitable[Outcome] = self._retry_conflicts(_checked(handler), message, delivery)
                if self._cancelled and delivery.envelope.identity in self._cancelled:
                    # If its handler cancels the task that it runs in, only a task of its own shows that.
                    running = asyncio.ensure_future(running)
                async with asyncio.timeout(timeout):  # `asyncio.wait_for` can swallow a cancellation in Python 3.11
                    outcome = await running
        except AlreadyHandled:  # in a batch, perhaps only some were: `Batcher` then attempts them individually
            return Retry("some messages of the batch have been handled before") if delivery.batch_members else Done()
        except BaseException as error:  # noqa: BLE001 - the boundary: any error of a handler is an outcome
            if isinstance(error, asyncio.CancelledError):
                if len(self._cancelled) >= _MAX_CANCELLED:
                    self._cancelled.clear()
                self._cancelled.add(delivery.envelope.identity)
            return _redacted(outcome_of_error(error, handler.name, delivery.attempt, retry), delivery)
        else:
            if self._cancelled:
                self._cancelled.discard(delivery.envelope.identity)
            if isinstance(outcome, Retry) and delivery.attempt > retry.max_retries:
                outcome = DeadLetter(outcome.reason, "Retry")
            elif isinstance(outcome, Drop):
                log.info("event.dropped", handler=handler.name, reason=outcome.reason)
            return _redacted(outcome, delivery)
        finally:
            handling.reset(token)


def _checked(handler: Handler) -> Callable[[Any, Any], Awaitable[Outcome]]:
    """Read the handler's outcome before the commit: nothing is committed if it is not one."""

    async def run(message: object, context: Any) -> Outcome:
        return outcomes.read(await handler.function(message, context))

    return run


def _redacted(outcome: Outcome, delivery: DeliveryContext) -> Outcome:
    """Mask personal data of the event in the outcome's reason, which is logged, traced and dead-lettered."""
    if isinstance(outcome, Done):
        return outcome
    return replace(outcome, reason=personal.redact(outcome.reason, personal.personal_values(delivery.envelope)))


_POSTPONED = (SidecarUnavailable, StateConflict)
# TopicMissing is a SidecarError but not permanent: the topic may be created soon, such as after a broker lost its data.
_PERMANENT = (MalformedEvent, Rejected, EventTooLarge, SidecarError)


def outcome_of_error(error: BaseException, handler: str, attempt: int, retry: RetryPolicy) -> Outcome:
    """Convert an exception raised while handling an event to an outcome.

    Unavailability and write conflicts postpone the event, permanent errors dead-letter it at once. Everything else is a
    failed attempt, including a `SystemExit`, and a `CancelledError` that the handler raised itself.

    Raises:
        BaseException: The error itself, if it ends this task or the process.

    """
    if ends_task(error):
        raise error
    name = type(error).__qualname__
    if isinstance(error, _POSTPONED):
        log_failure(log, logging.WARNING, "event.postponed", handler=handler, reason=_text(error))
        return Postponed(_text(error), contended=isinstance(error, StateConflict | StatementTimeout))
    if isinstance(error, _PERMANENT) and not isinstance(error, TopicMissing):
        return DeadLetter(_text(error), name)
    reason = f"{name}: {text}" if (text := _text(error)) else name
    if attempt > retry.max_retries:
        log_failure(log, logging.ERROR, "event.retries_exhausted", handler=handler, attempts=attempt, exc_info=error)
        return DeadLetter(reason, name)
    log_failure(log, logging.WARNING, "event.failed", handler=handler, attempt=attempt, exc_info=error)
    return Retry(reason)


def _text(error: BaseException) -> str:
    try:
        return str(error)[:_MAX_REASON]
    except BaseException as failure:  # __str__ of a handler's exception may itself fail
        if ends_task(failure):
            raise
        return f"(its __str__ raised {type(failure).__qualname__})"
