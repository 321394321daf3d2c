"""A soak test that is killed and started again continues, and no event is lost or doubled."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

import pytest

SOAK = Path(__file__).resolve().parents[2] / "scenarios" / "soak.py"
EVENTS = 10_000

pytestmark = [pytest.mark.chaos, pytest.mark.real, pytest.mark.timeout(590)]


async def start(folder: Path) -> asyncio.subprocess.Process:
    command = [sys.executable, str(SOAK), "--events", str(EVENTS), "--folder", str(folder), "--kill-every", "5"]
    with (folder.parent / "soak.log").open("ab") as log:
        return await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log)


async def test_it_goes_on_where_it_was_killed(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    first = await start(folder)
    while not (folder / "soak.json").exists():
        assert first.returncode is None, (tmp_path / "soak.log").read_text()
        await asyncio.sleep(0.2)
    first.send_signal(signal.SIGKILL)
    await first.wait()
    done = json.loads((folder / "soak.json").read_text())["parcels"]
    assert 0 < done < EVENTS // 100

    again = await start(folder)
    await again.wait()
    text = (tmp_path / "soak.log").read_text()
    report = json.loads((folder / "report.json").read_text())
    assert (report["sent"], report["received"]) == (EVENTS, EVENTS), text
    assert (report["lost"], report["doubled"]) == ([], []), text
    assert sum(report["kills"].values()) >= 1
