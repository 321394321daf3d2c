"""One cluster for each test process; each test has a namespace of its own, and an operator that looks only there."""

from __future__ import annotations

import asyncio
import gc
import itertools
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import kopf
import pytest
import pytest_asyncio
import yaml
from tests.operator import shop
from tests.operator.cluster import MANIFESTS, OPERATOR, Cluster, running

from tidings_cli.programs import ProgramError, ensure
from tidings_cli.testing.fixtures import ports
from tidings_cli.testing.programs import Ports
from tidings_operator import reconciling
from tidings_operator.client import Client
from tidings_operator.operating import Operator
from tidings_operator.settings import Settings

__all__ = ["ports"]
PATIENCE = 60.0
_numbers = itertools.count(1)


@pytest_asyncio.fixture(autouse=True)
async def connections_closed() -> AsyncIterator[None]:
    """Wait until every connection of a test is closed: aiohttp closes TLS connections some steps after their session.

    Those that stay open fail this test, and not whichever runs when the garbage collector finds them.
    """
    yield
    transports = asyncio.get_running_loop()._transports  # type: ignore[attr-defined] # asyncio has no public list

    def left() -> list[Any]:
        return [item for item in list(transports.values()) if item.get_extra_info("socket").fileno() != -1]

    deadline = time.monotonic() + PATIENCE
    while still := left():
        assert time.monotonic() < deadline, f"left open: {still}"
        gc.collect()  # kopf leaves the generators of its watches to the collector
        await asyncio.sleep(0.01)


@pytest.fixture(scope="session")
def cluster(ports: Ports, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Yield a cluster with our kinds, Dapr's kinds, and the operator's rights."""
    try:
        ensure("kube-apiserver", "etcd", report=print)
    except ProgramError as error:
        pytest.skip(f"NOT TESTED, no API server can be had here: {error}")
    with running(tmp_path_factory.mktemp("cluster"), ports) as started:
        for name in ("namespace", "rbac"):
            for manifest in yaml.safe_load_all((MANIFESTS / f"{name}.yaml").read_text()):
                started.apply(manifest)
        yield started


@pytest.fixture
def namespace(cluster: Cluster) -> str:
    """Return a namespace that only this test uses; without controllers it could not be deleted, and need not be.

    It is the only one with resources: `tidings plan` looks at those of the whole cluster.
    """
    for kind in ("eventsubscriptions", "eventreplays", "eventtypes"):
        left = cluster.get(f"/apis/{shop.GROUP}/{kind}")["items"]
        for used in {item["metadata"]["namespace"] for item in left}:
            cluster.delete(f"/apis/{shop.GROUP}/namespaces/{used}/{kind}")
    name = f"test-{next(_numbers)}"
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    return name


def login(cluster: Cluster, token: str = OPERATOR, server: str = "") -> Callable[[], kopf.ConnectionInfo]:
    """Return the connection to the cluster, by default a direct one."""
    ca = str(cluster.folder / "certs" / "apiserver.crt")
    return lambda: kopf.ConnectionInfo(server=server or cluster.url, token=token, ca_path=ca)


Start = Callable[..., Awaitable[Operator]]


@pytest_asyncio.fixture
async def operator(
    cluster: Cluster, namespace: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Start]:
    """Start operators in this process: `await operator()`; they end with the test."""
    monkeypatch.setattr(reconciling, "MAP_DELAY", 0.1)  # an operator that has a map to draw is not idle
    caplog.set_level(logging.INFO)
    for noisy in ("httpx2", "kopf.objects"):
        caplog.set_level(logging.WARNING, noisy)
    started: list[tuple[Operator, asyncio.Task[None]]] = []

    async def start(
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        server: str = "",
        patience: float = PATIENCE,
        token: str = OPERATOR,
        **how: Any,
    ) -> Operator:
        quiet = {"observe": 0.0, "notify": 0.0}
        value = {"namespaces": (namespace,), "host": "127.0.0.1", "port": 0, "lease": False, **quiet, **how}
        made = Operator(Settings(**value), login(cluster, token, server), clock)
        task = asyncio.create_task(made.run())
        started.append((made, task))
        await until(lambda: made.synced.is_set() or task.done(), "the operator has seen everything", patience)
        if task.done():
            task.result()
        return made

    yield start
    died = [task for _, task in started if task.done() and not task.cancelled()]
    for _, task in started:
        task.cancel()
    await asyncio.gather(*(task for _, task in started), return_exceptions=True)
    for task in died:
        task.result()


@pytest_asyncio.fixture
async def client(cluster: Cluster) -> AsyncIterator[Client]:
    """Yield the operator's own client, as the operator."""
    async with Client(login(cluster)) as opened:
        yield opened


async def until(check: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    """Wait for a check to give something; the cluster's other side runs in this loop, so never block."""
    deadline = time.monotonic() + patience
    while True:
        result = await asyncio.to_thread(check)
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {patience:.0f} s: {what}")
        await asyncio.sleep(0.05)


def manifest(name: str, folder: Path = MANIFESTS) -> list[Any]:
    """Return all documents of one of the operator's manifests."""
    return list(yaml.safe_load_all((folder / f"{name}.yaml").read_text()))
