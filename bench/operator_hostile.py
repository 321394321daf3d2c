"""Whether the operator answers, and how soon a thousand good subscriptions are programmed among a hundred hostile ones.

A real kube-apiserver and etcd on this machine; the operator is a process of its own, started when everything is there.
Both sides: the good ones alone, and with the hostile ones, which are older and so come first in every order. Another
process asks for /healthz every 20 ms. `make bench-operator` runs this too; the figures are written into
docs/reference/benchmarks-hostile.md.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import kopf
import yaml
from operator_page import table
from operator_scale import AT_ONCE, DOCS, FAULTY, HERE, Process, machine_cpu, report
from run import machine
from tests.operator import shop
from tests.operator.cluster import ADMIN, MANIFESTS, Cluster, running

from tidings_cli.testing.programs import Ports
from tidings_operator.client import OWN, Client

GOOD, HOSTILE, PER_APP, SHARING, LARGE = 1_000, 100, 10, 10, 20
KINDS = ("endless", "crash", "bottomless")
LIMIT = 1.0
"""Seconds in which /healthz is to answer, always."""
PATIENCE = 400.0
SUBSCRIPTIONS = OWN["EventSubscription"]
NAME = "benchmarks-hostile"
HEAD = """# The operator among hostile resources

Written by `make bench-operator` (`bench/operator_hostile.py`): a real kube-apiserver and etcd on the same machine,
1,000 EventSubscriptions in 100 apps. On the second side there are 100 hostile ones too, for which the planner never
ends, crashes, or recurses without end, a third each. Inputs that are known to have such an effect are refused
earlier, so the benchmark puts these faults into the planner. Ten of them belong to apps that also have good ones. In
addition, there are 20 EventTypes with a schema of 400 KiB that is expensive to compare. The operator starts when
all of these exist.

- **median, last**: from the operator's start until a good subscription is `Programmed`. **Shared**: the last one whose
  app also has a hostile subscription; it waits until the operator has identified that one.
- **refused**: hostile ones whose status says `NotJudged`.
- **/healthz**: the longest answer of one request every 20 ms, and the 99th percentile.
- **loop**: the longest time that the operator's event loop was late, and the most CPU time that it took at a stretch.
- **other cores**: cores that other programs of the machine used; they delay everything here.

Promised: /healthz answers within a second throughout.
"""
COLUMNS = (
    "hostile",
    "programmed",
    "median",
    "last",
    "shared",
    "refused",
    "/healthz p99",
    "/healthz longest",
    "loop late",
    "loop CPU",
    "other cores",
)


@dataclass
class Crowd:
    """Results of one side, in seconds."""

    hostile: int
    programmed: int
    refused: int
    median: float
    last: float
    shared: float
    """Of those whose app has a hostile subscription too, or would have on the other side."""
    health_p99: float
    health: float
    asked: int
    """Requests to /healthz, all answered with 200."""
    busy: float
    cpu: float
    other_cores: float


def manifests(namespace: str, hostile: int) -> list[dict[str, Any]]:
    """Return the hostile subscriptions and the good ones."""
    harmful = [
        shop.subscription(
            namespace,
            f"{KINDS[n % len(KINDS)]}-{n}",
            consumer={"appId": f"app{n}" if n < SHARING else f"evil{n}"},
            routes={"default": f"/evil/{n}"},
        )
        for n in range(hostile)
    ]
    return harmful + [
        shop.subscription(
            namespace,
            f"good-{n}",
            consumer={"appId": f"app{n // PER_APP}"},
            routes={"default": f"/good/{n}"},
            filters=[{"exact": {"data.n": n}}],
        )
        for n in range(GOOD)
    ]


def large_types(namespace: str) -> list[dict[str, Any]]:
    """Return types with schemas that are large, and whose combinators multiply."""
    any_of = [{"type": "string", "maxLength": n, "pattern": "x" * 400} for n in range(900)]
    schema = {"type": "object", "properties": {"a": {"anyOf": any_of, "oneOf": any_of[::-1]}}}
    versions = [{"name": "v1", "schema": schema}]
    return [shop.event_type(namespace, f"orders.thingGrew{n}", versions=versions) for n in range(LARGE)]


async def create(client: Client, namespace: str, resources: Iterable[dict[str, Any]]) -> None:
    """Create resources, several at once."""
    left = iter(resources)

    async def some() -> None:
        for resource in left:
            await client.request("POST", SUBSCRIPTIONS.path(namespace), resource)

    await asyncio.gather(*(some() for _ in range(AT_ONCE)))


async def conditions(client: Client, namespace: str, version: str, count: int) -> dict[str, tuple[str, float]]:
    """Return each subscription's first reason for being Ready or not, and when it was seen."""
    seen: dict[str, tuple[str, float]] = {}
    while len(seen) < count:  # the API server ends the watch of a slow reader
        async for event in client.watch(SUBSCRIPTIONS, namespace, selector="", version=version, seconds=600):
            version = event["object"]["metadata"]["resourceVersion"]
            for condition in (event["object"].get("status") or {}).get("conditions", ()):
                if condition["type"] == "Ready":
                    seen.setdefault(event["object"]["metadata"]["name"], (condition["reason"], time.monotonic()))
            if len(seen) == count:
                break
    return seen


