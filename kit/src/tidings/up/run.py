"""The system as a whole, from start to stop.

Tests of a whole system use it like this:

```python
async with running(root, Options(free_ports=True, run_dir=tmp_path, broker="redis")) as run:
    async with httpx2.AsyncClient(base_url=run.url("orders")) as orders:
        await orders.post("/orders", json=...)
    await run.kill("kitchen")             # SIGKILL; it is started again
    await run.wait_ready("kitchen")
    async with run.stopped("loyalty"):    # stays away as long as the block lasts
        ...
```
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path

import httpx2

from tidings.brokerwatch import BrokerWatch, Found
from tidings.errors import TidingsError
from tidings.queues import ensure_queues
from tidings.streams import ensure_streams
from tidings.up import state
from tidings.up.errors import NotRunning, StartFailed
from tidings.up.logs import LAST_LINES, tail
from tidings.up.prepare import Prepared, prepared
from tidings.up.process import BACKENDS, STOPPING, Process
from tidings.up.state import Identity, Phase, ProcessState, RunState
from tidings.up.supervisor import Reporter, Supervisor
from tidings.up.system import Options

BACKEND_DEADLINE = 30.0
"""Seconds that the broker and the store are given; nothing can start without them."""
GIVEN_UP = 100.0
"""Seconds without NATS after which a sidecar may have given its connection up for good (after 60 attempts, 2 s apart)
while it still calls itself healthy."""
WATCH = 2.0
"""Seconds between two looks at what the broker has."""
STATE_EVERY = 0.05
"""Seconds between two writings of the state file at most: many changes come at once."""


class Quiet:
    """Reports nothing: what happens is in the run's state and its log files."""

    def line(self, process: Process, text: str) -> None:
        """Leave it to the log file."""

    def note(self, text: str, *, level: int = 1) -> None:
        """Leave it."""

    def changed(self) -> None:
        """Leave it."""


