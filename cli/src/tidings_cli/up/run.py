"""The running system, from start to stop.

Tests of a whole system use it as follows:

```python
async with running(root, Options(free_ports=True, run_dir=tmp_path, broker="redis")) as run:
    async with httpx2.AsyncClient(base_url=run.url("orders")) as orders:
        await orders.post("/orders", json=...)
    await run.kill("kitchen")             # SIGKILL; the supervisor restarts it
    await run.wait_ready("kitchen")
    async with run.stopped("loyalty"):    # stays stopped during the block
        ...
```
"""

import asyncio
import os
import signal
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2

from tidings.brokers.kafka import partitions_of
from tidings.brokers.watch import BrokerWatch, Observation
from tidings.errors import TidingsError
from tidings_cli.up import state
from tidings_cli.up.control import READY_TIMEOUT
from tidings_cli.up.errors import NotRunning, StartFailed
from tidings_cli.up.logs import LAST_LINES, tail
from tidings_cli.up.prepare import Prepared, prepared
from tidings_cli.up.probes import SidecarServes
from tidings_cli.up.process import BACKENDS, STOPPING, Process
from tidings_cli.up.state import Identity, Phase, ProcessState, RunState
from tidings_cli.up.supervisor import Reporter, Supervisor
from tidings_cli.up.system import Options, PlanRefused
from tidings_plan import Plan

MAX_OUTAGE = 100.0
"""Seconds without NATS after which a sidecar may have given up reconnecting for good (60 attempts, 2 s apart), although
it still reports itself as healthy."""
WATCH_INTERVAL = 2.0
"""Seconds between two checks of the broker's streams and consumers."""
LAG_INTERVAL = 10.0
"""Minimum number of seconds between two counts of the events that wait at the broker."""
STATE_INTERVAL = 0.05
"""Minimum number of seconds between two writes of the state file, since many changes come at once."""


class Quiet:
    """Reporter without output; the state and the log files have all information."""

    def line(self, process: Process, text: str) -> None:
        """Ignore the line."""

    def note(self, text: str, *, level: int = 1) -> None:
        """Ignore the note."""

    def changed(self) -> None:
        """Ignore the change."""


