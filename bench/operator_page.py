"""Page and raw values of bench/operator_scale.py, with a check of the promised limits."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path

OURS, PEER = "tidings", "peer"
COLD, RSS, P99 = 15.0, 150.0, 1.0
"""Limits up to LIMITS_AT subscriptions: seconds, MiB, seconds."""
LIMITS_AT = 5_000
STEEPER = 1.5
"""Maximum growth of the CPU time per subscription between two sizes; more would not be linear."""
NAME = "benchmarks-operator"
HEAD = """# The operator at scale

Written by `make bench-operator`: a real kube-apiserver and etcd on the same machine, 200 EventTypes, ten subscriptions
to an app, each with two filters. The API server writes no audit log, and etcd does not wait for the disk
(`--unsafe-no-fsync`): both sides have the same. *Peer* is the same plan core, builders and client on kopf's documented
index + event + daemon pattern (`bench/operator_peer.py`), measured after Tidings on the same cluster.

- **first**: time until the subscriptions added at this size are programmed. For the peer, Tidings has programmed them.
- **cold**: from the start of the process until all resources are reconciled; its CPU; its writes (promised: 0).
- **memory**: resident, after all measurements.
- **p50, p99**: from a change to its status, at 50 changes per second.
- **idle**: writes within 10 s without changes (promised: 0).
- **other cores**: cores used by other programs on the machine during the changes. The bench and Tidings need one and a
  half of two cores; if other programs use more than the rest, changes wait for the machine.

Promised up to 5,000: cold start within 15 s, 150 MiB, p99 within 1 s.
"""
COLUMNS = (
    "side",
    "subscriptions",
    "first",
    "cold",
    "its CPU",
    "writes",
    "memory",
    "p50",
    "p99",
    "lost",
    "idle",
    "other cores",
)


@dataclass
class Figures:
    """Results of one side at one size, in seconds and MiB."""

    side: str
    size: int
    first: float = 0.0
    """Time until the subscriptions added at this size are programmed."""
    cold: float = 0.0
    cold_cpu: float = 0.0
    cold_writes: int = 0
    rss: float = 0.0
    p50: float = 0.0
    p99: float = 0.0
    lost: int = 0
    """Changes without a status in time."""
    cpu_per_change: dict[str, float] = field(default_factory=dict)
    """CPU seconds per change, by program."""
    idle_writes: int = 0
    other_cores: float | None = None
    """Cores used by other programs on the machine during the changes; missing in older results."""


Number = Callable[[Figures], float]
RATIOS: dict[str, Number] = {
    "cold start": lambda figures: figures.cold,
    "its CPU": lambda figures: figures.cold_cpu,
    "memory": lambda figures: figures.rss,
    "p50": lambda figures: figures.p50,
    "p99": lambda figures: figures.p99,
}


def line(figures: Figures) -> str:
    """Return a row of the table."""
    cells = [
        figures.side,
        f"{figures.size:,}",
        f"{figures.first:.1f} s",
        f"{figures.cold:.1f} s",
        f"{figures.cold_cpu:.1f} s",
        str(figures.cold_writes),
        f"{figures.rss:.0f} MiB",
        f"{figures.p50 * 1000:,.0f} ms",
        f"{figures.p99 * 1000:,.0f} ms",
        str(figures.lost),
        str(figures.idle_writes),
        "?" if figures.other_cores is None else f"{figures.other_cores:.2f}",
    ]
    return f"| {' | '.join(cells)} |"


def page(on: str, figures: list[Figures], left_out: list[str]) -> str:
    """Return the page in Markdown."""
    parts = [HEAD, table(COLUMNS), *(line(side) for side in figures), "", "## Against the peer", ""]
    parts += [
        "Ratio of the peer to Tidings; above 1x, Tidings needs less.",
        "",
        table(("subscriptions", *RATIOS)),
        *_ratios(figures),
        "",
    ]
    names = list(dict.fromkeys(name for side in figures for name in side.cpu_per_change))
    parts += ["## CPU breakdown", "", "Milliseconds per change.", "", table(("side", "at", *names))]
    parts += [_cpu_row(side, names) for side in figures if side.cpu_per_change]
    verdict = missed(figures)
    parts += ["", "## Promises", "", *(f"- **Missed**: {problem}" for problem in verdict)]
    parts += [] if verdict else ["All kept."]
    parts += [f"- Not measured: {measurement}." for measurement in left_out]
    return "\n".join([*parts, "", f"Measured: {on}.", ""])


def table(columns: Iterable[str]) -> str:
    """Return the head of a table."""
    names = list(columns)
    return f"| {' | '.join(names)} |\n|{'---|' * len(names)}"


def missed(figures: list[Figures]) -> list[str]:
    """Return the missed limits."""
    tidings = [side for side in figures if side.side == OURS]
    return [f"{side.size:,}: {problem}" for side in tidings for problem in _missed(side)] + _bends(tidings)


def _missed(figures: Figures) -> Iterable[str]:
    if figures.size <= LIMITS_AT:
        if figures.cold > COLD:
            yield f"cold start {figures.cold:.1f} s, promised {COLD:.0f} s"
        if figures.rss > RSS:
            yield f"{figures.rss:.0f} MiB, promised {RSS:.0f} MiB"
        if figures.p99 > P99:
            yield f"p99 {figures.p99:.2f} s, promised {P99:.0f} s"
    if figures.lost:
        yield f"{figures.lost} changes got no status"
    if figures.cold_writes or figures.idle_writes:
        yield f"{figures.cold_writes} writes at a cold start, {figures.idle_writes} when idle, promised none"


def _bends(results: list[Figures]) -> list[str]:
    """Return the sizes at which the CPU time of a cold start grows faster than linearly."""
    return [
        f"{big.size:,}: a further subscription costs {now * 1000:.2f} ms of CPU, those below {before * 1000:.2f} ms"
        for small, big in pairwise(results)
        if big.size > small.size
        and (now := (big.cold_cpu - small.cold_cpu) / (big.size - small.size))
        > STEEPER * (before := small.cold_cpu / small.size)
    ]


def _ratios(figures: list[Figures]) -> Iterable[str]:
    sides = {(side.side, side.size): side for side in figures}
    for size in sorted({side.size for side in figures}):
        tidings, peer = sides.get((OURS, size)), sides.get((PEER, size))
        if tidings and peer:
            cells = [f"{value(peer) / value(tidings):.2f}x" for value in RATIOS.values()]
            yield f"| {size:,} | {' | '.join(cells)} |"


def _cpu_row(figures: Figures, names: list[str]) -> str:
    cells = [f"{figures.cpu_per_change.get(name, 0.0) * 1000:.1f}" for name in names]
    return f"| {figures.side} | {figures.size:,} | {' | '.join(cells)} |"


def known(folder: Path) -> list[Figures]:
    """Return earlier results from the raw values."""
    file = folder / f"{NAME}.json"
    return [Figures(**values) for values in json.loads(file.read_text())["figures"]] if file.exists() else []


def write(folder: Path, on: str, figures: list[Figures], left_out: list[str]) -> None:
    """Write the page and the raw values of all results."""
    folder.mkdir(parents=True, exist_ok=True)
    values = {"machine": on, "figures": [asdict(side) for side in figures], "not measured": left_out}
    (folder / f"{NAME}.json").write_text(json.dumps(values, indent=1) + "\n")
    (folder / f"{NAME}.md").write_text(page(on, figures, left_out))
