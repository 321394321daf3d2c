"""State of a run: `state.json` in the run folder, replaced atomically on each change.

Readers are `tidings ps`, `restart`, `stop` and `down`, system tests and the chaos suite.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec
import psutil

from tidings.messages.envelope import UNREADABLE
from tidings_cli.up.errors import NotRunning
from tidings_cli.up.files import write_private

FILE_NAME = "state.json"
START_TOLERANCE = 1.0
"""Tolerance in seconds for start times of a process: the kernel counts them in ticks since boot."""

Phase = Literal["starting", "ready", "stopping", "stopped"]
Condition = Literal["waiting", "starting", "ready", "restarting", "failing", "held", "stopping", "stopped"]
"""`failing`: exits repeatedly soon after its start, restarted with long pauses; `held`: stopped with `tidings stop`."""
Role = Literal["broker", "store", "program", "service", "sidecar"]


class Identity(msgspec.Struct, frozen=True):
    """Identity of an operating-system process; the start time distinguishes it from a later one with the same pid."""

    pid: int
    started: float
    """Seconds since the epoch."""

    @classmethod
    def of(cls, pid: int) -> Identity | None:
        """Return the identity of a running process; None if it does not exist."""
        try:
            return cls(pid, psutil.Process(pid).create_time())
        except psutil.NoSuchProcess:
            return None

    @property
    def alive(self) -> bool:
        now = Identity.of(self.pid)
        if now is None or abs(now.started - self.started) > START_TOLERANCE:
            return False
        try:
            return psutil.Process(self.pid).status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False


class ProcessState(msgspec.Struct, frozen=True, kw_only=True):
    """State of one process of the system."""

    name: str
    """`orders`, its second replica `orders-1`, its sidecar `orders.daprd`; `nats`, `redis`; a program's name."""
    role: Role
    app: str
    """Dapr app id of services and sidecars, else the name."""
    state: Condition
    process: Identity | None = None
    ports: Mapping[str, int] = {}
    """Ports by name: `app` of services and programs; `http`, `grpc`, `internal` of sidecars; `metrics` of both."""
    restarts: int = 0
    last_exit: str = ""
    """Description of the last exit, such as `killed by SIGKILL` or `exit code 1`."""
    problem: str = ""
    """Why the process is not ready."""
    log: str = ""
    stop_signal: int = signal.SIGTERM
    """Signal for a graceful stop."""

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process else None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports.get('app') or self.ports['http']}"


class RunState(msgspec.Struct, frozen=True, kw_only=True):
    """State of a run."""

    project: str
    root: str
    supervisor: Identity
    phase: Phase
    broker: str
    store: str
    url: str = ""
    """URL to open in a browser, or empty."""
    ready_after: float | None = None
    """Seconds from the start until all processes were ready for the first time."""
    broker_problem: str = ""
    """Lost streams or queues, and consumers without a reading sidecar; empty if there is no problem."""
    broker_faults: int = 0
    """Number of losses of events at the broker, and of sidecars restarted because they read nothing."""
    latest_faults: tuple[str, ...] = ()
    """Descriptions of these faults, the latest last: at most ten."""
    broker_lag: Mapping[str, int] = {}
    """How many events wait at the broker for each app, where any do."""
    unread_dead_letters: Mapping[str, int] = {}
    """How many dead letters of each topic no app has read, where there are any: no list shows them."""
    dapr_api_token: str = ""
    app_api_token: str = ""
    processes: tuple[ProcessState, ...] = ()

    def find(self, name: str) -> ProcessState:
        """Return the state of a process.

        Raises:
            NotRunning: The name is unknown; the message lists the known ones.

        """
        for process in self.processes:
            if process.name == name:
                return process
        names = ", ".join(process.name for process in self.processes)
        raise NotRunning(f"unknown process {name}; known processes: {names}")

    @property
    def running(self) -> bool:
        return self.phase != "stopped" and self.supervisor.alive


def read(run_dir: Path) -> RunState:
    """Read the state of the last run in `run_dir`, which may have ended.

    Raises:
        NotRunning: No system was ever started there.

    """
    try:
        return msgspec.json.decode((run_dir / FILE_NAME).read_bytes(), type=RunState)
    except FileNotFoundError:
        raise NotRunning(f"no system was started in {run_dir}; start it with `tidings up`") from None
    except UNREADABLE as error:
        raise NotRunning(f"{run_dir / FILE_NAME} was written by another version ({error}); remove it") from None


def write(run_dir: Path, state: RunState) -> None:
    """Replace the state file. It contains the API tokens, so only its owner can read it."""
    write_private(run_dir / FILE_NAME, msgspec.json.format(msgspec.json.encode(state), indent=1).decode())