class Run:
    """A run of a prepared system."""

    def __init__(self, system: Prepared, report: Reporter) -> None:
        self._system, self._report = system, report
        self._began = time.monotonic()
        self._phase: Phase = "starting"
        self._ready_after: float | None = None
        self._changed = asyncio.Event()
        self._dirty = asyncio.Event()
        self._client = httpx2.AsyncClient(trust_env=False)
        folder = system.folder
        self._supervisors = {
            item.name: Supervisor(item, folder.log(item.name), folder.held / item.name, self._client, self)
            for item in system.processes
        }
        self._writer: asyncio.Task[None] | None = None
        self._outage_watcher: asyncio.Task[None] | None = None
        self._ending = asyncio.Event()
        self._watcher: asyncio.Task[None] | None = None
        self._broker_problem = ""
        self._broker_faults = 0
        self._latest_faults: deque[str] = deque(maxlen=10)
        self._broker_lag: Mapping[str, int] = {}
        self._unread_dead_letters: Mapping[str, int] = {}
        self._suspended = system.folder.suspended_names
        self._identity = Identity.of(os.getpid())

    @property
    def state(self) -> RunState:
        system = self._system
        if self._identity is None:  # cannot happen: it is the current process
            raise NotRunning("the operating system does not know this process")
        return RunState(
            project=system.system.home.project.name,
            root=str(system.system.home.root),
            supervisor=self._identity,
            phase=self._phase,
            broker=system.system.broker.kind.name,
            store=system.system.store.kind.name,
            url=system.url,
            ready_after=self._ready_after,
            broker_problem=self._broker_problem,
            broker_faults=self._broker_faults,
            latest_faults=tuple(self._latest_faults),
            broker_lag=self._broker_lag,
            unread_dead_letters=self._unread_dead_letters,
            dapr_api_token=system.dapr_api_token,
            app_api_token=system.app_api_token,
            processes=tuple(supervisor.state for supervisor in self._supervisors.values()),
        )

    @property
    def run_dir(self) -> Path:
        return self._system.folder.path

    @property
    def broker_url(self) -> str:
        return self._system.broker_url

    def find(self, name: str) -> ProcessState:
        """Return the state of a process; raise `NotRunning` for an unknown name."""
        return self.state.find(name)

    def url(self, name: str) -> str:
        """Return the URL of a service, a program or a sidecar (`orders.daprd`)."""
        return self.find(name).url

    def last_lines(self, name: str) -> list[str]:
        """Return the last lines of a process's log."""
        return list(tail(Path(self.find(name).log), LAST_LINES))

    async def start(self, deadline: float | None = None) -> None:
        """Start all processes and wait until they are ready.

        Args:
            deadline: Timeout in seconds. By default there is none for services, since a developer may be fixing them;
                broker and store always have `READY_TIMEOUT`.

        Raises:
            StartFailed: A process failed or was not ready in time. The others are still running: call `stop`.

        """
        self._began = time.monotonic()
        self._writer = asyncio.create_task(self._write_state())
        backends = [name for name, supervisor in self._supervisors.items() if supervisor.process.role in BACKENDS]
        await self._start(backends, READY_TIMEOUT)
        watch = self._broker_watch(self._system.system.plan)
        await watch.ensure()  # also updates the consumers of an earlier run with the current settings
        await self._start([name for name in self._supervisors if name not in backends], deadline)
        self._ready_after = time.monotonic() - self._began
        self._set_phase("ready")
        self._watcher = asyncio.create_task(self._watch_broker(watch))
        if "nats" in backends:
            self._outage_watcher = asyncio.create_task(self._watch_outages(self._supervisors["nats"]))

    async def _start(self, names: list[str], deadline: float | None) -> None:
        for name in names:
            self._supervisors[name].start()
        if names:
            await self.wait_ready(*names, deadline=deadline)

    async def wait_ready(self, *names: str, deadline: float | None = READY_TIMEOUT) -> None:
        """Wait until the named processes, or all of them, are ready.

        Raises:
            StartFailed: A process was not ready within `deadline` seconds or keeps failing. The message gives the
                problem and the last output of each.

        """
        waiting = [self._supervisor_of(name) for name in names or self._supervisors]
        end = None if deadline is None else time.monotonic() + deadline
        while late := [supervisor for supervisor in waiting if not supervisor.ready.is_set()]:
            self._changed.clear()
            failing = [supervisor for supervisor in late if supervisor.state.state == "failing"]
            if end is not None and (failing or time.monotonic() > end):
                raise StartFailed("\n".join(self._describe_problem(supervisor.state) for supervisor in failing or late))
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), 0.5)

    def _describe_problem(self, process: ProcessState) -> str:
        output = "".join(f"\n    {line}" for line in self.last_lines(process.name))
        problem = process.problem or process.last_exit or process.state
        return f"{process.name} is not ready ({process.state}): {problem}{'; last output:' if output else ''}{output}"

    async def stop(self) -> None:
        """Stop all processes in order: services (which drain), sidecars, programs, broker and store."""
        self._set_phase("stopping")
        if self._outage_watcher:
            self._outage_watcher.cancel()
            await asyncio.wait([self._outage_watcher])
        # Not cancelled: its check in another thread would continue while the broker stops.
        if self._watcher:
            self._ending.set()
            await asyncio.wait([self._watcher])
        for roles in STOPPING:
            await asyncio.gather(
                *(supervisor.stop() for supervisor in self._supervisors.values() if supervisor.process.role in roles)
            )
        self._set_phase("stopped")
        if self._writer:
            self._writer.cancel()
            await asyncio.wait([self._writer])
        state.write(self.run_dir, self.state)
        await self._client.aclose()

    def kill_all(self) -> None:
        """Kill all processes, so that `stop` returns quickly."""
        for supervisor in self._supervisors.values():
            supervisor.give_up()

    async def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a terminating signal to a process and wait for its end; the supervisor then restarts it."""
        supervisor = self._supervisor_of(name)
        before = supervisor.state.process
        supervisor.signal(number)
        while before is not None and supervisor.state.process == before:
            self._changed.clear()
            await self._changed.wait()

    async def restart(self, name: str, deadline: float = READY_TIMEOUT) -> None:
        """Restart a process gracefully, and wait until the new one is ready."""
        await self.kill(name, self._supervisor_of(name).process.stop_signal)
        await self.wait_ready(name, deadline=deadline)

    @asynccontextmanager
    async def stopped(self, name: str, number: signal.Signals = signal.SIGTERM) -> AsyncIterator[None]:
        """Keep a process stopped during the block; afterwards start it and wait until it is ready."""
        held = self._system.folder.held / name
        held.touch()
        try:
            await self.kill(name, number)
            yield
        finally:
            held.unlink(missing_ok=True)
            await self.wait_ready(name)

    async def _watch_outages(self, broker: Supervisor) -> None:
        """Restart all sidecars after an outage of the broker that may have left them without a connection."""
        last_ready = time.monotonic()
        while True:
            if broker.ready.is_set():
                outage = time.monotonic() - last_ready
                if outage > MAX_OUTAGE:
                    self.note(f"{broker.process.name} was down for {outage:.0f} s: restarting all sidecars", level=2)
                    self._restart_sidecars(lambda _app: True)
                last_ready = time.monotonic()
            await asyncio.sleep(1)

    def _broker_watch(self, planned: Plan) -> BrokerWatch:
        kind = self._system.system.broker.kind.name
        component: Mapping[str, Any] | None = None
        if kind in {"nats", "kafka"}:
            (component,) = self._system.pubsubs
        return BrokerWatch(
            kind=kind,
            url=self.broker_url,
            topics=planned.topics,
            subscriptions=[
                (app, subscription) for app, plan in planned.apps.items() for subscription in plan.subscriptions
            ],
            component=component,
            sidecars=1,
            partitions=partitions_of(component),
        )

    async def _watch_broker(self, watch: BrokerWatch) -> None:
        """Recreate what was lost, restart sidecars that read nothing although their service is ready, and count."""
        everything = self._system.system.suspending(()) if self._suspended else self._system.system
        counted, counting = 0.0, self._broker_watch(everything.plan)
        while not await self._ends_within(WATCH_INTERVAL):
            watch = self._suspend(watch)
            try:
                observed = await watch.look()
            except TidingsError as error:
                observed = Observation()
                self.note(f"the broker cannot be checked: {error}", level=1)
            self._repair(observed, watch.to_reopen(observed, self._serving()))
            if time.monotonic() - counted >= LAG_INTERVAL:
                await self._count(counting)  # suspended subscriptions have events that wait, too
                counted = time.monotonic()

    def _suspend(self, watch: BrokerWatch) -> BrokerWatch:
        """Suspend and resume subscriptions as the run folder has them; return the watch of those that are active."""
        names = self._system.folder.suspended_names
        if names == self._suspended:
            return watch
        self._suspended = names
        try:
            self._system = self._system.suspending(names)
        except PlanRefused as error:
            self.note(f"the suspended subscriptions stay as they are: {error}", level=2)
            return watch
        self.note(f"suspended subscriptions: {', '.join(sorted(names)) or 'none'}")
        active = self._system.system.subscriptions()
        for member in self._supervisors.values():
            if isinstance(member.process.ready, SidecarServes):
                ready = replace(member.process.ready, subscriptions=active.get(member.process.app, frozenset()))
                member.process = replace(member.process, ready=ready)
        changed = self._broker_watch(self._system.system.plan)
        changed.resume(watch)
        return changed

    async def _count(self, watch: BrokerWatch) -> None:
        """Update the number of events that wait for each app, and of dead letters that no app has read."""
        lag: Mapping[str, int] = {}
        unread: Mapping[str, int] = {}
        try:
            pending = await watch.pending()
            lag, unread = watch.lag(pending), await watch.unread_dead_letters(pending)
        except TidingsError as error:
            self.note(f"what waits at the broker cannot be counted: {error}", level=1)
        unread = {topic: count for topic, count in unread.items() if count}
        if (lag, unread) != (self._broker_lag, self._unread_dead_letters):
            self._broker_lag, self._unread_dead_letters = lag, unread
            self.changed()

    async def _ends_within(self, seconds: float) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._ending.wait()
        return self._ending.is_set()

    def _serving(self) -> set[str]:
        """Return the apps whose services and sidecars are all ready."""
        members = [member for member in self._supervisors.values() if member.process.role in ("service", "sidecar")]
        return {member.process.app for member in members} - {
            member.process.app for member in members if not member.ready.is_set()
        }

    def _repair(self, observed: Observation, apps: set[str]) -> None:
        faults = []
        if observed.lost:
            faults.append(f"the broker had lost {', '.join(observed.lost)}: recreated")
        if observed.gaps:
            faults.append(f"the broker has lost events of {', '.join(observed.gaps)} that had not been handled")
        if apps:
            faults.append(f"nothing or not all is read for {', '.join(sorted(apps))}: restarting their sidecars")
        for fault in faults:
            self.note(fault, level=2)
        self._latest_faults.extend(faults)
        self._restart_sidecars(apps.__contains__)
        problem = observed.of(self._serving() | apps).problem
        self._broker_faults += bool(observed.lost) + bool(observed.gaps) + len(apps)
        if problem != self._broker_problem or faults:
            self._broker_problem = problem
            self.changed()

    def _restart_sidecars(self, selected: Callable[[str], bool]) -> None:
        for supervisor in self._supervisors.values():
            if supervisor.process.role == "sidecar" and selected(supervisor.process.app):
                supervisor.signal(supervisor.process.stop_signal)

    def _supervisor_of(self, name: str) -> Supervisor:
        self.state.find(name)
        return self._supervisors[name]

    def _set_phase(self, phase: Phase) -> None:
        self._phase = phase
        self.changed()

    async def _write_state(self) -> None:
        while True:
            state.write(self.run_dir, self.state)
            self._dirty.clear()
            await self._dirty.wait()
            await asyncio.sleep(STATE_INTERVAL)

    def line(self, process: Process, text: str) -> None:
        """Report a line of a process."""
        self._report.line(process, text)

    def note(self, text: str, *, level: int = 1) -> None:
        """Report an event of the run."""
        self._report.note(text, level=level)

    def changed(self) -> None:
        """Notify waiting tasks of a change, and schedule a write of the state."""
        self._changed.set()
        self._dirty.set()
        self._report.changed()


@asynccontextmanager
async def running(root: Path, options: Options | None = None, *, deadline: float = READY_TIMEOUT) -> AsyncIterator[Run]:
    """Start the project in `root`, wait until it is ready, and stop it at the end of the context.

    The thread of the event loop must outlive the run: Linux kills the processes with the thread that started them.

    Raises:
        StartFailed: A process was not ready within `deadline` seconds; all have been stopped.
        UpError: As raised by `tidings_cli.up.prepare.prepared`.

    """
    reporter = Quiet()
    with ExitStack() as stack:
        # In a thread, since building a missing program takes minutes and must not block the caller's loop.
        ready_to_start = await asyncio.to_thread(stack.enter_context, prepared(root, options or Options(), reporter))
        run = Run(ready_to_start, reporter)
        try:
            await run.start(deadline)
            yield run
        finally:
            await run.stop()
