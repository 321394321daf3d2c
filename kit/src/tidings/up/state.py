"""What runs, as a file: `state.json` in the run folder, replaced atomically on each change.

`tidings ps`, `restart`, `stop`, `down`, the tests of the whole system and the chaos suite read it with `read`.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec
import psutil

from tidings.up.errors import NotRunning

FILE_NAME = "state.json"
START_TOLERANCE = 1.0
"""Seconds by which two readings of one process's start time may differ: the kernel counts them in ticks since boot."""

Phase = Literal["starting", "ready", "stopping", "stopped"]
Condition = Literal["waiting", "starting", "ready", "restarting", "failing", "held", "stopping", "stopped"]
"""`failing`: died fast again and again, tried on with long pauses; `held`: stopped on purpose with `tidings stop`."""
Role = Literal["broker", "store", "program", "service", "sidecar"]


class Identity(msgspec.Struct, frozen=True):
    """One process of the operating system; the start time tells it from a later one with the same pid."""

    pid: int
    started: float
    """Seconds since the epoch."""

    @classmethod
    def of(cls, pid: int) -> Identity | None:
        """Identity of a running process; None where there is none."""
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
    """One part of the system."""

    name: str
    """`orders`, its second replica `orders-1`, its sidecar `orders.daprd`; `nats`, `redis`; a program's name."""
    role: Role
    app: str
    """Dapr app id of services and sidecars, else the name."""
    state: Condition
    process: Identity | None = None
    ports: Mapping[str, int] = {}
    """By what listens: `app` of services and programs; `http`, `grpc`, `internal` of sidecars; `metrics` of both."""
    restarts: int = 0
    last_exit: str = ""
    """How it ended last, such as `killed by SIGKILL` or `exit code 1`."""
    problem: str = ""
    """Why it is not ready yet."""
    log: str = ""
    stop_signal: int = signal.SIGTERM
    """What asks it to end in order."""

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process else None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports.get('app') or self.ports['http']}"


class RunState(msgspec.Struct, frozen=True, kw_only=True):
    """The whole run."""

    project: str
    root: str
    supervisor: Identity
    phase: Phase
    broker: str
    store: str
    url: str = ""
    """Address to open in a browser, or empty."""
    ready_after: float | None = None
    """Seconds from the start until everything was ready for the first time."""
    broker_problem: str = ""
    """What the broker has lost, and which consumer no sidecar reads from; empty where nothing is wrong."""
    broker_repairs: int = 0
    """How often lost streams or queues were recreated, or a sidecar restarted because it read nothing."""
    dapr_api_token: str = ""
    app_api_token: str = ""
    processes: tuple[ProcessState, ...] = ()

    def find(self, name: str) -> ProcessState:
        """The process of that name.

        Raises:
            NotRunning: there is none; the message lists those there are.

        """
        for process in self.processes:
            if process.name == name:
                return process
        names = ", ".join(process.name for process in self.processes)
        raise NotRunning(f"nothing in this run is called {name}; there are {names}")

    @property
    def running(self) -> bool:
        return self.phase != "stopped" and self.supervisor.alive


def read(run_dir: Path) -> RunState:
    """Read the state of the run in `run_dir`, be it running or not.

    Raises:
        NotRunning: nothing was ever started there.

    """
    try:
        return msgspec.json.decode((run_dir / FILE_NAME).read_bytes(), type=RunState)
    except FileNotFoundError:
        raise NotRunning(f"nothing was started in {run_dir}; start it with `tidings up`") from None
    except msgspec.MsgspecError as error:
        raise NotRunning(f"{run_dir / FILE_NAME} was written by another version ({error}); remove it") from None


def write(run_dir: Path, state: RunState) -> None:
    """Replace the state; a reader sees the old or the new one, whole. Holds the API tokens: readable by its owner."""
    fresh = run_dir / f"{FILE_NAME}.new"
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(state), indent=1))
    fresh.replace(run_dir / FILE_NAME)
