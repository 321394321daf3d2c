"""Keeps one process alive: start, wait until it is ready, start again when it dies, stop."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Protocol

import httpx2

from tidings.up import launch
from tidings.up.logs import LogFile, understand
from tidings.up.probes import problem
from tidings.up.process import Process
from tidings.up.state import Condition, Identity, ProcessState

FAST = 10.0
"""Seconds: a process that dies sooner after its start has died fast."""
GIVE_WARNING = 5
"""Fast deaths in a row after which a process counts as failing."""
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 15.0
PROBE_EVERY = 0.25
HELD_EVERY = 0.2
PIPE_GRACE = 1.0
"""Seconds that output of a dead process's children is waited for."""
LINE_LIMIT = 1 << 20


class Reporter(Protocol):
    """Who is told what happens."""

    def line(self, process: Process, text: str) -> None:
        """A process wrote a line."""

    def note(self, text: str, *, level: int = 1) -> None:
        """The local run itself has something to say; levels as in `tidings.up.logs`."""

    def changed(self) -> None:
        """The state of a process changed."""


def pause(fast_deaths: int) -> float:
    """Seconds to wait before the next start, doubling with each fast death in a row."""
    return min(FIRST_PAUSE * 2.0 ** max(fast_deaths - 1, 0), LONGEST_PAUSE)


