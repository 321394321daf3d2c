"""Soak test: a million numbered events from publisher to consumer, while processes are killed again and again.

    python scenarios/soak.py                              # continues an interrupted run, restarts a completed one
    python scenarios/soak.py --events 50000 --fresh

The two services are in tests/chaos/streamed. The test fails if an event is lost or doubled in effect, or if the memory
of services or sidecars grows by more than a quarter between the first and the last third of the run. After an
interruption, the events in flight are checked again. The report is `report.json` in the folder.
"""

import argparse
import asyncio
import random
import shutil
import signal
import statistics
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import psutil
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tidings_cli.up.errors import UpError
from tidings_cli.up.run import Run, running
from tidings_cli.up.system import Options

ROOT = Path(__file__).resolve().parent.parent
PARCEL = 100
"""Numbers published in one unit of work."""
BATCH = 50
"""Parcels checked together and recorded as done."""
AHEAD = 4
"""Batches published before the first of them has arrived, so that consumers have a backlog after a kill."""
PATIENCE = 120.0
"""Seconds without new events after which missing ones count as lost."""
GROWTH = 1.25
"""Allowed ratio of memory between the last and the first third of a run."""
VICTIMS = ("teller", "teller.daprd", "keeper", "keeper.daprd", "nats")
HOW = (signal.SIGKILL, signal.SIGTERM)
MEGABYTE = 1_000_000
console = Console()


