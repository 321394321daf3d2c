"""Orphaned processes of a killed `tidings up`.

On Linux, the kernel kills each process with its parent (see `launch`), so that at most their children are orphaned;
elsewhere, all processes may be. A process belongs to the run only if it is in a session recorded in the state (each
process starts one) and its environment names the run folder.
"""

import os
from collections.abc import Callable
from pathlib import Path

import psutil

from tidings_cli.up.state import RunState

MARK = "TIDINGS_RUN_DIR"
TIMEOUT = 5.0
"""Timeout in seconds for the end of killed processes."""


def find(run_dir: Path, state: RunState) -> list[psutil.Process]:
    """Return the orphaned processes of an earlier run in this folder."""
    sessions = {entry.process.pid for entry in state.processes if entry.process}
    return [process for process in psutil.process_iter() if _belongs_to_run(process, sessions, str(run_dir))]


def end(run_dir: Path, state: RunState, report: Callable[[str], None]) -> None:
    """Kill the orphaned processes of an earlier run."""
    orphans = find(run_dir, state)
    for process in orphans:
        report(f"killing pid {process.pid}, orphaned by an earlier run")
        process.kill()
    psutil.wait_procs(orphans, timeout=TIMEOUT)


def _belongs_to_run(process: psutil.Process, sessions: set[int], run_dir: str) -> bool:
    try:
        return os.getsid(process.pid) in sessions and process.environ().get(MARK) == run_dir
    except (OSError, psutil.Error):  # it has ended, or belongs to another user
        return False
