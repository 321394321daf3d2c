"""Runs one handler as one unit of work, again where somebody else wrote first."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, TypeVar

import structlog

from tidings import outcomes
from tidings.context import AlreadyHandled, Cause
from tidings.errors import MalformedEvent, Rejected, SidecarError, StateConflict
from tidings.handlers import Handler
from tidings.logs import handling
from tidings.outbox.port import Outbox
from tidings.outcomes import DeadLetter, Done, Drop, Outcome, Postponed, Retry
from tidings.policy import RetryPolicy

log = structlog.get_logger(__name__)
T = TypeVar("T")
_TRIES = 30


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
            AlreadyHandled: The event that caused it was handled before.

        """
        token = handling.set(cause)
        try:
            return await self._unit_again(function, message, cause)
        finally:
            handling.reset(token)

    async def _unit_again(self, function: Callable[[Any, Any], Awaitable[T]], message: object, cause: Cause) -> T:
        for attempt in range(_TRIES):
            try:
                return await self._unit(function, message, cause)
            except StateConflict:
                await asyncio.sleep(random.uniform(0.0, 0.002 * 2 ** min(attempt, 6)))  # noqa: S311 - jitter
        raise StateConflict(f"{cause.source}: others wrote the same document first, {_TRIES} times over")

    async def _unit(self, function: Callable[[Any, Any], Awaitable[T]], message: object, cause: Cause) -> T:
        async with self._outbox.unit(cause, self._clock()) as context:
            returned = await function(message, context)
            if not isinstance(returned, outcomes.Retry | outcomes.Drop | outcomes.DeadLetter):
                await context.commit()
                context.committed()
            return returned

    async def attempt(
        self, handler: Handler, cause: Cause, retry: RetryPolicy, timeout: float | None = None
    ) -> Outcome:
        """Try a handler once on an event. Whatever goes wrong is an outcome, never an answer without one."""
        token = handling.set(cause)  # until the outcome is logged: a failure without its ids cannot be followed
        try:
            message = handler.read(cause)
            running = self._unit_again(handler.function, message, cause)
            outcome = outcomes.read(await (running if timeout is None else _within(timeout, running)))
        except AlreadyHandled:  # of a list, only some may have been: `Together` then tries them one by one
            return Retry("some of a list have been handled before") if cause.beside else Done()
        except (MalformedEvent, Rejected) as error:
            return DeadLetter(str(error), type(error).__qualname__)
        except SidecarError as error:
            log.warning("event.postponed", handler=handler.name, reason=str(error))
            return Postponed(str(error))
        except Exception as error:  # noqa: BLE001 - the boundary: any error of a handler is an outcome
            return _failed(error, handler, cause, retry)
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


def _failed(error: Exception, handler: Handler, cause: Cause, retry: RetryPolicy) -> Outcome:
    name = type(error).__qualname__
    reason = f"{name}: {error}" if str(error) else name
    if cause.attempt > retry.max_retries:
        log.error("event.given_up", handler=handler.name, attempts=cause.attempt, exc_info=error)
        return DeadLetter(reason, name)
    log.warning("event.failed", handler=handler.name, attempt=cause.attempt, exc_info=error)
    return Retry(reason)
