"""Work in the background: relays, leases, scheduled messages.

An error in such a task is seen by nobody, and asyncio ends the whole process where the error is a `SystemExit` or a
`KeyboardInterrupt`: one careless `sys.exit()` in a library would stop a service whose other events are fine. Here it is
a failure like any other. It is logged as `background.failed`, counted in `tidings_background_failures_total`, and the
work begins anew after a pause, from what is stored.
"""

from __future__ import annotations

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
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 30.0  # seconds until work that failed begins anew
_STEADY = 60.0  # seconds after which a failure counts as the first again


def ends_task(error: BaseException) -> bool:
    """Return whether an error is meant for the current task or the process: it must pass through.

    A `CancelledError` that nobody asked this task for comes from the work itself.
    """
    try:
        task = asyncio.current_task()
    except RuntimeError:  # the loop has ended, and this coroutine is being closed
        return True
    cancelled = task is not None and task.cancelling() > 0
    return isinstance(error, ProcessEnd) or (isinstance(error, asyncio.CancelledError) and cancelled)


async def insist(name: str, work: Callable[[], Awaitable[None]]) -> None:
    """Run work to its end, and begin it anew whenever it fails."""
    loop, task, pause = asyncio.get_running_loop(), asyncio.current_task(), _FIRST_PAUSE
    while True:
        began = loop.time()
        try:
            return await work()
        except BaseException as error:
            if ends_task(error) or asyncio.current_task() is not task:  # somebody else closes this coroutine
                raise
            if loop.time() - began > _STEADY:
                pause = _FIRST_PAUSE
            log_failure(log, logging.CRITICAL, "background.failed", work=name, again_in=pause, exc_info=error)
            metrics.safely(metrics.background_failed, name)
        await asyncio.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE)


async def contained(work: Callable[[], Awaitable[T]]) -> T:
    """Run work for a task: where it would end the process, it fails its caller instead.

    Raises:
        BackgroundFailure: It raised a `SystemExit` or a `KeyboardInterrupt`.

    """
    try:
        return await work()
    except (SystemExit, KeyboardInterrupt) as error:
        raise BackgroundFailure(f"{type(error).__name__}: {error}") from error
