"""A million numbered events from publish over the broker to consume, while every process is killed again and again.

    python scenarios/soak.py                              # Ctrl-C, and the same command goes on where it was;
                                                          # after its end, it begins anew
    python scenarios/soak.py --events 50000 --fresh

The two services stand in tests/chaos/streamed. Fails on any event lost or doubled in effect, and where the memory of
the services or sidecars has grown from the first to the last third of the run by more than a quarter. Where it is ended
(Ctrl-C, a kill of any kind), what is in flight is looked at again next time. The report is `report.json` in the folder.
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
from typing import Any

import httpx2
import msgspec
import psutil
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tidings.up.errors import UpError
from tidings.up.run import Run, running
from tidings.up.system import Options

ROOT = Path(__file__).resolve().parent.parent
PARCEL = 100
"""Numbers that are told in one unit of work."""
BATCH = 50
"""Parcels that are looked at together, and kept as done."""
AHEAD = 4
"""Batches that are told before the first of them has arrived: who is sent to catches up after a kill."""
PATIENCE = 120.0
"""Seconds without anything new after which what is missing counts as lost."""
GROWTH = 1.25
"""By how much memory may differ between the first and the last third of a run."""
VICTIMS = ("teller", "teller.daprd", "keeper", "keeper.daprd", "nats")
HOW = (signal.SIGKILL, signal.SIGTERM)
MEGABYTE = 1_000_000
console = Console()


class Progressed(msgspec.Struct):
    """How far the soak is; kept in `soak.json` in the run folder after every batch."""

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
        found = {}
        for role, values in self.memory.items():
            third = max(len(values) // 3, 1)
            found[role] = statistics.median(values[-third:]) / statistics.median(values[:third])
        return found

    @property
    def problems(self) -> list[str]:
        grown = [f"memory of every {role} x{by:.2f}" for role, by in self.growth.items() if by > GROWTH]
        return [*(f"lost {each}" for each in self.lost), *(f"doubled {each}" for each in self.doubled), *grown]

    def report(self) -> dict[str, object]:
        """What became of it, for a file."""
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
    """One run over the parcels that are still to be told."""

    def __init__(self, run: Run, client: httpx2.AsyncClient, file: Path) -> None:
        self.run, self.client, self.file = run, client, file
        self.progressed = read(file)
        self._in_order = asyncio.Lock()

    async def go_on(self, parcels: int, progress: Progress) -> None:
        """Tell all parcels up to that number, some batches ahead of what has arrived."""
        bar = progress.add_task("events", total=parcels * PARCEL, completed=self.progressed.sent)
        began = time.monotonic() - self.progressed.seconds
        starts = range(self.progressed.parcels, parcels, BATCH)
        batches = [(first, min(first + BATCH, parcels)) for first in starts]
        telling = [asyncio.create_task(self._tell(*batch)) for batch in batches[:AHEAD]]
        for number, (first, end) in enumerate(batches):
            await telling.pop(0)
            if number + AHEAD < len(batches):
                telling.append(asyncio.create_task(self._tell(*batches[number + AHEAD])))
            self.progressed.received += await self._settled(first, end)
            judged = await self._ask("GET", "keeper", f"/parcels/{first}/{end}/judged?size={PARCEL}")
            self.progressed.lost += judged["lost"]
            self.progressed.doubled += judged["doubled"]
            self.progressed.parcels = end
            self.progressed.seconds = time.monotonic() - began
            self._weigh()
            keep(self.file, self.progressed)
            progress.update(bar, completed=self.progressed.sent)

    async def _tell(self, first: int, end: int) -> None:
        async with self._in_order:
            await self._ask("POST", "teller", f"/parcels/{first}/{end}")

    async def _settled(self, first: int, end: int) -> int:
        """How many have counted, once that is all of them or nothing has come for a long time."""
        last, received = time.monotonic(), -1
        while True:
            found = int(await self._ask("GET", "keeper", f"/parcels/{first}/{end}"))
            if found >= (end - first) * PARCEL:
                return found
            if found != received:
                last, received = time.monotonic(), found
            elif time.monotonic() - last > PATIENCE:
                return found
            await asyncio.sleep(0.2)

    async def _ask(self, method: str, service: str, path: str) -> Any:
        """Ask until it answers: it may just have been killed.

        Raises:
            TimeoutError: It has not for `PATIENCE` seconds.

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
        """Kill something every so many seconds, for ever; each kind of process, in either way, as often as others."""
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
    """How far an earlier run came."""
    return msgspec.json.decode(file.read_bytes(), type=Progressed) if file.exists() else Progressed()


def keep(file: Path, found: Progressed | dict[str, object]) -> None:
    """Write it whole or not at all: a kill in the middle must leave what was there."""
    new = file.with_suffix(".new")
    new.write_bytes(msgspec.json.format(msgspec.json.encode(found)))
    new.replace(file)


async def soak(parcels: int, every: float, seed: int, folder: Path) -> Progressed:
    """Run until all of them have been looked at."""
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
    parcels = -(-given.events // PARCEL)
    if given.fresh or read(given.folder / "soak.json").parcels >= parcels:  # that one is done
        shutil.rmtree(given.folder, ignore_errors=True)
    try:
        found = asyncio.run(soak(parcels, given.kill_every, given.seed, given.folder))
    except UpError as error:
        console.print(f"[red]{error}")
        return 2
    except KeyboardInterrupt:
        console.print("the same command goes on from here")
        show(read(given.folder / "soak.json"))
        return 130
    keep(given.folder / "report.json", found.report())
    show(found)
    return 1 if found.problems or not found.sent else 0


if __name__ == "__main__":
    sys.exit(main())
