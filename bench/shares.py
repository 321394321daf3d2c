"""Who works: the processor's time of this process and of each program that it started, per unit of work."""

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
    """Seconds of the processor so far, by program."""
    found: defaultdict[str, float] = defaultdict(float)
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # PostgreSQL's helpers come and go
            times = child.cpu_times()
            found[child.name()] += times.user + times.system
    return {HERE: time.process_time(), **found}


async def shares(sides: Mapping[str, Side], units: int) -> str:
    """A table in Markdown of the microseconds per unit of work on each side, by program: medians of some rounds."""
    found: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    for _ in range(ROUNDS):
        for side, run in sides.items():
            before = spent()
            await run()
            after = spent()
            found[side].append({name: (after[name] - before.get(name, 0.0)) / units * 1e6 for name in after})
    programs = sorted({name for rounds in found.values() for each in rounds for name in each})
    return "\n".join(
        [
            f"| µs of CPU per unit of work | {' | '.join(programs)} |",
            f"|---|{'---|' * len(programs)}",
            *(f"| {side} | {' | '.join(_cells(rounds, programs))} |" for side, rounds in found.items()),
        ]
    )


def _cells(rounds: list[dict[str, float]], programs: list[str]) -> list[str]:
    return [short(statistics.median(each.get(program, 0.0) for each in rounds)) for program in programs]
