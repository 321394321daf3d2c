"""Control of a running system from another program, through its state file and signals."""

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from tidings_cli.up import orphans, state
from tidings_cli.up.errors import NotRunning, StartFailed
from tidings_cli.up.folder import RunFolder
from tidings_cli.up.state import Identity, ProcessState, RunState

POLL_INTERVAL = 0.1
KILL_AFTER = 15.0
"""Seconds between the stop signal of a process and SIGKILL."""
READY_TIMEOUT = 180.0
"""Timeout in seconds until a process is ready: usual are 2, and beside other work Kafka has taken two minutes."""
STOP_TIMEOUT = 60.0
"""Timeout in seconds for stopping the whole system; its services may drain for 15 s."""


def running(run_dir: Path) -> RunState:
    """Return the state of the system running in `run_dir`; raise `NotRunning` if there is none."""
    run_state = state.read(run_dir)
    if not run_state.running:
        raise NotRunning(f"no system is running in {run_dir}; start it with `tidings up`")
    return run_state


def stop(run_dir: Path, name: str) -> None:
    """Stop a process and keep it stopped until `start`. Return once it has ended."""
    process = running(run_dir).find(name)
    RunFolder(run_dir).held.joinpath(name).touch()
    _end(process)


def start(run_dir: Path, name: str) -> ProcessState:
    """Start a stopped process. Return once it is ready."""
    running(run_dir).find(name)
    RunFolder(run_dir).held.joinpath(name).unlink(missing_ok=True)
    return _wait_ready(run_dir, name, None)


def restart(run_dir: Path, name: str) -> ProcessState:
    """Restart a process. Return once the new one is ready."""
    process = running(run_dir).find(name)
    _end(process)
    return _wait_ready(run_dir, name, process.process)


def down(run_dir: Path, report: Callable[[str], None]) -> None:
    """Stop the whole system, or end the orphaned processes of a killed one."""
    run_state = state.read(run_dir)
    if run_state.running:
        os.kill(run_state.supervisor.pid, signal.SIGTERM)
        _wait_for_exit(run_state.supervisor, STOP_TIMEOUT)
    orphans.end(run_dir, run_state, report)


def _end(process: ProcessState) -> None:
    if process.process is None or not process.process.alive:
        return
    with suppress(ProcessLookupError):
        os.kill(process.process.pid, process.stop_signal)
        if not _wait_for_exit(process.process, KILL_AFTER):
            os.kill(process.process.pid, signal.SIGKILL)


def _wait_for_exit(identity: Identity, timeout: float) -> bool:
    try:
        process = psutil.Process(identity.pid)
    except psutil.NoSuchProcess:
        return True
    if not identity.alive:
        return True
    _, alive = psutil.wait_procs([process], timeout=timeout)
    return not alive


def _wait_ready(run_dir: Path, name: str, before: Identity | None) -> ProcessState:
    end = time.monotonic() + READY_TIMEOUT
    while True:
        process = running(run_dir).find(name)
        if process.state == "ready" and process.process != before:
            return process
        if time.monotonic() > end:
            raise StartFailed(f"{name} is not ready after {READY_TIMEOUT:g} s: {process.problem or process.last_exit}")
        time.sleep(POLL_INTERVAL)
