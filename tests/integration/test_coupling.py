"""`make coupling` on the real system has the results that it claims."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SCENARIO = Path(__file__).resolve().parents[2] / "scenarios" / "coupling.py"


@pytest.mark.real
@pytest.mark.timeout(400)
def test_without_loyalty_orders_are_accepted_by_events_and_not_coupled(tmp_path: Path):
    run = subprocess.run(
        [sys.executable, SCENARIO, "--orders", "3", "--run-dir", tmp_path],
        capture_output=True,
        text=True,
        timeout=380,
        check=False,
        env={**os.environ, "COLUMNS": "160"},
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert re.search(r"by events\W+3 of 3\W+\d+ ms\W+3 of 3", run.stdout), run.stdout
    assert re.search(r"coupled\W+3 of 3\W+\d+ ms\W+0 of 3", run.stdout), run.stdout
    assert "loyalty did not answer" in run.stdout
