"""`make sparse` on the real system has the results that it claims, and its plot has every point."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

SCENARIOS = Path(__file__).resolve().parents[2] / "scenarios"


@pytest.mark.real
@pytest.mark.timeout(900)
def test_sparse_events_call_back_a_single_time_for_every_reader_and_need_orders() -> None:
    command = [sys.executable, str(SCENARIOS / "sparse.py"), "--readers", "1,2", "--orders", "3", "--rounds", "1"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=880, check=False, env=os.environ | {"COLUMNS": "160"}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    calls = {
        (int(readers), mode): float(count)
        for readers, mode, count in re.findall(
            r"(\d+)\W+(fat|sparse)\W+([\d.]+)", done.stdout.split("calls per order")[1]
        )
    }
    assert (calls[1, "fat"], calls[2, "fat"]) == (0, 0)
    assert calls[1, "sparse"] >= 1
    assert calls[2, "sparse"] >= 2
    assert "fat, 2 readers: 3 of 3 orders were handled by all readers while orders was down" in _one_line(done.stdout)
    assert "sparse, 2 readers: 0 of 3 orders were handled by all readers while orders was down" in _one_line(
        done.stdout
    )
    assert _one_line(done.stdout).count("3 once it was back") == 2


def _one_line(text: str) -> str:
    return " ".join(text.split())


def test_the_plot_has_a_point_for_every_mode_and_number_of_readers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(SCENARIOS)
    import sparse  # type: ignore[import-not-found]  # noqa: PLC0415 - a program, no package

    measured = [
        sparse.Measured(mode, readers, 10, 10 * readers * (mode == "sparse"), 5.0, 9.0, 1.0, 3.0)
        for mode in sparse.MODES
        for readers in (1, 5, 10)
    ]
    root = ET.fromstring(sparse.plot(measured))  # noqa: S314 - our own document
    assert len(root.findall("{*}circle")) == len(measured) * len(sparse.PANELS)