class Run:
    """A prepared system: started with `start`, ended with `stop`."""

    def __init__(self, system: Prepared, report: Reporter) -> None:
        self._system, self._report = system, report
        self._began = time.monotonic()
        self._phase: Phase = "starting"
        self._ready_after: float | None = None
        self._changed = asyncio.Event()
        self._dirty = asyncio.Event()
        self._client = httpx2.AsyncClient(trust_env=False)
        self._supervisors = {each.name: self._supervisor(each) for each in system.processes}
        self._writer: asyncio.Task[None] | None = None
        self._minder: asyncio.Task[None] | None = None
        self._ending = asyncio.Event()
        self._watcher: asyncio.Task[None] | None = None
        self._broker_problem = ""
        self._broker_repairs = 0
        self._identity = Identity.of(os.getpid())

    @property
    def state(self) -> RunState:
        system = self._system
        if self._identity is None:  # cannot be: it is this very process
            raise NotRunning("this process is not known to the operating system")
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
            broker_repairs=self._broker_repairs,
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
        """State of one process; raises `NotRunning` for an unknown name."""
        return self.state.find(name)

    def url(self, name: str) -> str:
        """HTTP address of a service, a program or (`orders.daprd`) a sidecar."""
        return self.find(name).url

    def last_lines(self, name: str, lines: int = LAST_LINES) -> list[str]:
        """The end of a process's log."""
        return list(tail(Path(self.find(name).log), lines))

    async def start(self, deadline: float | None = None) -> None:
        """Start everything and wait until it is ready.

        `deadline` is in seconds; without one, services are waited for as long as it takes (somebody may be mending
        them), the broker and the store for 30 s.

        Raises:
            StartFailed: not ready in time or failing; what had started is still running: call `stop`.

        """
        self._began = time.monotonic()
        self._writer = asyncio.create_task(self._write_state())
        backends = [name for name, each in self._supervisors.items() if each.process.role in BACKENDS]
        await self._start(backends, BACKEND_DEADLINE)
        if self._system.system.broker.kind.name == "nats":
            (component,) = self._system.pubsubs  # consumers of an earlier run are given its present settings
            await ensure_streams(self.broker_url, self._system.system.plan.topics, component=component)
        if self._system.system.broker.kind.name == "rabbitmq":
            apps = self._system.system.plan.apps
            planned = [(app, each) for app, plan in apps.items() for each in plan.subscriptions]
            await asyncio.to_thread(ensure_queues, self.broker_url, planned)
        await self._start([name for name in self._supervisors if name not in backends], deadline)
        self._ready_after = time.monotonic() - self._began
        self._become("ready")
        self._watcher = asyncio.create_task(self._watch_broker())
        if "nats" in backends:
            self._minder = asyncio.create_task(self._mind_outages(self._supervisors["nats"]))

    async def _start(self, names: list[str], deadline: float | None) -> None:
        for name in names:
            self._supervisors[name].start()
        if names:
            await self.wait_ready(*names, deadline=deadline)

    async def wait_ready(self, *names: str, deadline: float | None = 60.0) -> None:
        """Wait until these processes (without names: all) are ready.

        Raises:
            StartFailed: not within `deadline` seconds, or one dies again and again; names them, what is wrong and what
                they said last.

        """
        waiting = [self._one(name) for name in names or self._supervisors]
        end = None if deadline is None else time.monotonic() + deadline
        while late := [each for each in waiting if not each.ready.is_set()]:
            self._changed.clear()
            failing = [each for each in late if each.state.state == "failing"]
            if end is not None and (failing or time.monotonic() > end):
                raise StartFailed("\n".join(self._complaint(each.state) for each in failing or late))
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), 0.5)

    def _complaint(self, each: ProcessState) -> str:
        last = "".join(f"\n    {line}" for line in self.last_lines(each.name))
        why = each.problem or each.last_exit or each.state
        return f"{each.name} is not ready ({each.state}): {why}{'; it said last:' if last else ''}{last}"

    async def stop(self) -> None:
        """Stop everything in order: services drain, then sidecars, then programs, then the broker and the store."""
        self._become("stopping")
        if self._minder:
            self._minder.cancel()
            await asyncio.wait([self._minder])
        if self._watcher:  # not cancelled: its look in another thread would go on, while the broker is stopped
            self._ending.set()
            await asyncio.wait([self._watcher])
        for roles in STOPPING:
            await asyncio.gather(*(each.stop() for each in self._supervisors.values() if each.process.role in roles))
        self._become("stopped")
        if self._writer:
            self._writer.cancel()
            await asyncio.wait([self._writer])
        state.write(self.run_dir, self.state)
        await self._client.aclose()

    def kill_all(self) -> None:
        """End everything at once; `stop` then has nothing left to wait for."""
        for supervisor in self._supervisors.values():
            supervisor.give_up()

    async def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a process a signal that ends it, and wait until it is gone; it is then started again."""
        supervisor = self._one(name)
        before = supervisor.state.process
        supervisor.signal(number)
        while before is not None and supervisor.state.process == before:
            self._changed.clear()
            await self._changed.wait()

    async def restart(self, name: str, deadline: float = 60.0) -> None:
        """Stop a process as an ordinary stop would, and wait until its successor is ready."""
        await self.kill(name, self._one(name).process.stop_signal)
        await self.wait_ready(name, deadline=deadline)

    @asynccontextmanager
    async def stopped(self, name: str, number: signal.Signals = signal.SIGTERM) -> AsyncIterator[None]:
        """Keep a process away as long as the block lasts; afterwards it is started and waited for."""
        held = self._system.folder.held / name
        held.touch()
        try:
            await self.kill(name, number)
            yield
        finally:
            held.unlink(missing_ok=True)
            await self.wait_ready(name)

    async def _mind_outages(self, broker: Supervisor) -> None:
        """Start every sidecar anew that a long outage of the broker may have left without a connection."""
        last_ready = time.monotonic()
        while True:
            if broker.ready.is_set():
                away = time.monotonic() - last_ready
                if away > GIVEN_UP:
                    self.note(f"{broker.process.name} was away for {away:.0f} s: sidecars are started anew", level=2)
                    for each in self._supervisors.values():
                        if each.process.role == "sidecar":
                            each.signal(each.process.stop_signal)
                last_ready = time.monotonic()
            await asyncio.sleep(1)

    async def _watch_broker(self) -> None:
        """Recreate what the broker has lost, and restart sidecars that read nothing although their service is ready."""
        system = self._system
        planned = system.system.plan
        watch = BrokerWatch(
            kind=system.system.broker.kind.name,
            url=self.broker_url,
            topics=planned.topics,
            subscriptions=[(app, each) for app, found in planned.apps.items() for each in found.subscriptions],
            component=system.pubsubs[0],
        )
        while not await self._ends_within(WATCH):
            try:
                found = await watch.look()
            except TidingsError as error:
                found = Found()
                self.note(f"the broker cannot be looked after: {error}", level=1)
            self._repair(found, watch.to_reopen(found, self._serving()))

    async def _ends_within(self, seconds: float) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._ending.wait()
        return self._ending.is_set()

    def _serving(self) -> set[str]:
        """The apps of which every service and sidecar is ready."""
        pairs = [each for each in self._supervisors.values() if each.process.role in ("service", "sidecar")]
        return {each.process.app for each in pairs} - {each.process.app for each in pairs if not each.ready.is_set()}

    def _repair(self, found: Found, apps: set[str]) -> None:
        if found.lost:
            self.note(f"the broker has lost {', '.join(found.lost)}: recreated", level=2)
        if apps:
            self.note(f"nothing is read for {', '.join(sorted(apps))}: sidecars are restarted", level=2)
        for each in self._supervisors.values():
            if each.process.role == "sidecar" and each.process.app in apps:
                each.signal(each.process.stop_signal)
        serving = self._serving()
        problem = Found(found.lost, tuple(each for each in found.unread if each[0] in serving | apps)).problem
        self._broker_repairs += bool(found.lost) + len(apps)
        if problem != self._broker_problem or found.lost or apps:
            self._broker_problem = problem
            self.changed()

    def _supervisor(self, process: Process) -> Supervisor:
        folder = self._system.folder
        return Supervisor(process, folder.log(process.name), folder.held / process.name, self._client, self)

    def _one(self, name: str) -> Supervisor:
        self.state.find(name)
        return self._supervisors[name]

    def _become(self, phase: Phase) -> None:
        self._phase = phase
        self.changed()

    async def _write_state(self) -> None:
        while True:
            state.write(self.run_dir, self.state)
            self._dirty.clear()
            await self._dirty.wait()
            await asyncio.sleep(STATE_EVERY)

    def line(self, process: Process, text: str) -> None:
        """Pass on what a process wrote."""
        self._report.line(process, text)

    def note(self, text: str, *, level: int = 1) -> None:
        """Pass on what happened."""
        self._report.note(text, level=level)

    def changed(self) -> None:
        """Wake whoever waits for a change, and have the state written."""
        self._changed.set()
        self._dirty.set()
        self._report.changed()


@asynccontextmanager
async def running(
    root: Path, options: Options | None = None, *, report: Reporter | None = None, deadline: float = 90.0
) -> AsyncIterator[Run]:
    """Start the project in `root`, wait until it is ready, and stop it at the end.

    The thread that runs the event loop must outlive the run: Linux ends the processes with the thread that began them.

    Raises:
        StartFailed: not ready within `deadline` seconds; everything has been stopped.
        UpError: see `tidings.up.prepare.prepared`.

    """
    told = report or Quiet()
    with ExitStack() as stack:
        # In a thread: a program that must be built first takes minutes, and the caller's loop goes on.
        ready_to_start = await asyncio.to_thread(stack.enter_context, prepared(root, options or Options(), told))
        run = Run(ready_to_start, told)
        try:
            await run.start(deadline)
            yield run
        finally:
            await run.stop()
