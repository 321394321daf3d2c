"""EventReplays against the real archive: what is meant is sent, nothing else, and nothing more once it is cancelled."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tests.operator import shop
from tests.operator.cluster import Cluster, path_of
from tests.operator.conftest import Start, until
from tests.operator.serving import serving
from tests.unit.test_archive_service import Archive, dead, fact, patience, running

from tidings_cli.testing.programs import Ports
from tidings_cli.testing.serving import Served
from tidings_operator import replaying

__all__ = ["patience"]
pytestmark = pytest.mark.real
BOXED = "kitchen.pizzaBoxed.v1"
TARGET = "pickup-pizza-boxed"


def at(minute: int) -> str:
    return f"2026-03-14T12:{minute:02}:00Z"


@pytest_asyncio.fixture
async def archive(tmp_path: Path) -> AsyncIterator[Archive]:
    """Yield the service with nine events and five dead letters, a minute between each and the next."""
    async with running(tmp_path) as made:
        events = (fact(BOXED, f"e-{n}", time=at(n), data={"orderId": f"o-{n}", "size": n}) for n in range(9))
        await made.receive(BOXED, *events)
        letters = (dead(f"e-{n}", time=at(n), data={"orderId": f"o-{n}", "size": n}) for n in range(5))
        await made.receive("deadletter.pickup", *letters)
        yield made


@pytest_asyncio.fixture
async def served(archive: Archive, ports: Ports) -> AsyncIterator[Served]:
    """Serve the archive over HTTP."""
    async with serving(archive.http, ports.take()) as server:
        yield server


@pytest.fixture(autouse=True)
def target(cluster: Cluster, namespace: str) -> None:
    cluster.apply(shop.event_type(namespace, "kitchen.pizzaBoxed", owner={"team": "kitchen"}, producers=["kitchen"]))
    reads = {"type": "kitchen.pizzaBoxed", "consumer": {"appId": "pickup"}}
    cluster.apply(shop.subscription(namespace, TARGET, **reads))


def order(cluster: Cluster, namespace: str, source: str, expected: dict[str, Any], **how: Any) -> dict[str, Any]:
    """Return an EventReplay that somebody applies."""
    value = shop.replay(
        namespace,
        source={"kind": source},
        target={"subscription": TARGET},
        filter=expected,
        **{"rate": 100, "confirmationTimeout": "1s", **how},
    )
    applied: dict[str, Any] = cluster.apply(value)
    return applied


def phase(cluster: Cluster, manifest: dict[str, Any]) -> str:
    return str(shop.status(cluster, manifest).get("phase"))


def sent(archive: Archive) -> list[str]:
    return sorted(item["id"] for item in archive.sent("pickup"))


BOTH: list[tuple[dict[str, Any], list[int]]] = [
    ({}, [0, 1, 2, 3, 4]),
    ({"type": "kitchen.pizzaBoxed", "since": at(1), "until": at(3)}, [1, 2]),
    ({"ids": ["e-0", "e-3"]}, [0, 3]),
    ({"match": [{"exact": {"data.orderId": "o-2"}}]}, [2]),
    ({"match": [{"not": {"suffix": {"data.orderId": "-2"}}}], "until": at(4)}, [0, 1, 3]),
]
CASES = [
    *(pytest.param("DeadLetters", expected, result, id=f"letters-{n}") for n, (expected, result) in enumerate(BOTH)),
    pytest.param("DeadLetters", {"match": [{"cel": "event.data.size > 2"}]}, [3, 4], id="letters-cel"),
    pytest.param("DeadLetters", {"match": [{"cel": "event.data.siz > 2"}]}, [], id="letters-failing"),
    pytest.param("DeadLetters", {"reason": "no such"}, [0, 1, 2, 3, 4], id="letters-reason"),
    pytest.param("DeadLetters", {"reason": "else"}, [], id="letters-other-reason"),
    pytest.param("Archive", BOTH[0][0], [*range(9)], id="archive-0"),
    *(pytest.param("Archive", expected, result, id=f"archive-{n}") for n, (expected, result) in enumerate(BOTH) if n),
]


@pytest.mark.parametrize(("source", "expected", "actual"), CASES)
async def test_what_is_meant_is_sent(
    cluster: Cluster,
    namespace: str,
    operator: Start,
    archive: Archive,
    served: Served,
    source: str,
    expected: dict[str, Any],
    actual: list[int],
) -> None:
    counted = order(cluster, namespace, source, expected, dryRun=True)
    await operator(archive_url=served.url, replay_poll=0.1)
    await until(lambda: phase(cluster, counted) == "Completed", "it is counted")
    assert (shop.status(cluster, counted)["matched"], sent(archive)) == (len(actual), [])
    cluster.delete(path_of(counted))
    await until(lambda: cluster.get(path_of(counted)) is None, "an ended one is deleted at once")

    manifest = order(cluster, namespace, source, expected)
    await until(lambda: phase(cluster, manifest) == "Completed", "it is done")
    await until(lambda: len(sent(archive)) >= len(actual), "all are sent")
    assert sent(archive) == [f"e-{n}" for n in actual]
    status = shop.status(cluster, manifest)
    assert (status["matched"], status["sent"]) == (len(actual), len(actual))
    assert [(item["what"], item["by"]) for item in status["audit"]] == [
        ("started", "ada"),
        ("completed", "tidings-operator"),
    ]
    await until(lambda: not cluster.get(path_of(manifest))["metadata"].get("finalizers"), "nothing holds it any more")


async def test_deleting_it_cancels_it(
    cluster: Cluster,
    namespace: str,
    operator: Start,
    archive: Archive,
    served: Served,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(replaying, "OUTAGE", 0.5)
    manifest = order(cluster, namespace, "Archive", {}, rate=0.05)
    await operator(archive_url=served.url, replay_poll=0.1)
    await until(lambda: shop.status(cluster, manifest).get("matched") == 9, "it runs")
    assert cluster.get(path_of(manifest))["metadata"]["finalizers"] == [replaying.FINALIZER]

    # While the archive cannot be told, the order stays, and says so.
    await served.stop()
    cluster.delete(path_of(manifest))
    await until(lambda: _reason(cluster, manifest) == "ArchiveUnreachable", "it says what it waits for")
    assert replaying.FINALIZER in shop.conditions(cluster, manifest)["Ready"]["message"]
    await served.start()
    await until(lambda: cluster.get(path_of(manifest)) is None, "it is gone")

    existing = await archive.get(f"/replays/{manifest['metadata']['uid']}")
    assert existing["state"] == "cancelled"
    assert existing["sent"] < 9
    entries = [(entry["who"], entry["action"]) for entry in (await archive.get("/audit"))["entries"]]
    assert ("EventReplay again, which was deleted", "cancel") in entries
    assert any(event["reason"] == "Cancelled" for event in shop.events(cluster, namespace))


async def test_a_running_one_does_not_keep_its_namespace_terminating_once_the_archive_is_gone(
    cluster: Cluster, namespace: str, operator: Start, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The namespace controller deletes the archive, too, and then waits for the finalizer of the replay."""
    monkeypatch.setattr(replaying, "OUTAGE", 0.5)
    manifest = order(cluster, namespace, "Archive", {}, rate=0.05)
    await operator(archive_url=served.url, replay_poll=0.1)
    await until(lambda: shop.status(cluster, manifest).get("matched") == 9, "it runs")
    await served.stop()
    cluster.delete(path_of(manifest))
    await until(lambda: _reason(cluster, manifest) == "ArchiveUnreachable", "it waits for the archive")
    cluster.delete(f"/api/v1/namespaces/{namespace}")
    await until(lambda: cluster.get(path_of(manifest)) is None, "nothing keeps the namespace")


async def test_deleting_it_ends_the_release_of_dead_letters(
    cluster: Cluster, namespace: str, operator: Start, archive: Archive, served: Served
) -> None:
    manifest = order(cluster, namespace, "DeadLetters", {}, rate=0.05)
    await operator(archive_url=served.url)
    await until(lambda: sent(archive), "one is released")
    cluster.delete(path_of(manifest))
    assert cluster.get(path_of(manifest)) is None, "nothing holds it"
    later = cluster.apply(shop.subscription(namespace, "later", type="kitchen.pizzaBoxed"))
    await until(lambda: shop.conditions(cluster, later), "the operator goes on")
    before = len(sent(archive))
    await until(lambda: shop.status(cluster, later).get("topics"), "and on")
    assert before <= 2
    letters = (await archive.get("/deadletters"))["deadLetters"]
    assert len(letters) == 5 - len(sent(archive))


def _reason(cluster: Cluster, manifest: dict[str, Any]) -> str:
    existing = cluster.get(path_of(manifest))
    conditions = ((existing or {}).get("status") or {}).get("conditions", [])
    return next((str(condition["reason"]) for condition in conditions if condition["type"] == "Ready"), "")
