"""A million numbered events from publish over the broker to consume, while every process is killed again and again.

    python scenarios/soak.py                              # Ctrl-C, and the same command goes on where it was
    python scenarios/soak.py --events 20000 --fresh

Fails on any event lost or doubled in effect, and where the memory of the services or sidecars has grown from the first
to the last third of the run by more than a quarter. What is in flight at an end by Ctrl-C is looked at again next time.
"""

from __future__ import annotations

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

import httpx2
import msgspec
import psutil
from counting import PARCEL, Numbers, Report
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tidings.up.errors import UpError
from tidings.up.run import Run, running
from tidings.up.system import Options

ROOT = Path(__file__).resolve().parent.parent
BATCH = 25
"""Parcels between two looks at what has arrived."""
GROWTH = 1.25
"""By how much memory may differ between the first and the last third of a run."""
VICTIMS = ("sender", "sender.daprd", "receiver", "receiver.daprd", "nats")
HOW = (signal.SIGKILL, signal.SIGTERM)
MEGABYTE = 1_000_000
console = Console()


class Progressed(msgspec.Struct):
    """How far the soak is; kept in `soak.json` in the run folder after every batch."""

    parcels: int = 0
    sent: int = 0
    received: int = 0
    lost: list[str] = msgspec.field(default_factory=list)
    doubled: list[str] = msgspec.field(default_factory=list)
    seconds: float = 0.0
    kills: dict[str, int] = msgspec.field(default_factory=dict)
    memory: dict[str, list[float]] = msgspec.field(default_factory=dict)
    """Megabytes of the services and of the sidecars, after each batch."""

    def add(self, report: Report, parcels: int, seconds: float) -> None:
        """Take in what became of a batch."""
        self.parcels += parcels
        self.sent += report.sent
        self.received += report.received
        self.lost += report.lost
        self.doubled += report.doubled
        self.seconds += seconds

    @property
    def growth(self) -> dict[str, float]:
        """Memory in the last third of the batches against the first third, by role."""
        found = {}
        for role, values in self.memory.items():
            third = max(len(values) // 3, 1)
            found[role] = statistics.median(values[-third:]) / statistics.median(values[:third])
        return found

    @property
    def problems(self) -> list[str]:
        """What must not be."""
        grown = [f"memory of every {role} x{by:.2f}" for role, by in self.growth.items() if by > GROWTH]
        return [*(f"lost {each}" for each in self.lost), *(f"doubled {each}" for each in self.doubled), *grown]


class Soak:
    """One run over the parcels that are still to be sent."""

    def __init__(self, run: Run, client: httpx2.AsyncClient, file: Path) -> None:
        self.run, self.numbers, self.file = run, Numbers(run.url, client), file
        self.progressed = read(file)

    async def go_on(self, parcels: int, progress: Progress) -> None:
        """Send all parcels up to that number; a batch is looked at while the next one is being sent."""
        bar = progress.add_task("events", total=parcels * PARCEL, completed=self.progressed.parcels * PARCEL)
        batches = [
            range(first, min(first + BATCH, parcels)) for first in range(self.progressed.parcels, parcels, BATCH)
        ]
        sending = asyncio.create_task(self._send(batches[0])) if batches else None
        for number, batch in enumerate(batches):
            began = time.monotonic()
            if sending is not None:
                await sending
            sending = asyncio.create_task(self._send(batches[number + 1])) if number + 1 < len(batches) else None
            self.progressed.add(await self.numbers.settled(map(str, batch)), len(batch), time.monotonic() - began)
            self._weigh()
            self.file.write_bytes(msgspec.json.encode(self.progressed))
            progress.update(bar, completed=self.progressed.parcels * PARCEL)

    async def _send(self, batch: range) -> None:
        await self.numbers.send(map(str, batch), at_once=5)

    def _weigh(self) -> None:
        by_role: defaultdict[str, list[float]] = defaultdict(list)
        for each in self.run.state.processes:
            if each.role in ("service", "sidecar") and each.process is not None:
                try:
                    by_role[each.role].append(psutil.Process(each.process.pid).memory_info().rss / MEGABYTE)
                except psutil.NoSuchProcess:  # it has just been killed
                    continue
        for role, values in by_role.items():
            self.progressed.memory.setdefault(role, []).append(max(values))

    async def kill(self, every: float, seed: int) -> None:
        """Kill something every so many seconds, for ever."""
        chance = random.Random(seed + self.progressed.parcels)  # noqa: S311 - the same kills for the same seed
        kills = Counter(self.progressed.kills)
        while True:
            await asyncio.sleep(every * chance.uniform(0.5, 1.5))
            victim, how = chance.choice(VICTIMS), chance.choice(HOW)
            await self.run.kill(victim, how)
            kills[f"{victim} {how.name}"] += 1
            self.progressed.kills = dict(kills)
            await self.run.wait_ready()


def read(file: Path) -> Progressed:
    """How far an earlier run came."""
    return msgspec.json.decode(file.read_bytes(), type=Progressed) if file.exists() else Progressed()


async def soak(events: int, every: float, seed: int, folder: Path) -> Progressed:
    """Run until all events have been looked at."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    async with (
        running(ROOT / "tests/chaos/numbered", Options(free_ports=True, run_dir=folder)) as run,
        httpx2.AsyncClient(timeout=30, trust_env=False) as client,
    ):
        this = Soak(run, client, folder / "soak.json")
        killing = asyncio.create_task(this.kill(every, seed))
        with Progress(*columns, console=console) as progress:
            going = asyncio.create_task(this.go_on(-(-events // PARCEL), progress))
            await asyncio.wait([going, killing], return_when=asyncio.FIRST_COMPLETED)
        killing.cancel()
        await asyncio.wait([killing])
        if not going.done():  # who kills has failed
            going.cancel()
            killing.result()
        await going
        return this.progressed


def show(found: Progressed) -> None:
    """Print the report."""
    console.print(
        f"sent {found.sent:,}, received {found.received:,}, lost {len(found.lost)}, doubled {len(found.doubled)}"
    )
    console.print(f"in {found.seconds:,.0f} s: {found.sent / max(found.seconds, 1):,.0f} events/s, kills included")
    console.print(
        f"{sum(found.kills.values())} kills: {', '.join(f'{name} {n}x' for name, n in sorted(found.kills.items()))}"
    )
    for role, values in found.memory.items():
        console.print(
            f"memory of the largest {role}: {min(values):.0f} to {max(values):.0f} MB, "
            f"last third against first: x{found.growth[role]:.2f}"
        )
    for problem in found.problems[:20]:
        console.print(f"[red]{problem}")


def main() -> int:
    """Soak and report; 1 where something was lost, doubled or grew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--kill-every", type=float, default=20.0, metavar="SECONDS")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=ROOT / ".run" / "soak")
    parser.add_argument("--fresh", action="store_true", help="forget an earlier run")
    given = parser.parse_args()
    if given.fresh:
        shutil.rmtree(given.folder, ignore_errors=True)
    try:
        found = asyncio.run(soak(given.events, given.kill_every, given.seed, given.folder))
    except UpError as error:
        console.print(f"[red]{error}")
        return 2
    except KeyboardInterrupt:
        console.print("the same command goes on from here")
        show(read(given.folder / "soak.json"))
        return 130
    show(found)
    return 1 if found.problems or not found.sent else 0


if __name__ == "__main__":
    sys.exit(main())
