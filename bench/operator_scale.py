"""What the operator costs at scale, on a real kube-apiserver and etcd on this machine, against its peer.

For each size: the time to program everything for the first time; a cold start over what is programmed already; memory;
the time from a change to its status while 50 changes a second go on, and whose CPU that takes; and how much is written
when nothing happens. The peer (operator_peer.py) then does the same on the same cluster.

`make bench-operator` runs it all, in at most 25 minutes; what has been measured is written after each size, into
docs/reference/benchmarks-operator.md. `python bench/operator_scale.py --sizes 500 --minutes 5` runs a part.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import os
import random
import re
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import kopf
import operator_page
import psutil
import yaml
from operator_page import OURS, PEER, Figures
from run import machine

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import tests.operator.shop as shop  # noqa: E402, PLR0402 - a namespace package has no attributes
from tests.operator.cluster import ADMIN, MANIFESTS, OPERATOR, Cluster, running  # noqa: E402

from tidings_cli.testing.programs import Ports  # noqa: E402
from tidings_operator.client import OWN, Client  # noqa: E402

HERE = Path(__file__).parent
DOCS = ROOT / "docs" / "reference"
TYPES = 200
PER_APP = 10
NAMESPACE = "scale"
RATE = 50.0
AT_ONCE = 16
GRACE = 30.0
"""Seconds that a process gets to end."""
PEER_LIMIT = 240.0
"""Seconds that each of the peer's starts may take: its cold start is quadratic, and the larger sizes want time, too."""
PATIENCE = 60.0
"""Seconds that the last changes are waited for."""
CALM = 0.4
"""Cores that other programs may use on a machine that counts as calm."""
FAULTY = "faulty"
PROGRAMS = {
    OURS: ("-m", "tidings_operator"),
    PEER: (str(HERE / "operator_peer.py"),),
    FAULTY: (str(HERE / "operator_faulty.py"),),
}


class Process:
    """The operator as a process of its own."""

    def __init__(self, cluster: Cluster, side: str = OURS, namespaces: str = "") -> None:
        self._cluster = cluster
        self._side = side
        self._namespaces = namespaces
        self.port = cluster.ports.take()
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        environment = {
            **os.environ,
            # The peer's daemons need more rights: kopf writes finalizers.
            "KUBECONFIG": str(self._cluster.kubeconfig(ADMIN if self._side == PEER else OPERATOR)),
            "TIDINGS_OPERATOR_PORT": str(self.port),
            "TIDINGS_OPERATOR_HOST": "127.0.0.1",
            "TIDINGS_OPERATOR_OBSERVE": "0",
            "TIDINGS_OPERATOR_NAMESPACES": self._namespaces,
        }
        log = (self._cluster.folder / "operator.log").open("ab")
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, *PROGRAMS[self._side], env=environment, stdout=log, stderr=log
        )

    async def stop(self) -> None:
        """End it; one that does not end by itself is killed."""
        if self.process and self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(self.process.wait(), GRACE)
            except TimeoutError:
                self.process.kill()
                await self.process.wait()

    async def metrics(self) -> dict[str, float]:
        """Return all samples, summed over their labels."""
        async with httpx2.AsyncClient() as http:
            try:
                text = (await http.get(f"http://127.0.0.1:{self.port}/metrics")).text
            except httpx2.TransportError:
                return {}
        samples: dict[str, float] = {}
        for name, value in re.findall(r"^(\w+)(?:\{.*\})? (\S+)$", text, re.MULTILINE):
            samples[name] = samples.get(name, 0.0) + float(value)
        return samples

    async def until_done(self, limit: float = 900.0) -> float:
        """Wait until all resources are observed and reconciled; return the seconds since the call."""
        begun, calm = time.monotonic(), 0
        while calm < 2:
            if time.monotonic() - begun > limit or (self.process and self.process.returncode is not None):
                log = (self._cluster.folder / "operator.log").read_text()[-3000:]
                raise TimeoutError(f"the operator did not finish\n{log}")
            await asyncio.sleep(0.1)
            now = await self.metrics()
            done = now.get("tidings_operator_synced") and now.get("tidings_operator_reconcile_seconds_count")
            calm = calm + 1 if done and not now.get("tidings_operator_queue_length") else 0
        return time.monotonic() - begun

    async def writes(self) -> int:
        return int((await self.metrics()).get("tidings_operator_writes_total", 0))

    def rss(self) -> float:
        return _status(self._pid(), "VmRSS") / 1024

    def cpu(self) -> float:
        return cpu(self._pid())

    def _pid(self) -> int:
        assert self.process
        return self.process.pid


