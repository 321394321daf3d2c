"""Supervision of one process: start, readiness, restart after a crash, stop."""

import asyncio
import os
import signal
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Protocol

import httpx2

from tidings_cli.up import launch
from tidings_cli.up.logs import LogFile, parse_line
from tidings_cli.up.probes import problem
from tidings_cli.up.process import Process
from tidings_cli.up.state import Condition, Identity, ProcessState

FAST = 10.0
"""Seconds; an earlier exit after the start counts as a fast one."""
FAILURE_THRESHOLD = 5
"""Consecutive fast exits after which a process counts as failing."""
FIRST_PAUSE, MAX_PAUSE = 0.2, 15.0
PROBE_EVERY = 0.25
HELD_EVERY = 0.2
PIPE_GRACE = 1.0
"""Seconds to wait for remaining output after the end of a process, whose children may keep the pipe open."""
LINE_LIMIT = 1 << 20


class Reporter(Protocol):
    """Receiver of log lines and events of the run."""

    def line(self, process: Process, text: str) -> None:
        """Report a line written by a process."""

    def note(self, text: str, *, level: int = 1) -> None:
        """Report an event of the run; levels as in `tidings_cli.up.logs`."""

    def changed(self) -> None:
        """Report a changed state of a process."""


def pause(fast_exits: int) -> float:
    """Return the seconds before the next start, doubled with each consecutive fast exit."""
    return min(FIRST_PAUSE * 2.0 ** max(fast_exits - 1, 0), MAX_PAUSE)


def describe_exit(code: int) -> str:
    """Describe an exit code."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


class Supervisor:
    """Supervisor of one process, which is restarted until `stop`."""

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
        self._fast_exits = 0
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
        return self._fast_exits >= FAILURE_THRESHOLD

    def start(self) -> None:
        """Start supervision."""
        self._task = asyncio.create_task(self._keep_alive(), name=self.process.name)

    async def stop(self) -> None:
        """Stop the process, kill it after its grace period, and wait for its end."""
        self._stopping.set()
        self.ready.clear()
        if self._child and self._child.returncode is None:
            self._set_condition("stopping")
            self.signal(self.process.stop_signal)
        if self._task:
            _, pending = await asyncio.wait([self._task], timeout=self.process.grace)
            if pending:
                self._report.note(
                    f"{self.process.name} did not stop within {self.process.grace:g} s: killing it", level=2
                )
                self.kill()
            await self._task

    def kill(self) -> None:
        """Kill the process and its children."""
        self.signal(signal.SIGKILL)

    def give_up(self) -> None:
        """Kill the process and do not restart it."""
        self._stopping.set()
        self.kill()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process; SIGKILL also to its children."""
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
                    self._set_condition("held")
                    await self._unless_stopping(HELD_EVERY)
                    continue
                await self._run_process(log)
                if not self._stopping.is_set():
                    await self._unless_stopping(self._report_exit(log))
        finally:
            log.close()
            self._set_condition("stopped")

    async def _run_process(self, log: LogFile) -> None:
        log.forget_last_lines()
        self._set_condition("failing" if self._is_failing else "starting")
        started = time.monotonic()
        try:
            child, output = await self._spawn()
        except OSError as error:  # missing folder or account, too many processes, …
            log.write(f"cannot be started: {error}\n".encode())
            self._record_exit(f"cannot be started: {error.strerror}", started)
            return
        self._child, self._identity = child, Identity.of(child.pid)
        self._report.changed()
        if self._stopping.is_set():  # stop was requested during the start
            self.signal(self.process.stop_signal)
        reading = asyncio.create_task(self._read(output, log))
        probing = asyncio.create_task(self._probe())
        try:
            code = await child.wait()
        finally:
            probing.cancel()
            with suppress(ProcessLookupError, PermissionError):  # remaining processes of the group
                os.killpg(child.pid, signal.SIGKILL)
        await asyncio.wait([probing])
        await asyncio.wait([reading], timeout=PIPE_GRACE)
        reading.cancel()
        self._record_exit(describe_exit(code), started)

    def _record_exit(self, description: str, started: float) -> None:
        self.ready.clear()
        self._identity = None
        self._last_exit = description
        self._fast_exits = self._fast_exits + 1 if time.monotonic() - started < FAST else 0

    async def _spawn(self) -> tuple[asyncio.subprocess.Process, int]:
        """Start the process; return it with the reading end of its output pipe."""
        # With a pipe made by asyncio, `wait` also waits for the end of the pipe, which children of the process may keep
        # open.
        output, into = os.pipe()
        try:
            child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", launch.__file__, str(os.getpid())),
                self.process.user or launch.CURRENT_USER,
                *self.process.argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=into,
                stderr=into,
                cwd=self.process.cwd,
                env={**os.environ, **self.process.env},
                start_new_session=True,  # Ctrl-C must reach `tidings up` only, which stops the processes in order
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
            self._set_condition("ready")

    def _report_exit(self, log: LogFile) -> float:
        """Report an exit; return the seconds to wait before the next start."""
        name = self.process.name
        if self._held.exists():
            self._report.note(f"{name} is stopped ({self._last_exit}); start it with `tidings start {name}`")
            return 0
        self._restarts += 1
        wait = pause(self._fast_exits)
        failing = self._is_failing
        self._set_condition("failing" if failing else "restarting")
        lines = "".join(f"\n    {parse_line(line).text}" for line in log.last())
        output = f"; last output:{lines}" if lines else "; no output"
        self._report.note(f"{name} died: {self._last_exit}{output}", level=3)
        restart = f"restarting in {wait:.1f} s"
        if failing:
            restart = f"died {self._fast_exits} times in a row right after its start: fix it; {restart}"
        self._report.note(f"{name}: {restart}", level=3 if failing else 2)
        return wait

    async def _unless_stopping(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    def _set_condition(self, condition: Condition) -> None:
        if condition != self._condition:
            self._condition = condition
            self._report.changed()


async def _line(stream: asyncio.StreamReader) -> bytes:
    """Read a line; one longer than the limit is split."""
    try:
        return await stream.readuntil()
    except asyncio.IncompleteReadError as error:
        return error.partial
    except asyncio.LimitOverrunError as error:
        return await stream.readexactly(error.consumed)