@asynccontextmanager
async def asking(port: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """Let another process ask for /healthz for the duration of the context; it prints how long each answer took."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, str(HERE / "health_probe.py"), str(port), stdin=asyncio.subprocess.PIPE, stdout=-1
    )
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()


async def measure(cluster: Cluster, client: Client, hostile: int) -> Crowd:
    """Measure one side in a namespace of its own."""
    namespace = f"with-{hostile}"
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    cluster.apply(shop.event_type(namespace))
    report(f"{hostile} hostile ones: creating")
    for large in large_types(namespace) if hostile else ():
        cluster.apply(large)
    await create(client, namespace, manifests(namespace, hostile))
    _, version = await client.list(SUBSCRIPTIONS, namespace, metadata_only=True)
    operator = Process(cluster, FAULTY, namespace)
    log = cluster.folder / "operator.log"
    log.unlink(missing_ok=True)
    report(f"{hostile} hostile ones: measuring")
    busy, begun = machine_cpu(), time.monotonic()
    await operator.start()
    try:
        async with asking(operator.port) as probe:
            listening = conditions(client, namespace, version, hostile + GOOD)
            seen = await asyncio.wait_for(listening, PATIENCE)
            await operator.until_done(PATIENCE)
            others = (machine_cpu() - busy - operator.cpu()) / (time.monotonic() - begun)
            answers, _ = await probe.communicate(b"\n")
    finally:
        await operator.stop()
    waits = sorted(map(float, answers.split()))
    good = {name: at - begun for name, (reason, at) in seen.items() if reason == "Programmed"}
    shared = {f"good-{n}" for n in range(SHARING * PER_APP)}
    loop = json.loads(next(line for line in log.read_text().splitlines() if line.startswith('{"busy"')))
    return Crowd(
        hostile=hostile,
        programmed=len(good),
        refused=sum(reason == "NotJudged" for reason, _ in seen.values()),
        median=statistics.median(good.values()),
        last=max(good[name] for name in good.keys() - shared),
        shared=max(good[name] for name in good.keys() & shared),
        health_p99=waits[int(len(waits) * 0.99) - 1],
        health=waits[-1],
        asked=len(waits),
        busy=loop["busy"],
        cpu=loop["cpu"],
        other_cores=others,
    )


def line(crowd: Crowd) -> str:
    """Return a row of the table."""
    seconds = (crowd.health_p99, crowd.health, crowd.busy, crowd.cpu)
    cells = [
        str(crowd.hostile),
        f"{crowd.programmed:,} of {GOOD:,}",
        f"{crowd.median:.1f} s",
        f"{crowd.last:.1f} s",
        f"{crowd.shared:.1f} s",
        f"{crowd.refused} of {crowd.hostile}",
        *(f"{value * 1000:,.0f} ms" for value in seconds),
        f"{crowd.other_cores:.2f}",
    ]
    return f"| {' | '.join(cells)} |"


def problems(crowds: list[Crowd]) -> list[str]:
    """Return the broken promises."""
    found = [f"{GOOD - each.programmed} good ones were not programmed" for each in crowds if each.programmed < GOOD]
    found += [f"{each.hostile - each.refused} hostile ones passed" for each in crowds if each.refused < each.hostile]
    late = [each for each in crowds if each.health > LIMIT]
    return found + [f"/healthz took {each.health:.2f} s with {each.hostile} hostile ones" for each in late]


def write(folder: Path, on: str, crowds: list[Crowd]) -> None:
    """Write the page and the raw values."""
    values = {"machine": on, "figures": [asdict(each) for each in crowds]}
    (folder / f"{NAME}.json").write_text(json.dumps(values, indent=1) + "\n")
    verdict = [f"- **Missed**: {problem}." for problem in problems(crowds)] or ["All kept."]
    asked = " and ".join(f"{each.asked:,}" for each in crowds)
    parts = [HEAD, table(COLUMNS), *map(line, crowds), "", f"/healthz was asked {asked} times."]
    parts += ["", "## Promises", "", *verdict, "", f"Measured: {on}.", ""]
    (folder / f"{NAME}.md").write_text("\n".join(parts))


async def main() -> int:
    on, crowds = machine(), list[Crowd]()
    with (
        Ports() as ports,
        tempfile.TemporaryDirectory() as folder,
        running(Path(folder), ports, audit=False) as cluster,
    ):
        for name in ("namespace", "rbac"):
            for manifest in yaml.safe_load_all((MANIFESTS / f"{name}.yaml").read_text()):
                cluster.apply(manifest)
        ca = str(cluster.folder / "certs" / "apiserver.crt")
        async with Client(lambda: kopf.ConnectionInfo(server=cluster.url, token=ADMIN, ca_path=ca)) as client:
            for hostile in (0, HOSTILE):
                crowds.append(await measure(cluster, client, hostile))
                report(line(crowds[-1]))
    write(DOCS, on, crowds)
    print("\n".join(problems(crowds)) or "all as promised")
    return bool(problems(crowds))


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
