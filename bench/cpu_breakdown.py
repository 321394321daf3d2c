"""CPU breakdown: CPU time of this process and of each program that it started, per unit of work."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress

import psutil
from rounds import Side, short

ROUNDS = 3
HERE = "this process"


def spent() -> dict[str, float]:
    """Return the CPU seconds so far, by program."""
    by_program: defaultdict[str, float] = defaultdict(float)
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # PostgreSQL's helpers are short-lived
            times = child.cpu_times()
            by_program[child.name()] += times.user + times.system
    return {HERE: time.process_time(), **by_program}


async def cpu_breakdown(sides: Mapping[str, Side], units: int) -> str:
    """Return a Markdown table of the CPU microseconds per unit of work by side and program, as medians."""
    results: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    for _ in range(ROUNDS):
        for side, run in sides.items():
            before = spent()
            await run()
            after = spent()
            results[side].append({name: (after[name] - before.get(name, 0.0)) / units * 1e6 for name in after})
    programs = sorted({name for rounds in results.values() for measured in rounds for name in measured})
    return "\n".join(
        [
            f"| µs of CPU per unit of work | {' | '.join(programs)} |",
            f"|---|{'---|' * len(programs)}",
            *(f"| {side} | {' | '.join(_cells(rounds, programs))} |" for side, rounds in results.items()),
        ]
    )


def _cells(rounds: list[dict[str, float]], programs: list[str]) -> list[str]:
    return [short(statistics.median(measured.get(program, 0.0) for measured in rounds)) for program in programs]
