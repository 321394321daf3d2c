"""What a killed `tidings up` may have left running, and how it is told from everything else.

On Linux the kernel ends every process with its parent (see `launch`), which leaves at most children of those; elsewhere
all may still be there. A process is ours only if it belongs to a session that the run recorded (each process begins
one) and its environment names the very run folder.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import psutil

from tidings.up.state import RunState

MARK = "TIDINGS_RUN_DIR"
PATIENCE = 5.0
"""Seconds that the kernel is given to take killed processes away."""


def find(run_dir: Path, state: RunState) -> list[psutil.Process]:
    """Processes of an earlier run in this folder that are still there."""
    sessions = {each.process.pid for each in state.processes if each.process}
    return [process for process in psutil.process_iter() if _is_ours(process, sessions, str(run_dir))]


def end(run_dir: Path, state: RunState, report: Callable[[str], None]) -> None:
    """End them."""
    left = find(run_dir, state)
    for process in left:
        report(f"ending pid {process.pid}, left by a run that was killed")
        process.kill()
    psutil.wait_procs(left, timeout=PATIENCE)


def _is_ours(process: psutil.Process, sessions: set[int], run_dir: str) -> bool:
    try:
        return os.getsid(process.pid) in sessions and process.environ().get(MARK) == run_dir
    except (OSError, psutil.Error):  # gone meanwhile, or somebody else's
        return False