def cpu(pid: int) -> float:
    """Return the CPU seconds of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _status(pid: int, field: str) -> float:
    match = re.search(rf"^{field}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert match
    return float(match[1])


def type_name(number: int) -> str:
    return f"domain{number % 20}.thingHappened{number}"


def subscription_manifest(number: int) -> dict[str, Any]:
    """Return a subscription: ten per app, each of a different type."""
    app = number // PER_APP
    chosen = (app * 7 + number % PER_APP) % TYPES
    return shop.subscription(
        NAMESPACE,
        f"app{app}-{number % PER_APP}",
        type=type_name(chosen),
        consumer={"appId": f"app{app}", "owner": "bench"},
        filters=[{"exact": {"data.kind": "a"}}, {"cel": "has(event.data.total) && event.data.total > 10"}],
    )


async def fill(client: Client, start: int, end: int) -> None:
    """Create subscriptions, several at once."""
    numbers = iter(range(start, end))

    async def create() -> None:
        for number in numbers:
            await client.request("POST", OWN["EventSubscription"].path(NAMESPACE), subscription_manifest(number))

    await asyncio.gather(*(create() for _ in range(AT_ONCE)))


_values = itertools.count(1)
"""Values for changes; a repeated value would be no change."""


async def changes(client: Client, size: int, seconds: float) -> list[float]:
    """Change subscriptions at a fixed rate; return the seconds from each change to its status."""
    sent: dict[tuple[str, int], float] = {}
    seen_at: dict[tuple[str, int], float] = {}
    _, version = await client.list(OWN["EventSubscription"], NAMESPACE, metadata_only=True)

    async def listen() -> None:
        since = version
        while True:  # the API server closes the watch of a slow reader
            async for event in client.watch(
                OWN["EventSubscription"], NAMESPACE, selector="", version=since, seconds=600
            ):
                item = event["object"]
                since = item["metadata"]["resourceVersion"]
                seen = (item.get("status") or {}).get("observedGeneration", 0)
                seen_at.setdefault((item["metadata"].get("name", ""), seen), time.monotonic())

    async def change(number: int, value: int) -> None:
        name = subscription_manifest(number)["metadata"]["name"]
        begun = time.monotonic()
        answer = await client.request(
            "PATCH",
            OWN["EventSubscription"].path(NAMESPACE, name),
            {"spec": {"maxConcurrency": value}},
            content_type="application/merge-patch+json",
        )
        sent[name, answer["metadata"]["generation"]] = begun

    listener = asyncio.create_task(listen())
    tasks = []
    begun = time.monotonic()
    numbers = random.sample(range(size), min(size, int(RATE * seconds)))
    for count, number in enumerate(numbers):
        await asyncio.sleep(max(0.0, begun + count / RATE - time.monotonic()))
        tasks.append(asyncio.create_task(change(number, next(_values))))
    await asyncio.gather(*tasks)
    deadline = time.monotonic() + PATIENCE
    while sent.keys() - seen_at.keys() and time.monotonic() < deadline:  # noqa: ASYNC110 - the last ones are awaited
        await asyncio.sleep(0.1)
    listener.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await listener
    return sorted(seen_at.get(change, float("inf")) - begun for change, begun in sent.items())


@asynccontextmanager
async def operating(cluster: Cluster, side: str) -> AsyncIterator[Process]:
    """Run an operator for the duration of the context."""
    operator = Process(cluster, side)
    await operator.start()
    try:
        yield operator
    finally:
        await operator.stop()


async def measure(
    cluster: Cluster, client: Client, side: str, size: int, arguments: argparse.Namespace, limit: float
) -> Figures:
    """Measure one side on the existing resources; raise TimeoutError if it is not done within `limit` seconds."""
    figures = Figures(side, size)
    async with operating(cluster, side) as operator:
        figures.first = await operator.until_done(limit)
    async with operating(cluster, side) as operator:
        figures.cold = await operator.until_done(limit)
        figures.cold_cpu, figures.cold_writes = operator.cpu(), await operator.writes()
        await calm(operator, arguments.calm)
        before, busy, begun = taken(operator), machine_cpu(), time.monotonic()
        waits = await changes(client, size, arguments.seconds)
        took = {name: value - before[name] for name, value in taken(operator).items()}
        figures.other_cores = (machine_cpu() - busy - sum(took.values())) / (time.monotonic() - begun)
        figures.cpu_per_change = {name: value / len(waits) for name, value in took.items()}
        figures.lost = sum(wait == float("inf") for wait in waits)
        figures.p50, figures.p99 = waits[len(waits) // 2], waits[int(len(waits) * 0.99) - 1]
        await operator.until_done(limit)
        writes = await operator.writes()
        await asyncio.sleep(10)
        figures.idle_writes = await operator.writes() - writes
        figures.rss = operator.rss()
    return figures


def machine_cpu() -> float:
    """Return the CPU seconds of the whole machine."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - times.iowait - times.guest - times.guest_nice)


