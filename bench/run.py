"""Run the benchmarks, and write docs/reference/benchmarks.md, its plot and its raw values.

python bench/run.py                 # all
python bench/run.py http_events     # some; the last values of the others are kept
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
    "archive_search",
)
HEAD = """# Benchmarks

Written by `make bench`. Both sides of each line ran in one process or side by side on one machine, interleaved, in at
least {rounds} rounds after a warm-up round: median (minimum to maximum). Ratios are computed per round, so that other
load on the machine affects both sides. Ratios above 1x are in favour of Tidings.

The load of the machine at the start of each part is listed below the table. Results with a load far above the number of
cores are not reliable and have to be repeated on an idle machine.

![Ratios with their targets](../images/benchmarks.svg)

| benchmark | Tidings | baseline | ratio | target | met | settings |
|---|---|---|---|---|---|---|
"""
WIDTH, LINE, LEFT, RIGHT = 900, 34, 330, 130


def page(comparisons: list[Comparison], sections: list[Section], machines: dict[str, str]) -> str:
    """Return the page in Markdown."""
    when = [f"- {name}: {machine}" for name, machine in machines.items()]
    rows = [comparison.row() for comparison in comparisons]
    texts = [line for section in sections for line in ("", f"## {section.title}", "", section.text)]
    return "\n".join([HEAD.format(rounds=ROUNDS).rstrip(), *rows, "", "Measured:", "", *when, *texts, ""])


def plot(comparisons: list[Comparison]) -> str:
    """Return an SVG of the ratios on a logarithmic scale, with their spread and targets."""
    low = min(0.5, *(min(comparison.ratios) for comparison in comparisons))
    high = max(2.0, *(max(comparison.ratios) for comparison in comparisons))

    def x(ratio: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * log(ratio / low) / log(high / low)

    height = LINE * (len(comparisons) + 1)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-size="13" role="img">',
        "<title>Ratios of the benchmarks</title><style>text {font-family: sans-serif}</style>",
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
    ]
    for number, comparison in enumerate(comparisons):
        y, middle = LINE * number + 12, statistics.median(comparison.ratios)
        left, right = sorted((x(1), x(middle)))
        parts.append(f'<text x="{LEFT - 10}" y="{y + 13}" text-anchor="end">{escape(comparison.name)}</text>')
        parts.append(f'<rect x="{left:.1f}" y="{y}" width="{right - left:.1f}" height="18" fill="#4c78a8"/>')
        least, most = x(min(comparison.ratios)), x(max(comparison.ratios))
        parts.append(f'<line x1="{least:.1f}" x2="{most:.1f}" y1="{y + 9}" y2="{y + 9}" stroke="#222"/>')
        if comparison.target:
            at = x(comparison.target)
            parts.append(
                f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{y - 4}" y2="{y + 22}" stroke="#c33" stroke-width="2"/>'
            )
        parts.append(f'<text x="{WIDTH - RIGHT + 12}" y="{y + 13}">{middle:.3g}x</text>')
    base = LINE * len(comparisons) + 14
    parts.append(f'<line x1="{x(1):.1f}" x2="{x(1):.1f}" y1="4" y2="{base}" stroke="#222"/>')
    parts.append(f'<text x="{x(1):.1f}" y="{base + 14}" text-anchor="middle">1x; red: target</text></svg>')
    return "\n".join(parts) + "\n"


def machine() -> str:
    """Describe the machine and its load."""
    load = f"load {os.getloadavg()[0]:.1f} at the start"
    return f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, Python {platform.python_version()}, {load}"


def main(names: list[str]) -> None:
    """Run benchmarks and write the results."""
    for name in names or PARTS:
        on = machine()
        results = asyncio.run(importlib.import_module(name).run())
        comparisons = [result for result in results if isinstance(result, Comparison)]
        sections = [result.plain() for result in results if isinstance(result, Section)]
        # Read the file only now, since another run may have written it in the meantime.
        kept = json.loads(VALUES.read_text()) if VALUES.exists() else {}
        kept[name] = {
            "machine": on,
            "comparisons": [comparison.plain() for comparison in comparisons],
            "sections": sections,
        }
        for comparison in comparisons:
            print(comparison.row(), flush=True)
        VALUES.write_text(json.dumps(kept, indent=1) + "\n")
        write(kept)


def write(kept: dict[str, Any]) -> None:
    """Write the page and the plot of all results."""
    present = [name for name in PARTS if name in kept]
    everything = [Comparison(**values) for name in present for values in kept[name]["comparisons"]]
    sections = [Section(**values) for name in present for values in kept[name].get("sections", ())]
    PAGE.write_text(page(everything, sections, {name: kept[name]["machine"] for name in present}))
    PLOT.parent.mkdir(exist_ok=True)
    PLOT.write_text(plot(everything))


if __name__ == "__main__":
    main(sys.argv[1:])
