"""Background work: relays, leases and scheduled messages.

asyncio does not report errors of such tasks, and a `SystemExit` or `KeyboardInterrupt` in one ends the whole process: a
careless `sys.exit()` in a library would stop the service. Here they are failures like any other: logged as
`background.failed`, counted in `tidings_background_failures_total`, and the work restarts from its stored state after a
pause.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from tidings.errors import BackgroundFailure, ProcessEnd
from tidings.observability import metrics
from tidings.observability.logs import log_failure

log = structlog.get_logger(__name__)
T = TypeVar("T")
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 30.0  # seconds between restarts
_STABLE_AFTER = 60.0  # seconds of running after which the pause starts from _FIRST_PAUSE again


def ends_task(error: BaseException) -> bool:
    """Return True if an error is meant for the current task or the process and must not be handled here.

    A `CancelledError` counts only if this task was cancelled; otherwise it was raised by the work itself.
    """
    try:
        task = asyncio.current_task()
    except RuntimeError:  # the loop has ended, and this coroutine is being closed
        return True
    cancelled = task is not None and task.cancelling() > 0
    return isinstance(error, ProcessEnd) or (isinstance(error, asyncio.CancelledError) and cancelled)


async def restart_on_failure(name: str, work: Callable[[], Awaitable[None]]) -> None:
    """Run work to completion, and restart it with exponential backoff whenever it fails."""
    loop, task, pause = asyncio.get_running_loop(), asyncio.current_task(), _FIRST_PAUSE
    while True:
        began = loop.time()
        try:
            return await work()
        except BaseException as error:
            if ends_task(error) or asyncio.current_task() is not task:  # the garbage collector closes this coroutine
                raise
            if loop.time() - began > _STABLE_AFTER:
                pause = _FIRST_PAUSE
            log_failure(log, logging.CRITICAL, "background.failed", work=name, retry_in=pause, exc_info=error)
            metrics.safely(metrics.background_failed, name)
        await asyncio.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE)


async def contained(work: Callable[[], Awaitable[T]]) -> T:
    """Run the work of a task and turn process-ending exceptions into an error for its caller.

    Raises:
        BackgroundFailure: The work raised `SystemExit` or `KeyboardInterrupt`.

    """
    try:
        return await work()
    except (SystemExit, KeyboardInterrupt) as error:
        raise BackgroundFailure(f"{type(error).__name__}: {error}") from error
