"""Comparison of fat and sparse events: the same orders, read from `orders.orderConfirmed` v2 (fat) and v1 (sparse).

One system runs for all rounds: orders, menu, payments, and the largest number of readers, each with a sidecar. In a
round, some of the readers work and the others acknowledge at once; both versions are published and delivered in every
round, so the difference between the modes is the calls back alone. Rounds of both modes take turns. In the end, orders
is stopped before the readers may begin.

    python scenarios/sparse.py --readers 1,2,5,10 --orders 20 --rounds 3
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import httpx2
import psutil
import yaml
from coupling import place, until_taken
from rich.console import Console
from rich.table import Table

from tidings_cli.up.run import Run, running
from tidings_cli.up.system import Options

ROOT = Path(__file__).resolve().parent.parent
READER = ROOT / "scenarios" / "sparse_reader"
DATA = ROOT / "docs" / "reference" / "benchmarks-sparse.json"
PLOT = ROOT / "docs" / "images" / "fat-or-sparse.svg"
SETTLE = 120.0
"""Timeout in seconds for the events of a round."""
OUTAGE = 5.0
"""Seconds that orders is down while the readers work."""

NEW_CONNECTIONS = httpx2.Limits(max_keepalive_connections=0)
"""A server may close an idle connection at the moment at which the next request is sent."""

Mode = Literal["fat", "sparse"]
PARTS = ("orders", "menu", "payments")
"""Services that confirm an order."""
MODES: tuple[Mode, Mode] = ("fat", "sparse")
console = Console()


@dataclass(frozen=True, slots=True)
class Measured:
    """Results of one round."""

    mode: Mode
    readers: int
    orders: int
    calls: int
    median_ms: float
    p95_ms: float
    orders_cpu_ms: float
    """CPU time of orders and its sidecar per order."""
    all_cpu_ms: float
    """CPU time of all processes per order."""


@dataclass(frozen=True, slots=True)
class Outage:
    """Orders whose content all readers had: while orders was down, and after its return."""

    mode: Mode
    readers: int
    orders: int
    while_down: int
    afterwards: int


def write_project(folder: Path, readers: Sequence[str]) -> None:
    """Write a project of the pizza system and the readers."""
    services: list[dict[str, Any]] = [
        {"name": folder.parent.name, "folder": str(folder.parent)} for folder in ROOT.glob("services/*/contracts")
    ]
    services.append({"name": "archive", "folder": str(ROOT / "archive"), "module": "tidings_archive"})
    for name in readers:
        environment = {"READER_NAME": name, "READER_ORDERS_URL": "${url:orders}"}
        services.append({"name": name, "folder": name, "module": "reader", "environment": environment})
        contracts = folder / name / "contracts"
        contracts.mkdir(parents=True)
        (folder / name / "src").symlink_to(READER / "src")
        (contracts / "subscriptions.yaml").write_text(
            yaml.safe_dump_all(map(_subscription, (name, name), ("v1", "v2")))
        )
    project = {"name": "fat-or-sparse", "components": str(ROOT / "components"), "services": services}
    (folder / "tidings.yaml").write_text(yaml.safe_dump(project))


def _subscription(app: str, version: str) -> dict[str, Any]:
    return {
        "apiVersion": "tidings.dev/v1alpha1",
        "kind": "EventSubscription",
        "metadata": {"name": f"{app}-{version}"},
        "spec": {
            "events": [{"type": "orders.orderConfirmed", "versions": [version]}],
            "consumer": {"appId": app, "owner": app},
            "delivery": {"retry": {"policy": "Constant", "duration": "200ms", "maxRetries": 1000}},
        },
    }


@dataclass(frozen=True, slots=True)
class Bench:
    """A running system with its readers."""

    run: Run
    http: httpx2.AsyncClient
    readers: Sequence[str]

    async def begin(self, mode: Mode, working: int, *, hold: bool = False) -> None:
        """Begin a round in which the first readers work."""
        for number, name in enumerate(self.readers):
            new = {"mode": mode if number < working else "idle", "hold": hold}
            (await self.http.put(f"{self.run.url(name)}/round", json=new)).raise_for_status()

    async def results(self, working: int) -> list[dict[str, Any]]:
        """Return the results of the working readers."""
        return [(await self.http.get(f"{self.run.url(name)}/round")).json() for name in self.readers[:working]]

    async def handled(self, working: int, orders: Iterable[str], timeout: float = SETTLE) -> list[dict[str, Any]]:
        """Wait until the working readers have the content of all orders, or until the timeout."""
        wanted, end = set(orders), time.monotonic() + timeout
        while True:
            results = await self.results(working)
            if all(wanted <= result["seconds"].keys() for result in results) or time.monotonic() > end:
                return results
            await asyncio.sleep(0.2)  # asking is work of its own

    def cpu(self) -> dict[str, float]:
        """Return the CPU seconds so far by process name."""
        return {
            each.name: sum(psutil.Process(each.process.pid).cpu_times()[:2])
            for each in self.run.state.processes
            if each.process is not None
        }

    async def measure(self, mode: Mode, working: int, count: int) -> Measured:
        """Place orders one after the other, and wait until all working readers have their content."""
        await self.begin(mode, working)
        before = self.cpu()
        batch = await place(self.http, "ada", count)
        results = await self.handled(working, batch.accepted)
        used = {name: seconds - before.get(name, 0.0) for name, seconds in self.cpu().items()}
        times = sorted(result["seconds"][order] * 1000 for result in results for order in batch.accepted)
        placed = len(batch.accepted)
        return Measured(
            mode,
            working,
            placed,
            sum(result["calls"] for result in results),
            statistics.median(times),
            times[int(len(times) * 0.95) - 1],
            (used["orders"] + used["orders.daprd"]) * 1000 / placed,
            sum(used.values()) * 1000 / placed,
        )

    async def outage(self, mode: Mode, working: int, count: int) -> Outage:
        """Let events wait, stop orders, and let the readers work while it is down."""
        await self.begin(mode, working, hold=True)
        batch = await place(self.http, "ada", count)
        await self._confirmed(batch.accepted)
        async with self.run.stopped("orders"):
            for name in self.readers[:working]:
                (await self.http.post(f"{self.run.url(name)}/release")).raise_for_status()
            down = _complete(await self.handled(working, batch.accepted, OUTAGE), batch.accepted)
        after = _complete(await self.handled(working, batch.accepted), batch.accepted)
        return Outage(mode, working, len(batch.accepted), down, after)

    async def _confirmed(self, orders: Iterable[str]) -> None:
        """Wait until orders are confirmed; raises if one is not in time."""
        async with asyncio.timeout(SETTLE):
            for order in orders:
                while (await self.http.get(f"/orders/{order}")).json()["confirmedAt"] is None:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        await asyncio.sleep(1)  # both versions are published right after


def _complete(results: list[dict[str, Any]], orders: Iterable[str]) -> int:
    return sum(all(order in result["seconds"] for result in results) for order in orders)


async def compare(readers: Sequence[int], count: int, rounds: int, folder: Path) -> tuple[list[Measured], list[Outage]]:
    """Run all rounds on one system."""
    names = [f"reader-{number}" for number in range(1, max(readers) + 1)]
    write_project(folder, names)
    options = Options(free_ports=True, fresh=True, only=(*PARTS, *names))
    async with (
        running(folder, options, deadline=400) as run,
        httpx2.AsyncClient(base_url=run.url("orders"), timeout=60, trust_env=False, limits=NEW_CONNECTIONS) as http,
    ):
        bench = Bench(run, http, names)
        await until_taken(http)
        await bench.measure("fat", max(readers), 5)  # warm up
        await bench.measure("sparse", max(readers), 5)
        measured = []
        for _ in range(rounds):
            for working in readers:
                for mode in MODES:
                    measured.append(await bench.measure(mode, working, count))
                    console.print(measured[-1])
        return measured, [await bench.outage(mode, max(readers), count) for mode in MODES]


def medians(measured: Iterable[Measured]) -> Iterator[Measured]:
    """Yield the medians over the rounds of each mode and number of readers."""
    rounds: dict[tuple[int, Mode], list[Measured]] = {}
    for each in measured:
        rounds.setdefault((each.readers, each.mode), []).append(each)
    for found in (rounds[key] for key in sorted(rounds)):
        first = asdict(found[0])
        middle = {
            name: statistics.median(getattr(each, name) for each in found)
            for name in ("orders", "calls", "median_ms", "p95_ms", "orders_cpu_ms", "all_cpu_ms")
        }
        yield Measured(**{**first, **middle})


def table_of(measured: Iterable[Measured]) -> Table:
    """Return the medians as a table."""
    table = Table("readers", "event", "calls per order", "median", "p95", "CPU of orders", "CPU of all, per order")
    for each in medians(measured):
        table.add_row(
            str(each.readers),
            each.mode,
            f"{each.calls / each.orders:.1f}",
            f"{each.median_ms:.0f} ms",
            f"{each.p95_ms:.0f} ms",
            f"{each.orders_cpu_ms:.0f} ms",
            f"{each.all_cpu_ms:.0f} ms",
        )
    return table


COLOURS: dict[Mode, str] = {"fat": "#2e7d32", "sparse": "#c62828"}
PANELS = (
    ("calls back per order", "calls"),
    ("median latency, ms", "median_ms"),
    ("CPU of orders per order, ms", "orders_cpu_ms"),
)


def plot(measured: Iterable[Measured]) -> str:
    """Return an SVG with one panel per quantity over the number of readers."""
    points = list(medians(measured))
    panels = "".join(_panel(points, 40 + 300 * index, *panel) for index, panel in enumerate(PANELS))
    legend = "".join(
        f'<text x="{40 + 100 * index}" y="20" fill="{colour}">■ {mode}</text>'
        for index, (mode, colour) in enumerate(COLOURS.items())
    )
    style = "font-family:sans-serif;font-size:12px;background:#fff"
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 940 290" style="{style}">{legend}{panels}</svg>\n'


def _panel(points: Sequence[Measured], left: int, title: str, field: str) -> str:
    def value(each: Measured) -> float:
        found: float = getattr(each, field)
        return found / each.orders if field == "calls" else found

    widest, highest = max(each.readers for each in points), max(*map(value, points), 1e-9)

    def at(each: Measured) -> tuple[float, float]:
        return left + 240 * each.readers / widest, 250 - 180 * value(each) / highest

    parts = [f'<text x="{left}" y="50">{title}, by readers</text>']
    parts.append(f'<path d="M{left} 70V250H{left + 240}" fill="none" stroke="#888"/>')
    parts.append(f'<text x="{left - 4}" y="74" text-anchor="end">{highest:.0f}</text>')
    for mode, colour in COLOURS.items():
        line = [(each, *at(each)) for each in points if each.mode == mode]
        path = " ".join(f"{x:.1f},{y:.1f}" for _, x, y in line)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for _, x, y in line]
        parts += [f'<text x="{x:.1f}" y="266" text-anchor="middle">{each.readers}</text>' for each, x, _ in line]
    return "".join(parts)


def main() -> int:
    """Run the comparison and print it; with `--write`, also write the plot and the data of the page in docs."""
    parser = argparse.ArgumentParser(description="Compare fat and sparse events.")
    parser.add_argument("--readers", default="1,2,5,10", help="numbers of readers (default 1,2,5,10)")
    parser.add_argument("--orders", type=int, default=20, help="orders in each round (default 20)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each mode and number of readers (default 3)")
    parser.add_argument("--write", action="store_true", help="write the plot and the data in docs")
    arguments = parser.parse_args()
    readers = sorted({int(number) for number in arguments.readers.split(",")})
    with tempfile.TemporaryDirectory(prefix="sparse-") as folder:
        measured, outages = asyncio.run(compare(readers, arguments.orders, arguments.rounds, Path(folder)))
    console.print(table_of(measured))
    for each in outages:
        console.print(
            f"{each.mode}, {each.readers} readers: {each.while_down} of {each.orders} orders were handled by all "
            f"readers while orders was down for {OUTAGE:.0f} s, {each.afterwards} once it was back"
        )
    if arguments.write:
        PLOT.write_text(plot(measured))
        data = {"rounds": [asdict(each) for each in measured], "outages": [asdict(each) for each in outages]}
        DATA.write_text(json.dumps(data, indent=1) + "\n")
    return 0 if all(each.afterwards == each.orders for each in outages) else 1


if __name__ == "__main__":
    sys.exit(main())
