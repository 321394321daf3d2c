"""Numbered events and orders during upgrades of the cluster, and while pods and sidecars are killed."""

from __future__ import annotations

import asyncio
import itertools
import random
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from scenarios.counting import Numbers
from tests.e2e.cluster.conftest import Guest, Installed
from tests.e2e.cluster.test_cluster_running import TOLD, apply
from tests.support.livecluster import KIND, Cluster

PAUSE = 0.01
"""Seconds from one number to the next."""
PARCELS = map("trouble-{}".format, itertools.count())
SEED = random.randrange(1_000_000)


@pytest.fixture(scope="module", autouse=True)
def subscribed(installed: Installed) -> Iterator[None]:
    apply(installed.apps, TOLD)
    installed.apps.kubectl("wait", "--for=condition=Ready", "esub/receiver-told", "--timeout=60s")
    yield
    installed.apps.kubectl("delete", "esub/receiver-told")


@asynccontextmanager
async def load(cluster: Cluster, guest: Guest) -> AsyncIterator[None]:
    """Send numbers all the time and an order every other second; afterwards, check that everything has arrived."""
    async with cluster.http_async() as http:
        numbers, parcels, orders = Numbers(cluster.url, http), list[str](), list[str]()
        stopped = asyncio.Event()

        async def count() -> None:
            while not stopped.is_set():
                parcels.append(next(PARCELS))
                await numbers.send(parcels[-1:], pause=PAUSE, patience=300.0)

        async def eat() -> None:
            while not stopped.is_set():
                orders.append(await asyncio.to_thread(guest.order, deliver=len(orders) % 2 == 0, patience=120.0))
                await asyncio.sleep(2)

        async with asyncio.TaskGroup() as group:
            group.create_task(count())
            group.create_task(eat())
            yield
            stopped.set()
        report = await numbers.settled(parcels, patience=120.0)
        print(f"{report}; {len(orders)} orders")  # noqa: T201 - what the test is for
        assert report.faultless, str(report)
        await asyncio.to_thread(guest.eaten, *orders, patience=300.0)


async def test_an_upgrade_under_load_loses_nothing(installed: Installed, guest: Guest) -> None:
    cluster = installed.apps
    before = {pod.metadata.name for pod in cluster.pods()}
    async with load(cluster, guest):
        await asyncio.sleep(3)
        await asyncio.to_thread(installed.install_pizza, "--set", "defaults.podLabels.upgraded=yes")
        await asyncio.to_thread(cluster.roll_out)
        await asyncio.sleep(3)
    left = before & {pod.metadata.name for pod in cluster.pods()}
    assert {name.partition("-")[0] for name in left} == {"nats", "redis", "saas", "smtp", "topology", "archive"}


def kill_pod(cluster: Cluster, pod: Any) -> str:
    """Delete it with a second to say goodbye; a StatefulSet's next pod waits until this one is really gone."""
    cluster.core.delete_namespaced_pod(pod.metadata.name, cluster.namespace, grace_period_seconds=1)
    return f"pod {pod.metadata.name}"


def kill_sidecar(cluster: Cluster, pod: Any) -> str:
    """Kill its daprd with SIGKILL on kind's node; on other clusters, delete the pod."""
    running = [
        container_status
        for container_status in pod.status.container_statuses or ()
        if container_status.name == "daprd" and container_status.state.running
    ]
    if not running or not cluster.context.startswith(KIND):
        return kill_pod(cluster, pod)
    task = running[0].container_id.rpartition("/")[2]
    command = ["docker", "exec", pod.spec.node_name, "ctr", "-n", "k8s.io", "task", "kill", "--signal", "SIGKILL", task]
    subprocess.run(command, check=False, capture_output=True)  # it may have died just now
    return f"sidecar of {pod.metadata.name}"


KILLS: tuple[Callable[[Cluster, Any], str], ...] = (kill_pod, kill_sidecar)


async def test_pods_and_sidecars_die_at_random_and_everything_converges(installed: Installed, guest: Guest) -> None:
    cluster, chance = installed.apps, random.Random(SEED)
    print(f"seed {SEED}")  # noqa: T201 - to have the same again
    async with load(cluster, guest):
        for _ in range(12):
            victim = chance.choice(cluster.pods())
            print(await asyncio.to_thread(chance.choice(KILLS), cluster, victim))  # noqa: T201
            await asyncio.sleep(chance.uniform(2, 6))
        await asyncio.to_thread(cluster.roll_out)
    cluster.kubectl("wait", "--for=condition=Ready", "esub", "--all", "--timeout=60s")


async def test_the_operator_dies_and_subscriptions_go_on(installed: Installed, guest: Guest) -> None:
    installed.tidings.kubectl("delete", "pod", "-l", "app.kubernetes.io/name=tidings-operator", "--wait=false")
    guest.eaten(guest.order())
    installed.tidings.roll_out()
    installed.apps.kubectl("wait", "--for=condition=Ready", "esub", "--all", "--timeout=60s")
