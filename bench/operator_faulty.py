"""The operator, with a planner that some objects harm: for bench/operator_hostile.py.

The operator refuses all harmful objects that are known. So the planner gets three additional faults: an app that reads
by an object named `endless-…` is planned for ever, `crash-…` ends the process that plans it, and `bottomless-…`
recurses without end. At its end, the operator prints the longest time that its event loop was busy.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.modules["kubernetes"] = None  # type: ignore[assignment] # as `python -m tidings_operator` does it

from tests.support import faulty  # noqa: E402 - its folder is put on the path first

from tidings_operator import process, reconciling  # noqa: E402
from tidings_operator.operating import Operator  # noqa: E402

TICK = 0.01


class Observed(Operator):
    """An operator that knows how long its event loop was busy without a pause."""

    async def run(self) -> None:
        """Run until cancelled; print what was observed."""
        busy = [0.0, 0.0]
        ticking = asyncio.create_task(_tick(busy))
        try:
            await super().run()
        finally:
            ticking.cancel()
            print(json.dumps({"busy": busy[0], "cpu": busy[1]}), flush=True)


async def _tick(longest: list[float]) -> None:
    """Keep the longest time between two ticks, and the longest CPU time of the loop's thread between two."""
    while True:
        begun, cpu = time.monotonic(), time.thread_time()
        await asyncio.sleep(TICK)
        longest[0] = max(longest[0], time.monotonic() - begun - TICK)
        longest[1] = max(longest[1], time.thread_time() - cpu)


if __name__ == "__main__":
    reconciling.plan_app = faulty.plan_app  # type: ignore[attr-defined]
    changed: Any = process
    changed.Operator = Observed
    process.main()
