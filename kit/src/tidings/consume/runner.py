"""Runs one handler as one unit of work, again where somebody else wrote first."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
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
from tidings.messages.delivery import Cause
from tidings.observability import tracing
from tidings.observability.logs import handling, log_failure
from tidings.outbox.port import Outbox
from tidings.outcomes import DeadLetter, Done, Drop, Outcome, Postponed, Retry

log = structlog.get_logger(__name__)
T = TypeVar("T")
_TRIES = 30
_TRIES_OF_A_KEY = 3  # then it is no other unit of work that was faster
_LONGEST = 10_000  # characters of an error's text


class Runner:
    """Opens units of work on an outbox.

    Args:
        outbox: The strategy that keeps writes and messages together.
        clock: The moment, in UTC.

    """

    def __init__(self, outbox: Outbox, clock: Callable[[], datetime]) -> None:
        self._outbox = outbox
        self._clock = clock

    async def execute(self, function: Callable[[Any, Any], Awaitable[T]], message: object, cause: Cause) -> T:
        """Run a function as a unit of work and answer what it returned, once that is committed.

        Raises:
            StateConflict: Others kept writing the same document first.
            StateRefused: The store will never take what was to be written.
            AlreadyHandled: The event that caused it was handled before.

        """
        token = handling.set(cause)
        # A request without baggage keeps that of the context, which an instrumented framework has set.
        carrying = tracing.carrying(cause.envelope) if cause.envelope.baggage else nullcontext()
        try:
            with carrying:
                return await self._unit_again(function, message, cause)
        finally:
            handling.reset(token)

    async def _unit_again(self, function: Callable[[Any, Any], Awaitable[T]], message: object, cause: Cause) -> T:
        for attempt in range(_TRIES):
            try:
                return await self._unit(function, message, cause)
            except (StateConflict, KeyTaken) as error:
                if isinstance(error, KeyTaken) and attempt + 1 == _TRIES_OF_A_KEY:
                    raise
                await asyncio.sleep(random.uniform(0.0, 0.002 * 2 ** min(attempt, 6)))  # noqa: S311 - jitter
        raise StateConflict(f"{cause.source}: others wrote the same document first, {_TRIES} times over")

    async def _unit(self, function: Callable[[Any, Any], Awaitable[T]], message: object, cause: Cause) -> T:
        async with self._outbox.unit(cause, self._clock()) as context:
            returned = await function(message, context)
            if not isinstance(returned, outcomes.Retry | outcomes.Drop | outcomes.DeadLetter):
                await context.commit()
                context.committed()
            return returned

    async def store(self, message: Outgoing, source: str) -> None:
        """Put a message into the outbox, in a unit of work of its own.

        Raises:
            SidecarUnavailable: Sidecar or store did not answer.
            StateConflict: Others kept writing first.

        """

        async def put(_message: object, context: Any) -> None:
            context.outgoing.append(message)

        await self.execute(put, None, Cause(source, request()))

    async def schedule(self, event: msgspec.Raw, after: float, source: str) -> bool:
        """Store a message of the service to itself, due in `after` seconds; False where the strategy has none.

        Raises:
            SidecarUnavailable: Sidecar or store did not answer.
            StateConflict: Others kept writing first.

        """

        async def put(_message: object, context: Any) -> bool:
            schedule = getattr(context, "schedule_event", None)
            if schedule is not None:
                schedule(event, after=after)
            return schedule is not None

        return await self.execute(put, None, Cause(source, request()))

    async def attempt(
        self, handler: Handler, cause: Cause, retry: RetryPolicy, timeout: float | None = None
    ) -> Outcome:
        """Try a handler once on an event. Whatever is raised is an outcome; only what ends the task passes through."""
        token = handling.set(cause)  # until the outcome is logged: a failure without its ids cannot be followed
        try:
            with tracing.carrying(cause.envelope):
                message = handler.read(cause)
                running = self._unit_again(handler.function, message, cause)
                outcome = outcomes.read(await (running if timeout is None else _within(timeout, running)))
        except AlreadyHandled:  # of a list, only some may have been: `Together` then tries them one by one
            return Retry("some of a list have been handled before") if cause.beside else Done()
        except BaseException as error:  # noqa: BLE001 - the boundary: any error of a handler is an outcome
            return failed(error, handler.name, cause.attempt, retry)
        else:
            return _judged(outcome, handler, cause, retry)
        finally:
            handling.reset(token)


def _judged(outcome: Outcome, handler: Handler, cause: Cause, retry: RetryPolicy) -> Outcome:
    if isinstance(outcome, Retry) and cause.attempt > retry.max_retries:
        return DeadLetter(outcome.reason, "Retry")
    if isinstance(outcome, Drop):
        log.info("event.dropped", handler=handler.name, reason=outcome.reason)
    return outcome


async def _within(seconds: float, running: Awaitable[T]) -> T:
    """Not `asyncio.wait_for`, which in Python 3.11 can swallow a cancellation."""
    async with asyncio.timeout(seconds):
        return await running


_POSTPONED = (SidecarUnavailable, StateConflict)
# A missing topic is created sooner or later, for instance after a broker has lost its data: that is worth attempts.
_PERMANENT = (MalformedEvent, Rejected, EventTooLarge, SidecarError)


def failed(error: BaseException, handler: str, attempt: int, retry: RetryPolicy) -> Outcome:
    """Make an outcome of whatever handling an event has raised.

    "Unavailable" and "conflict" postpone it, a permanent refusal is a dead letter at once, and anything else is an
    attempt that has failed: also a `SystemExit`, or a `CancelledError` that nobody but the handler asked for.

    Raises:
        BaseException: What was given, where it ends this task or the process.

    """
    if ends_task(error):
        raise error
    name = type(error).__qualname__
    if isinstance(error, _POSTPONED):
        log_failure(log, logging.WARNING, "event.postponed", handler=handler, reason=_said(error))
        return Postponed(_said(error), contended=isinstance(error, StateConflict | StatementTimeout))
    if isinstance(error, _PERMANENT) and not isinstance(error, TopicMissing):
        return DeadLetter(_said(error), name)
    reason = f"{name}: {said}" if (said := _said(error)) else name
    if attempt > retry.max_retries:
        log_failure(log, logging.ERROR, "event.given_up", handler=handler, attempts=attempt, exc_info=error)
        return DeadLetter(reason, name)
    log_failure(log, logging.WARNING, "event.failed", handler=handler, attempt=attempt, exc_info=error)
    return Retry(reason)


def _said(error: BaseException) -> str:
    try:
        return str(error)[:_LONGEST]
    except Exception as unreadable:  # noqa: BLE001 - an exception's text is code of the handler's, too
        return f"its text cannot be read: {type(unreadable).__qualname__}"