async def calm(operator: Process, patience: float) -> None:
    """Wait until other programs are idle for three seconds, at most `patience` seconds."""
    ends = time.monotonic() + patience
    while time.monotonic() < ends:
        busy, own, begun = machine_cpu(), sum(taken(operator).values()), time.monotonic()
        await asyncio.sleep(3)
        other = machine_cpu() - busy - (sum(taken(operator).values()) - own)
        if other < CALM * (time.monotonic() - begun):
            return


def taken(operator: Process) -> dict[str, float]:
    """Return the CPU seconds of all programs that take part in a change."""
    servers = {child.name()[:14]: child.pid for child in psutil.Process().children()}
    named = {"API server": servers["kube-apiserver"], "etcd": next(servers[n] for n in servers if "etcd" in n)}
    return {"operator": operator.cpu(), "bench": cpu(os.getpid()), **{name: cpu(pid) for name, pid in named.items()}}


async def curve(cluster: Cluster, client: Client, arguments: argparse.Namespace) -> AsyncIterator[Figures | str]:
    """Measure both sides at each size while time is left; yield results, or reasons for missing ones."""
    ends, existing = time.monotonic() + arguments.minutes * 60, 0
    for size in map(int, arguments.sizes.split(",")):
        report(f"{size}: creating {size - existing} subscriptions")
        await fill(client, existing, size)
        existing = size
        for side in (OURS, PEER) if size <= arguments.peer else (OURS,):
            left = ends - time.monotonic()
            limit = min(left, PEER_LIMIT) if side == PEER else left
            if left < 4 * arguments.seconds:
                yield f"{side} at {size}: {arguments.minutes:.0f} minutes were over"
                continue
            report(f"{size} {side}: measuring, {left / 60:.0f} minutes left")
            try:
                yield await measure(cluster, client, side, size, arguments, limit)
            except TimeoutError as error:
                report(str(error))
                yield f"{side} at {size}: not done within {limit:.0f} s"


def report(line: str) -> None:
    print(f"{datetime.now(UTC):%H:%M:%S} {line}", flush=True)


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="500,1000,5000,10000")
    parser.add_argument("--peer", type=int, default=5_000, help="the largest size at which the peer is measured")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long changes go on")
    parser.add_argument("--minutes", type=float, default=25.0, help="how long it may take in all")
    parser.add_argument("--write", type=Path, default=DOCS, help="the folder that gets the page and the raw values")
    parser.add_argument("--calm", type=float, default=0.0, help="seconds to wait at most for a machine left alone")
    parser.add_argument("--add", action="store_true", help="keep what the page has of other sizes and sides")
    arguments = parser.parse_args()
    on, figures, left_out = machine(), list[Figures](), list[str]()
    before = operator_page.known(arguments.write) if arguments.add else []
    with (
        Ports() as ports,
        tempfile.TemporaryDirectory() as folder,
        running(Path(folder), ports, audit=False) as cluster,
    ):
        for name in ("namespace", "rbac"):
            for manifest in yaml.safe_load_all((MANIFESTS / f"{name}.yaml").read_text()):
                cluster.apply(manifest)
        cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        for number in range(TYPES):
            cluster.apply(shop.event_type(NAMESPACE, type_name(number)))
        ca = str(cluster.folder / "certs" / "apiserver.crt")
        async with Client(lambda: kopf.ConnectionInfo(server=cluster.url, token=ADMIN, ca_path=ca)) as client:
            async for result in curve(cluster, client, arguments):
                if isinstance(result, str):
                    left_out.append(result)
                else:
                    figures.append(result)
                report(result if isinstance(result, str) else operator_page.line(result))
                now = {(entry.size, entry.side): entry for entry in (*before, *figures)}
                # By size, Tidings before the peer.
                merged = sorted(now.values(), key=lambda entry: (entry.size, entry.side != OURS))
                operator_page.write(arguments.write, on, merged, left_out)
    problems = operator_page.missed(figures)
    print("\n".join(problems) or "all as promised")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
