"""What the operator costs at scale, on a real kube-apiserver and etcd on this machine.

For each size: the time to program everything for the first time; a cold start over what is programmed already; memory;
the time from a change to its status while 50 changes a second go on; and how much is written when nothing happens.

`python bench/operator_scale.py [--sizes 500,1000,5000,10000] [--seconds 20]`; `make bench-operator` runs it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import re
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import kopf
import yaml

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import tests.operator.shop as shop  # noqa: E402, PLR0402 - a namespace package has no attributes
from tests.operator.cluster import ADMIN, MANIFESTS, OPERATOR, Cluster, running  # noqa: E402

from tidings.testing.programs import Ports  # noqa: E402
from tidings_operator.client import OWN, Client  # noqa: E402

TYPES = 200
PER_APP = 10
NAMESPACE = "scale"
RATE = 50.0
AT_ONCE = 16
LIMITS = {"cold": 15.0, "rss": 150.0, "p99": 1.0}
LIMITS_AT = 5_000


@dataclass
class Figures:
    """What one size gave. Seconds and MiB."""

    size: int
    first: float = 0.0
    cold: float = 0.0
    cold_cpu: float = 0.0
    cold_writes: int = 0
    rss: float = 0.0
    p50: float = 0.0
    p99: float = 0.0
    idle_writes: int = 0


class Process:
    """The operator as a process of its own."""

    def __init__(self, cluster: Cluster, module: str = "tidings_operator") -> None:
        self._cluster = cluster
        self._module = module
        self._port = cluster.ports.take()
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        environment = {
            **os.environ,
            "KUBECONFIG": str(self._cluster.kubeconfig(OPERATOR)),
            "TIDINGS_OPERATOR_PORT": str(self._port),
            "TIDINGS_OPERATOR_HOST": "127.0.0.1",
            "TIDINGS_OPERATOR_OBSERVE": "0",
        }
        log = (self._cluster.folder / "operator.log").open("ab")
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", self._module, env=environment, stdout=log, stderr=log
        )

    async def stop(self) -> None:
        if self.process:
            self.process.send_signal(signal.SIGTERM)
            await self.process.wait()

    async def metrics(self) -> dict[str, float]:
        """All samples, summed over their labels."""
        async with httpx2.AsyncClient() as http:
            try:
                text = (await http.get(f"http://127.0.0.1:{self._port}/metrics")).text
            except httpx2.TransportError:
                return {}
        found: dict[str, float] = {}
        for name, value in re.findall(r"^(\w+)(?:\{.*\})? (\S+)$", text, re.MULTILINE):
            found[name] = found.get(name, 0.0) + float(value)
        return found

    async def until_done(self, limit: float = 900.0) -> float:
        """Wait until everything has been seen and looked at; return the seconds since the call."""
        begun, calm = time.monotonic(), 0
        while calm < 2:
            if time.monotonic() - begun > limit or (self.process and self.process.returncode is not None):
                log = (self._cluster.folder / "operator.log").read_text()[-3000:]
                raise TimeoutError(f"the operator did not get done\n{log}")
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
        fields = Path(f"/proc/{self._pid()}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _pid(self) -> int:
        assert self.process
        return self.process.pid


def _status(pid: int, field: str) -> float:
    found = re.search(rf"^{field}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found
    return float(found[1])


def type_name(number: int) -> str:
    return f"domain{number % 20}.thingHappened{number}"


def wish(number: int) -> dict[str, Any]:
    """One of many subscriptions: ten to an app, each of a type of its own."""
    app = number // PER_APP
    chosen = (app * 7 + number % PER_APP) % TYPES
    return shop.subscription(
        NAMESPACE,
        f"app{app}-{number % PER_APP}",
        eventTypeRef={"name": type_name(chosen)},
        consumer={"appId": f"app{app}", "owner": "bench"},
        filters=[{"exact": {"data.kind": "a"}}, {"cel": "has(event.data.total) && event.data.total > 10"}],
    )


async def fill(client: Client, start: int, end: int) -> None:
    """Create subscriptions, several at once."""
    numbers = iter(range(start, end))

    async def create() -> None:
        for number in numbers:
            await client.request("POST", OWN["EventSubscription"].path(NAMESPACE), wish(number))

    await asyncio.gather(*(create() for _ in range(AT_ONCE)))


async def changes(client: Client, size: int, seconds: float) -> list[float]:
    """Change subscriptions at a rate; return the seconds from each change to the status that speaks of it."""
    sent: dict[tuple[str, int], float] = {}
    seen_at: dict[tuple[str, int], float] = {}
    _, version = await client.list(OWN["EventSubscription"], NAMESPACE, metadata_only=True)

    async def listen() -> None:
        async for event in client.watch(OWN["EventSubscription"], NAMESPACE, selector="", version=version, seconds=600):
            item = event["object"]
            seen = (item.get("status") or {}).get("observedGeneration", 0)
            seen_at.setdefault((item["metadata"].get("name", ""), seen), time.monotonic())

    async def change(number: int, value: int) -> None:
        name = wish(number)["metadata"]["name"]
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
        tasks.append(asyncio.create_task(change(number, random.randint(1, 1000))))
    await asyncio.gather(*tasks)
    deadline = time.monotonic() + 60
    while sent.keys() - seen_at.keys() and time.monotonic() < deadline:  # noqa: ASYNC110 - the last ones are awaited
        await asyncio.sleep(0.1)
    listener.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await listener
    return sorted(seen_at.get(each, float("inf")) - begun for each, begun in sent.items())


@asynccontextmanager
async def operating(cluster: Cluster) -> AsyncIterator[Process]:
    """Run an operator; it ends, whatever happens."""
    operator = Process(cluster)
    await operator.start()
    try:
        yield operator
    finally:
        await operator.stop()


async def measure(cluster: Cluster, client: Client, sizes: list[int], seconds: float) -> list[Figures]:
    found, there = [], 0
    for size in sizes:
        figures = Figures(size)
        await fill(client, there, size)
        there = size
        async with operating(cluster) as operator:
            figures.first = await operator.until_done()
        async with operating(cluster) as operator:
            figures.cold = await operator.until_done()
            figures.cold_cpu, figures.cold_writes = operator.cpu(), await operator.writes()
            waits = await changes(client, size, seconds)
            figures.p50, figures.p99 = waits[len(waits) // 2], waits[int(len(waits) * 0.99) - 1]
            await operator.until_done()
            before = await operator.writes()
            await asyncio.sleep(10)
            figures.idle_writes = await operator.writes() - before
            figures.rss = operator.rss()
        print(row(figures), flush=True)
        found.append(figures)
    return found


HEADER = "  size | first all | cold start |  its CPU | writes |   memory | change p50 |      p99 | idle writes"


def row(each: Figures) -> str:
    return (
        f"{each.size:6} | {each.first:7.1f} s | {each.cold:8.1f} s | {each.cold_cpu:6.1f} s | {each.cold_writes:6} | "
        f"{each.rss:4.0f} MiB | {each.p50 * 1000:7.0f} ms | {each.p99 * 1000:5.0f} ms | {each.idle_writes:11}"
    )


def missed(figures: list[Figures]) -> list[str]:
    """What is worse than promised."""
    found = []
    for each in figures:
        if each.size <= LIMITS_AT:
            kept = {"cold": each.cold, "rss": each.rss, "p99": each.p99}
            found += [
                f"{name} is {value:.2f}, promised {LIMITS[name]}"
                for name, value in kept.items()
                if value > LIMITS[name]
            ]
        if each.idle_writes or each.cold_writes:
            found.append(f"{each.cold_writes} writes at a cold start, {each.idle_writes} when idle, promised none")
    return found


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="500,1000,5000,10000")
    parser.add_argument("--seconds", type=float, default=20.0)
    asked = parser.parse_args()
    with Ports() as ports, tempfile.TemporaryDirectory() as folder, running(Path(folder), ports) as cluster:
        for name in ("namespace", "rbac"):
            for manifest in yaml.safe_load_all((MANIFESTS / f"{name}.yaml").read_text()):
                cluster.apply(manifest)
        cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        for number in range(TYPES):
            cluster.apply(shop.event_type(NAMESPACE, type_name(number)))
        ca = str(cluster.folder / "certs" / "apiserver.crt")
        async with Client(lambda: kopf.ConnectionInfo(server=cluster.url, token=ADMIN, ca_path=ca)) as client:
            print(HEADER)
            figures = await measure(cluster, client, [int(each) for each in asked.sizes.split(",")], asked.seconds)
    problems = missed(figures)
    print("\n".join(problems) or "all as promised")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
