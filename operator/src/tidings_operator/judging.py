"""Evaluate tenants' input in short-lived forks of this process, with limits on CPU time and memory.

A fork has the complete state of the operator: nothing needs to be transferred, and its changes to the inventory are
isolated. Input that harms the evaluating code (endless loops, recursion, memory, a crash within a C++ library) ends the
fork, which is the result for that object. docs/decisions/0009 explains why threads do not suffice.
"""

import asyncio
import faulthandler
import gc
import logging
import os
import pickle
import resource
import signal
import struct
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

LOG = logging.getLogger(__name__)
QUICK, THOROUGH, ALONE = 0.05, 1.0, 0.25
"""Seconds of CPU time for a first attempt, for one while nothing else waits, and for one subscription alone: an app of
ten takes 0.005."""
STUCK = 60.0
"""Seconds after which a fork that neither responds nor uses CPU time is killed: far more than a busy machine needs."""
MEMORY = 96 * 1024 * 1024
"""Bytes that a fork may allocate in addition; they count towards the pod's limit."""
BATCH = 16
"""Evaluations per fork, sequentially."""
LONGEST = 500
"""Maximum characters of an error message."""
_LENGTH = struct.Struct("!I")

T = TypeVar("T")


class JudgementError(Exception):
    """An object could not be evaluated: the code raised an exception, or the fork ended."""


class TooLongError(JudgementError):
    """The evaluation exceeded its CPU time."""


@dataclass(slots=True)
class _Job:
    work: Callable[[], Any]
    seconds: float
    answer: asyncio.Future[Any] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def settle(self, result: Any = None, error: Exception | None = None) -> None:
        if self.answer.done():
            return  # the caller has been cancelled
        if error:
            self.answer.set_exception(error)
        else:
            self.answer.set_result(result)


class Judge:
    """Runs pure functions in forks. Concurrent requests of one lane share a fork; each lane has one fork at a time.

    Quick requests have a lane of their own: in a fork with a slow one they would wait for it, at its low priority.

    Args:
        niceness: Added to the niceness of forks for requests that are not quick. 0 suits requests that a client waits
            for: on a busy node, a nice process gets hardly any CPU time.

    """

    def __init__(self, niceness: int = 10) -> None:
        self._niceness = niceness
        self._lanes: dict[bool, deque[_Job]] = {True: deque(), False: deque()}
        self._tasks: dict[bool, asyncio.Task[None]] = {}

    async def __call__(self, work: Callable[[], T], seconds: float = THOROUGH) -> T:
        """Return the result of `work` for the state at its start; raise JudgementError on failure."""
        job, is_quick = _Job(work, seconds), seconds <= QUICK
        lane = self._lanes[is_quick]
        lane.append(job)
        if is_quick not in self._tasks or self._tasks[is_quick].done():
            self._tasks[is_quick] = asyncio.create_task(self._work(lane))
        result: T = await job.answer
        return result

    async def _work(self, lane: deque[_Job]) -> None:
        await asyncio.sleep(0)  # include callers that are about to wait
        while lane:
            batch = [lane.popleft() for _ in range(min(BATCH, len(lane)))]
            batch = [job for job in batch if not job.answer.done()]
            done = 0
            try:
                done = await _judge(batch, self._niceness) if batch else 0
            except Exception as error:  # noqa: BLE001 - such as a process limit: passed on to the callers
                done = 1
                batch[0].settle(error=JudgementError(f"no copy of the operator could be made: {error}"))
            lane.extendleft(reversed(batch[done:]))


async def _judge(batch: list[_Job], niceness: int) -> int:
    """Evaluate a batch in a fork; return the number of results. Items after one that ended the fork have none."""
    read_end, theirs = os.pipe()
    try:
        pid = os.fork()
    except OSError:
        os.close(read_end)
        os.close(theirs)
        raise
    if pid == 0:
        _copy(theirs, batch, niceness)
    os.close(theirs)
    reader = asyncio.StreamReader()
    status = None
    try:
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read_end, "rb", buffering=0)
        )
        try:
            for number, job in enumerate(batch):
                try:
                    async with asyncio.timeout(STUCK):
                        (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
                        body = await reader.readexactly(length)
                except (asyncio.IncompleteReadError, TimeoutError):
                    status = _end(pid)
                    job.settle(error=_why(status, job.seconds))
                    return number + 1
                is_answer, result = pickle.loads(body)  # noqa: S301 - from a copy of this very process
                job.settle(result) if is_answer else job.settle(error=JudgementError(result))
            return len(batch)
        finally:
            transport.close()
    finally:
        if status is None:
            _end(pid)


def _copy(out: int, batch: list[_Job], niceness: int) -> None:
    """Evaluate in the fork, which has no event loop, handles no signals, and never returns."""
    try:
        gc.disable()  # a collection would touch, and thereby copy, all pages
        faulthandler.disable()
        signal.set_wakeup_fd(-1)
        for signum in (signal.SIGPROF, signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
            signal.signal(signum, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, STUCK * len(batch))  # if the operator has ended
        _bound_memory()
        if max(job.seconds for job in batch) > QUICK:
            os.nice(niceness)
        for job in batch:
            signal.setitimer(signal.ITIMER_PROF, job.seconds)
            body = _answer(job.work)
            signal.setitimer(signal.ITIMER_PROF, 0)
            with open(out, "wb", closefd=False) as pipe:
                pipe.write(_LENGTH.pack(len(body)) + body)
    finally:
        os._exit(0)


def _answer(work: Callable[[], Any]) -> bytes:
    try:
        return pickle.dumps((True, work()), protocol=pickle.HIGHEST_PROTOCOL)
    except Exception as error:  # noqa: BLE001 - any exception is a result of the evaluation
        return pickle.dumps((False, f"{type(error).__name__}: {error}"[:LONGEST]))


def _bound_memory() -> None:
    """Limit the memory of this fork only, without core files."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError, ValueError):  # other systems than Linux have no /proc, and not this limit
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - not worth a Path
            most = int(file.read().split()[0]) * resource.getpagesize() + MEMORY
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (most if hard < 0 else min(most, hard), hard))


def _end(pid: int) -> int:
    """End a fork if it is running, and return its exit status."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    return status


def _why(status: int, seconds: float) -> JudgementError:
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGPROF:
        return TooLongError(f"it takes more than {seconds:g} s of CPU time")
    ended = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"exit code {os.WEXITSTATUS(status)}"
    return JudgementError(f"judging it ends the process ({ended})")
