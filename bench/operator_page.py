"""What bench/operator_scale.py found, as a page and raw values, and whether it is what was promised."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path

OURS, PEER = "tidings", "peer"
COLD, RSS, P99 = 15.0, 150.0, 1.0
"""Promised up to LIMITS_AT subscriptions: seconds, MiB, seconds."""
LIMITS_AT = 5_000
STEEPER = 1.5
"""How much more CPU a subscription may take at a cold start than at the size before: more is no straight line."""
NAME = "benchmarks-operator"
HEAD = """# The operator at scale

Written by `make bench-operator`: a real kube-apiserver and etcd on the same machine, 200 EventTypes, ten subscriptions
to an app, each with two filters. The API server writes no audit log, and etcd does not wait for the disk
(`--unsafe-no-fsync`): both sides have the same. *Peer* is the same plan core, builders and client on kopf's documented
index + event + daemon pattern (`bench/operator_peer.py`), measured after ours on the same cluster.

- **first**: until everything is programmed that was not there at the size before. The peer finds it programmed by ours.
- **cold**: from the start of the process to the end of its first look at everything; its CPU; its writes (promised: 0).
- **memory**: resident, after all that is measured here.
- **p50, p99**: from a change to the status that speaks of it, while 50 changes a second go on.
- **idle**: writes within 10 s in which nothing happens (promised: 0).
- **others**: cores that anything else on the machine took while the changes went on. Ours and all that it needs takes
  one and a half of two: where others take more than the rest, changes wait for the machine.

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
    "others",
)


@dataclass
class Figures:
    """What one side gave at one size. Seconds and MiB."""

    side: str
    size: int
    first: float = 0.0
    """Until everything is programmed that was not there at the size before."""
    cold: float = 0.0
    cold_cpu: float = 0.0
    cold_writes: int = 0
    rss: float = 0.0
    p50: float = 0.0
    p99: float = 0.0
    lost: int = 0
    """Changes that no status spoke of in time."""
    shares: dict[str, float] = field(default_factory=dict)
    """CPU seconds for each change, by program."""
    idle_writes: int = 0
    others: float | None = None
    """Cores that anything else on the machine took while the changes went on; older figures have none."""


Number = Callable[[Figures], float]
RATIOS: dict[str, Number] = {
    "cold start": lambda each: each.cold,
    "its CPU": lambda each: each.cold_cpu,
    "memory": lambda each: each.rss,
    "p50": lambda each: each.p50,
    "p99": lambda each: each.p99,
}


def line(each: Figures) -> str:
    """One row of the table."""
    cells = [
        each.side,
        f"{each.size:,}",
        f"{each.first:.1f} s",
        f"{each.cold:.1f} s",
        f"{each.cold_cpu:.1f} s",
        str(each.cold_writes),
        f"{each.rss:.0f} MiB",
        f"{each.p50 * 1000:,.0f} ms",
        f"{each.p99 * 1000:,.0f} ms",
        str(each.lost),
        str(each.idle_writes),
        "?" if each.others is None else f"{each.others:.2f}",
    ]
    return f"| {' | '.join(cells)} |"


def page(on: str, figures: list[Figures], left_out: list[str]) -> str:
    """The page in Markdown."""
    parts = [HEAD, table(COLUMNS), *(line(each) for each in figures), "", "## Against the peer", ""]
    parts += ["How many times less ours takes.", "", table(("subscriptions", *RATIOS)), *_ratios(figures), ""]
    names = list(dict.fromkeys(name for each in figures for name in each.shares))
    parts += ["## Whose CPU a change takes", "", "Milliseconds for each change.", "", table(("side", "at", *names))]
    parts += [_shares(each, names) for each in figures if each.shares]
    verdict = missed(figures)
    parts += ["", "## Promises", "", *(f"- **Missed**: {each}" for each in verdict)]
    parts += [] if verdict else ["All kept."]
    parts += [f"- Not measured: {each}." for each in left_out]
    return "\n".join([*parts, "", f"Measured: {on}.", ""])


def table(columns: Iterable[str]) -> str:
    """The head of a table."""
    names = list(columns)
    return f"| {' | '.join(names)} |\n|{'---|' * len(names)}"


def missed(figures: list[Figures]) -> list[str]:
    """What is worse than promised."""
    ours = [each for each in figures if each.side == OURS]
    return [f"{each.size:,}: {problem}" for each in ours for problem in _missed(each)] + _bends(ours)


def _missed(each: Figures) -> Iterable[str]:
    if each.size <= LIMITS_AT:
        if each.cold > COLD:
            yield f"cold start {each.cold:.1f} s, promised {COLD:.0f} s"
        if each.rss > RSS:
            yield f"{each.rss:.0f} MiB, promised {RSS:.0f} MiB"
        if each.p99 > P99:
            yield f"p99 {each.p99:.2f} s, promised {P99:.0f} s"
    if each.lost:
        yield f"{each.lost} changes were never told of"
    if each.cold_writes or each.idle_writes:
        yield f"{each.cold_writes} writes at a cold start, {each.idle_writes} when idle, promised none"


def _bends(ours: list[Figures]) -> list[str]:
    """Where the curve of the cold start's CPU bends upwards."""
    return [
        f"{big.size:,}: a further subscription costs {now * 1000:.2f} ms of CPU, those below {before * 1000:.2f} ms"
        for small, big in pairwise(ours)
        if big.size > small.size
        and (now := (big.cold_cpu - small.cold_cpu) / (big.size - small.size))
        > STEEPER * (before := small.cold_cpu / small.size)
    ]


def _ratios(figures: list[Figures]) -> Iterable[str]:
    sides = {(each.side, each.size): each for each in figures}
    for size in sorted({each.size for each in figures}):
        ours, peer = sides.get((OURS, size)), sides.get((PEER, size))
        if ours and peer:
            cells = [f"{value(peer) / value(ours):.2f}x" for value in RATIOS.values()]
            yield f"| {size:,} | {' | '.join(cells)} |"


def _shares(each: Figures, names: list[str]) -> str:
    cells = [f"{each.shares.get(name, 0.0) * 1000:.1f}" for name in names]
    return f"| {each.side} | {each.size:,} | {' | '.join(cells)} |"


def known(folder: Path) -> list[Figures]:
    """What was measured before, by the raw values."""
    file = folder / f"{NAME}.json"
    return [Figures(**each) for each in json.loads(file.read_text())["figures"]] if file.exists() else []


def write(folder: Path, on: str, figures: list[Figures], left_out: list[str]) -> None:
    """Write the page and the raw values of what has been measured so far."""
    folder.mkdir(parents=True, exist_ok=True)
    values = {"machine": on, "figures": [asdict(each) for each in figures], "not measured": left_out}
    (folder / f"{NAME}.json").write_text(json.dumps(values, indent=1) + "\n")
    (folder / f"{NAME}.md").write_text(page(on, figures, left_out))
