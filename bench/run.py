"""Every comparison, one after the other, into docs/reference/benchmarks.md, its plot and its raw values.

python bench/run.py                 # all
python bench/run.py http_events     # some; the others' last values stay
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import platform
import statistics
import sys
from datetime import UTC, datetime
from html import escape
from math import log
from pathlib import Path
from typing import Any

from rounds import ROUNDS, Comparison, Section

DOCS = Path(__file__).resolve().parents[1] / "docs"
VALUES = DOCS / "reference" / "benchmarks.json"
PAGE = DOCS / "reference" / "benchmarks.md"
PLOT = DOCS / "images" / "benchmarks.svg"
PARTS = (
    "ingress_cpu",
    "http_events",
    "consume_batched",
    "table_drain",
    "log_strategy",
    "log_against_dapr",
    "order_way",
)
HEAD = """# Benchmarks

Written by `make bench`. Both sides of each line ran in one process or side by side on one machine, interleaved, in at
least {rounds} rounds after one to warm up: median (lowest to highest). A ratio is taken round by round, so what else
the machine did hits both sides. More than 1x is better for Tidings.

The load of the machine at the start of each part stands below the table. Where it is far above the number of cores, the
figures show that the measurement works, and not yet what is measured: they are to be taken again on an idle machine.

![Ratios, with the bar that each is held to](../images/benchmarks.svg)

| measured | ours | against | ratio | bar | met | settings |
|---|---|---|---|---|---|---|
"""
WIDTH, LINE, LEFT, RIGHT = 900, 34, 330, 130


def page(found: list[Comparison], sections: list[Section], machines: dict[str, str]) -> str:
    """The page in Markdown."""
    when = [f"- {name}: {machine}" for name, machine in machines.items()]
    rows = [each.row() for each in found]
    told = [line for each in sections for line in ("", f"## {each.title}", "", each.text)]
    return "\n".join([HEAD.format(rounds=ROUNDS).rstrip(), *rows, "", "Measured:", "", *when, *told, ""])


def plot(found: list[Comparison]) -> str:
    """The ratios as bars on a logarithmic scale, with their spread and the bar they are held to."""
    low = min(0.5, *(min(each.ratios) for each in found))
    high = max(2.0, *(max(each.ratios) for each in found))

    def x(ratio: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * log(ratio / low) / log(high / low)

    height = LINE * (len(found) + 1)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-size="13" role="img">',
        "<title>Ratios of the benchmarks</title><style>text {font-family: sans-serif}</style>",
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
    ]
    for number, each in enumerate(found):
        y, middle = LINE * number + 12, statistics.median(each.ratios)
        left, right = sorted((x(1), x(middle)))
        parts.append(f'<text x="{LEFT - 10}" y="{y + 13}" text-anchor="end">{escape(each.name)}</text>')
        parts.append(f'<rect x="{left:.1f}" y="{y}" width="{right - left:.1f}" height="18" fill="#4c78a8"/>')
        least, most = x(min(each.ratios)), x(max(each.ratios))
        parts.append(f'<line x1="{least:.1f}" x2="{most:.1f}" y1="{y + 9}" y2="{y + 9}" stroke="#222"/>')
        if each.wanted:
            at = x(each.wanted)
            parts.append(
                f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{y - 4}" y2="{y + 22}" stroke="#c33" stroke-width="2"/>'
            )
        parts.append(f'<text x="{WIDTH - RIGHT + 12}" y="{y + 13}">{middle:.3g}x</text>')
    base = LINE * len(found) + 14
    parts.append(f'<line x1="{x(1):.1f}" x2="{x(1):.1f}" y1="4" y2="{base}" stroke="#222"/>')
    parts.append(f'<text x="{x(1):.1f}" y="{base + 14}" text-anchor="middle">1x; red: the bar</text></svg>')
    return "\n".join(parts) + "\n"


def machine() -> str:
    """What it was measured on, and how busy that was with other things."""
    load = f"load {os.getloadavg()[0]:.1f} at the start"
    return f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, Python {platform.python_version()}, {load}"


def main(names: list[str]) -> None:
    """Measure, and write what was found."""
    for name in names or PARTS:
        on = machine()
        found = asyncio.run(importlib.import_module(name).run())
        compared = [each for each in found if isinstance(each, Comparison)]
        told = [each.plain() for each in found if isinstance(each, Section)]
        kept = json.loads(VALUES.read_text()) if VALUES.exists() else {}  # another run may have written meanwhile
        kept[name] = {"machine": on, "comparisons": [each.plain() for each in compared], "sections": told}
        for each in compared:
            print(each.row(), flush=True)
        VALUES.write_text(json.dumps(kept, indent=1) + "\n")
        write(kept)


def write(kept: dict[str, Any]) -> None:
    """The page and the plot of everything that has been measured so far."""
    present = [name for name in PARTS if name in kept]
    everything = [Comparison(**each) for name in present for each in kept[name]["comparisons"]]
    sections = [Section(**each) for name in present for each in kept[name].get("sections", ())]
    PAGE.write_text(page(everything, sections, {name: kept[name]["machine"] for name in present}))
    PLOT.parent.mkdir(exist_ok=True)
    PLOT.write_text(plot(everything))


if __name__ == "__main__":
    main(sys.argv[1:])