class Progressed(msgspec.Struct):
    """Progress of the test; written to `soak.json` in the run folder after each batch."""

    parcels: int = 0
    received: int = 0
    lost: list[str] = msgspec.field(default_factory=list)
    doubled: list[str] = msgspec.field(default_factory=list)
    seconds: float = 0.0
    kills: dict[str, int] = msgspec.field(default_factory=dict)
    memory: dict[str, list[float]] = msgspec.field(default_factory=dict)
    """Megabytes of the largest service and of the largest sidecar, after each batch."""

    @property
    def sent(self) -> int:
        return self.parcels * PARCEL

    @property
    def growth(self) -> dict[str, float]:
        ratios = {}
        for role, values in self.memory.items():
            third = max(len(values) // 3, 1)
            ratios[role] = statistics.median(values[-third:]) / statistics.median(values[:third])
        return ratios

    @property
    def problems(self) -> list[str]:
        grown = [f"memory of every {role} x{by:.2f}" for role, by in self.growth.items() if by > GROWTH]
        return [*(f"lost {name}" for name in self.lost), *(f"doubled {name}" for name in self.doubled), *grown]

    def report(self) -> dict[str, object]:
        """Return the report as plain data."""
        return {
            "sent": self.sent,
            "received": self.received,
            "lost": self.lost,
            "doubled": self.doubled,
            "seconds": round(self.seconds),
            "eventsPerSecond": round(self.sent / max(self.seconds, 1)),
            "kills": dict(sorted(self.kills.items())),
            "memory": {
                role: {"least": min(values), "most": max(values), "growth": round(self.growth[role], 2)}
                for role, values in self.memory.items()
            },
            "problems": self.problems,
        }


class Soak:
    """A run over the remaining parcels."""

    def __init__(self, run: Run, client: httpx2.AsyncClient, file: Path) -> None:
        self.run, self.client, self.file = run, client, file
        self.progressed = read(file)
        self._in_order = asyncio.Lock()

    async def go_on(self, parcels: int, progress: Progress) -> None:
        """Publish the parcels up to this number, some batches ahead of those that have arrived."""
        bar = progress.add_task("events", total=parcels * PARCEL, completed=self.progressed.sent)
        began = time.monotonic() - self.progressed.seconds
        starts = range(self.progressed.parcels, parcels, BATCH)
        batches = [(first, min(first + BATCH, parcels)) for first in starts]
        publishing = [asyncio.create_task(self._publish(*batch)) for batch in batches[:AHEAD]]
        for number, (first, end) in enumerate(batches):
            await publishing.pop(0)
            if number + AHEAD < len(batches):
                publishing.append(asyncio.create_task(self._publish(*batches[number + AHEAD])))
            self.progressed.received += await self._settled(first, end)
            judged = await self._ask("GET", "keeper", f"/parcels/{first}/{end}/judged?size={PARCEL}")
            self.progressed.lost += judged["lost"]
            self.progressed.doubled += judged["doubled"]
            self.progressed.parcels = end
            self.progressed.seconds = time.monotonic() - began
            self._record_memory()
            keep(self.file, self.progressed)
            progress.update(bar, completed=self.progressed.sent)

    async def _publish(self, first: int, end: int) -> None:
        async with self._in_order:
            await self._ask("POST", "teller", f"/parcels/{first}/{end}")

    async def _settled(self, first: int, end: int) -> int:
        """Wait until all numbers have arrived, or none has for `PATIENCE`; return how many have."""
        last, received = time.monotonic(), -1
        while True:
            arrived = int(await self._ask("GET", "keeper", f"/parcels/{first}/{end}"))
            if arrived >= (end - first) * PARCEL:
                return arrived
            if arrived != received:
                last, received = time.monotonic(), arrived
            elif time.monotonic() - last > PATIENCE:
                return arrived
            await asyncio.sleep(0.2)

    async def _ask(self, method: str, service: str, path: str) -> Any:
        """Send a request until it succeeds, since the service may just have been killed.

        Raises:
            TimeoutError: No request succeeded within `PATIENCE` seconds.

        """
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    answer = await self.client.request(method, f"{self.run.url(service)}{path}")
                except httpx2.TransportError:
                    answer = None
                if answer is not None and answer.is_success:
                    return answer.json()
                await asyncio.sleep(0.1)

    def _record_memory(self) -> None:
        by_role: defaultdict[str, list[float]] = defaultdict(list)
        for process in self.run.state.processes:
            if process.role in ("service", "sidecar") and process.process is not None:
                try:
                    by_role[process.role].append(psutil.Process(process.process.pid).memory_info().rss / MEGABYTE)
                except psutil.NoSuchProcess:  # it has just been killed
                    continue
        for role, values in by_role.items():
            self.progressed.memory.setdefault(role, []).append(max(values))

    async def kill(self, every: float, seed: int) -> None:
        """Kill a process every `every` seconds for ever; all combinations of process and signal equally often."""
        chance = random.Random(seed + self.progressed.parcels)  # noqa: S311 - the same kills for the same seed
        kills = Counter(self.progressed.kills)
        while True:
            await asyncio.sleep(every * chance.uniform(0.5, 1.5))
            names = {f"{victim} {how.name}": (victim, how) for victim in VICTIMS for how in HOW}
            least = min(kills[name] for name in names)
            chosen = chance.choice([name for name in names if kills[name] == least])
            await self.run.kill(*names[chosen])
            kills[chosen] += 1
            self.progressed.kills = dict(kills)
            await self.run.wait_ready()


def read(file: Path) -> Progressed:
    """Return the progress of an earlier run."""
    return msgspec.json.decode(file.read_bytes(), type=Progressed) if file.exists() else Progressed()


def keep(file: Path, content: Progressed | dict[str, object]) -> None:
    """Write a file atomically, so that a kill leaves the former content."""
    new = file.with_suffix(".new")
    new.write_bytes(msgspec.json.format(msgspec.json.encode(content)))
    new.replace(file)


async def soak(parcels: int, every: float, seed: int, folder: Path) -> Progressed:
    """Run until all parcels have been checked."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    async with (
        running(ROOT / "tests/chaos/streamed", Options(free_ports=True, run_dir=folder)) as run,
        httpx2.AsyncClient(timeout=PATIENCE, trust_env=False) as client,
    ):
        this = Soak(run, client, folder / "soak.json")
        killing = asyncio.create_task(this.kill(every, seed))
        with Progress(*columns, console=console) as progress:
            going = asyncio.create_task(this.go_on(parcels, progress))
            await asyncio.wait([going, killing], return_when=asyncio.FIRST_COMPLETED)
        killing.cancel()
        await asyncio.wait([killing])
        if not going.done():  # the killing task has failed
            going.cancel()
            killing.result()
        await going
        return this.progressed


def show(total: Progressed) -> None:
    """Print the report."""
    console.print(
        f"sent {total.sent:,}, received {total.received:,}, lost {len(total.lost)}, doubled {len(total.doubled)}"
    )
    console.print(f"in {total.seconds:,.0f} s: {total.sent / max(total.seconds, 1):,.0f} events/s, kills included")
    console.print(
        f"{sum(total.kills.values())} kills: {', '.join(f'{name} {n}x' for name, n in sorted(total.kills.items()))}"
    )
    for role, values in total.memory.items():
        console.print(
            f"memory of the largest {role}: {min(values):.0f} to {max(values):.0f} MB, "
            f"last third against first: x{total.growth[role]:.2f}"
        )
    for problem in total.problems[:20]:
        console.print(f"[red]{problem}")


def main() -> int:
    """Run the test and report; return 1 if an event was lost or doubled, or memory grew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--kill-every", type=float, default=20.0, metavar="SECONDS")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=ROOT / ".run" / "soak")
    parser.add_argument("--fresh", action="store_true", help="delete an earlier run")
    arguments = parser.parse_args()
    parcels = -(-arguments.events // PARCEL)
    if arguments.fresh or read(arguments.folder / "soak.json").parcels >= parcels:  # that one is done
        shutil.rmtree(arguments.folder, ignore_errors=True)
    try:
        progressed = asyncio.run(soak(parcels, arguments.kill_every, arguments.seed, arguments.folder))
    except UpError as error:
        console.print(f"[red]{error}")
        return 2
    except KeyboardInterrupt:
        console.print("interrupted; the same command continues the run")
        show(read(arguments.folder / "soak.json"))
        return 130
    keep(arguments.folder / "report.json", progressed.report())
    show(progressed)
    return 1 if progressed.problems or not progressed.sent else 0


if __name__ == "__main__":
    sys.exit(main())