def describe_exit(code: int) -> str:
    """An exit code as people say it."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


class Supervisor:
    """One process, kept alive until `stop`."""

    def __init__(self, process: Process, log: Path, held: Path, client: httpx2.AsyncClient, report: Reporter) -> None:
        self.process = process
        self.ready = asyncio.Event()
        self._log_path, self._held, self._client, self._report = log, held, client, report
        self._condition: Condition = "waiting"
        self._child: asyncio.subprocess.Process | None = None
        self._identity: Identity | None = None
        self._problem = ""
        self._last_exit = ""
        self._restarts = 0
        self._fast_deaths = 0
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def state(self) -> ProcessState:
        return ProcessState(
            name=self.process.name,
            role=self.process.role,
            app=self.process.app,
            state=self._condition,
            process=self._identity,
            ports=self.process.ports,
            restarts=self._restarts,
            last_exit=self._last_exit,
            problem=self._problem,
            log=str(self._log_path),
            stop_signal=self.process.stop_signal,
        )

    @property
    def _is_failing(self) -> bool:
        return self._fast_deaths >= GIVE_WARNING

    def start(self) -> None:
        """Begin to keep it alive."""
        self._task = asyncio.create_task(self._keep_alive(), name=self.process.name)

    async def stop(self) -> None:
        """Ask it to end, wait as long as its grace, then kill it; returns once it is gone."""
        self._stopping.set()
        self.ready.clear()
        if self._child and self._child.returncode is None:
            self._become("stopping")
            self.signal(self.process.stop_signal)
        if self._task:
            _, late = await asyncio.wait([self._task], timeout=self.process.grace)
            if late:
                self._report.note(f"{self.process.name} did not stop within {self.process.grace:g} s: killed", level=2)
                self.kill()
            await self._task

    def kill(self) -> None:
        """End it and all its children at once."""
        self.signal(signal.SIGKILL)

    def give_up(self) -> None:
        """End it at once and do not start it again."""
        self._stopping.set()
        self.kill()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal; SIGKILL goes to its children too."""
        if self._child is None or self._child.returncode is not None:
            return
        with suppress(ProcessLookupError):
            if number == signal.SIGKILL:
                os.killpg(self._child.pid, number)
            else:
                self._child.send_signal(number)

    async def _keep_alive(self) -> None:
        log = LogFile(self._log_path)
        try:
            while not self._stopping.is_set():
                if self._held.exists():
                    self._become("held")
                    await self._unless_stopping(HELD_EVERY)
                    continue
                await self._one_life(log)
                if not self._stopping.is_set():
                    await self._unless_stopping(self._mourn(log))
        finally:
            log.close()
            self._become("stopped")

    async def _one_life(self, log: LogFile) -> None:
        log.begin()
        self._become("failing" if self._is_failing else "starting")
        began = time.monotonic()
        try:
            child, output = await self._spawn()
        except OSError as error:  # no such folder or account, too many processes, …
            log.write(f"cannot be started: {error}\n".encode())
            self._ended(f"cannot be started: {error.strerror}", began)
            return
        self._child, self._identity = child, Identity.of(child.pid)
        self._report.changed()
        if self._stopping.is_set():  # the request to stop came while it was being started
            self.signal(self.process.stop_signal)
        reading = asyncio.create_task(self._read(output, log))
        probing = asyncio.create_task(self._probe())
        try:
            code = await child.wait()
        finally:
            probing.cancel()
            _kill_group(child.pid)
        await asyncio.wait([probing])
        await asyncio.wait([reading], timeout=PIPE_GRACE)
        reading.cancel()
        self._ended(describe_exit(code), began)

    def _ended(self, how: str, began: float) -> None:
        self.ready.clear()
        self._identity = None
        self._last_exit = how
        self._fast_deaths = self._fast_deaths + 1 if time.monotonic() - began < FAST else 0

    async def _spawn(self) -> tuple[asyncio.subprocess.Process, int]:
        """Start the process; its output is read from the pipe that is returned.

        The pipe is our own: of one that asyncio makes, it waits for the end, which a child of the process may put off.
        """
        output, into = os.pipe()
        try:
            child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", launch.__file__, str(os.getpid())),
                self.process.user or launch.NOBODY_ELSE,
                *self.process.argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=into,
                stderr=into,
                cwd=self.process.cwd,
                env={**os.environ, **self.process.env},
                start_new_session=True,  # Ctrl-C reaches us alone: we stop the others in order
            )
        except OSError:
            os.close(output)
            raise
        finally:
            os.close(into)
        return child, output

    async def _read(self, output: int, log: LogFile) -> None:
        stream = asyncio.StreamReader(limit=LINE_LIMIT)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(output, "rb", buffering=0)
        )
        with closing(transport):
            while line := await _line(stream):
                self._report.line(self.process, log.write(line))

    async def _probe(self) -> None:
        while True:
            self._problem = await problem(self.process.ready, self._client)
            if not self._problem:
                break
            await asyncio.sleep(PROBE_EVERY)
        if not self._stopping.is_set():
            self.ready.set()
            self._become("ready")

    def _mourn(self, log: LogFile) -> float:
        """Tell of a death; seconds to wait before the next start."""
        name = self.process.name
        if self._held.exists():
            self._report.note(f"{name} is stopped ({self._last_exit}); `tidings start {name}` starts it again")
            return 0
        self._restarts += 1
        wait = pause(self._fast_deaths)
        failing = self._is_failing
        self._become("failing" if failing else "restarting")
        last = "".join(f"\n    {understand(line).text}" for line in log.last())
        said = f"; it said last:{last}" if last else "; it said nothing"
        self._report.note(f"{name} died: {self._last_exit}{said}", level=3)
        again = f"it is started again in {wait:.1f} s"
        if failing:
            again = f"it has died {self._fast_deaths} times in a row right after its start: mend it; {again}"
        self._report.note(f"{name}: {again}", level=3 if failing else 2)
        return wait

    async def _unless_stopping(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    def _become(self, condition: Condition) -> None:
        if condition != self._condition:
            self._condition = condition
            self._report.changed()


async def _line(stream: asyncio.StreamReader) -> bytes:
    """The next line; one longer than the limit comes in pieces."""
    try:
        return await stream.readuntil()
    except asyncio.IncompleteReadError as error:
        return error.partial
    except asyncio.LimitOverrunError as error:
        return await stream.readexactly(error.consumed)


def _kill_group(leader: int) -> None:
    """End whatever a dead process has left in its own process group."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)
