"""Steering a running system from another program, by its state file and signals alone."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from tidings.up import leftovers, state
from tidings.up.errors import NotRunning, StartFailed
from tidings.up.folder import RunFolder
from tidings.up.state import Identity, ProcessState, RunState

LOOK_EVERY = 0.1
STOP_PATIENCE = 60.0
"""Seconds that a whole system is given to stop in order; its services may drain for 15."""


def running(run_dir: Path) -> RunState:
    """State of the system that runs in `run_dir`; raises `NotRunning` where none does."""
    found = state.read(run_dir)
    if not found.running:
        raise NotRunning(f"nothing runs in {run_dir} now; start it with `tidings up`")
    return found


def stop(run_dir: Path, name: str) -> None:
    """Stop one process and keep it away until `start`; returns once it is gone."""
    process = running(run_dir).find(name)
    RunFolder(run_dir).held.joinpath(name).touch()
    _end(process)


def start(run_dir: Path, name: str, patience: float = 60.0) -> ProcessState:
    """Let a stopped process run again; returns once it is ready."""
    running(run_dir).find(name)
    RunFolder(run_dir).held.joinpath(name).unlink(missing_ok=True)
    return _ready(run_dir, name, None, patience)


def restart(run_dir: Path, name: str, patience: float = 60.0) -> ProcessState:
    """Stop one process; returns once its successor is ready."""
    process = running(run_dir).find(name)
    _end(process)
    return _ready(run_dir, name, process.process, patience)


def down(run_dir: Path, report: Callable[[str], None]) -> None:
    """Stop the whole system, or clear away what a killed one has left."""
    found = state.read(run_dir)
    if found.running:
        os.kill(found.supervisor.pid, signal.SIGTERM)
        _wait_gone(found.supervisor, STOP_PATIENCE)
    leftovers.end(run_dir, found, report)


def _end(process: ProcessState, patience: float = 15.0) -> None:
    if process.process is None or not process.process.alive:
        return
    with suppress(ProcessLookupError):
        os.kill(process.process.pid, process.stop_signal)
        if not _wait_gone(process.process, patience):
            os.kill(process.process.pid, signal.SIGKILL)


def _wait_gone(identity: Identity, patience: float) -> bool:
    try:
        process = psutil.Process(identity.pid)
    except psutil.NoSuchProcess:
        return True
    if not identity.alive:
        return True
    _, left = psutil.wait_procs([process], timeout=patience)
    return not left


def _ready(run_dir: Path, name: str, before: Identity | None, patience: float) -> ProcessState:
    end = time.monotonic() + patience
    while True:
        process = running(run_dir).find(name)
        if process.state == "ready" and process.process != before:
            return process
        if time.monotonic() > end:
            raise StartFailed(f"{name} is not ready after {patience:g} s: {process.problem or process.last_exit}")
        time.sleep(LOOK_EVERY)
