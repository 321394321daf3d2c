"""Notices to owners: from the state of the real API server, through the real archive."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from pydantic import SecretStr
from tests.operator import shop, webhooks
from tests.operator.cluster import Cluster
from tests.operator.conftest import Start, until
from tests.operator.serving import serving
from tests.operator.webhooks import Guarded, guarded
from tests.unit.test_archive_notices import Room, opened

from tidings.testing import Clock
from tidings_archive import notices
from tidings_archive.settings import ArchiveSettings
from tidings_cli.testing.programs import Ports

__all__ = ["guarded"]
pytestmark = pytest.mark.real
OWNER = {"team": "orders", "contact": "orders@pizza.example"}
KITCHEN = {"appId": "kitchen", "owner": "kitchen", "contact": "#kitchen"}
PRODUCER = {"name": "orders", "contact": "orders@pizza.example", "role": "producer"}
CONSUMER = {"name": "kitchen", "contact": "#kitchen", "role": "consumer"}
TOTAL = {"type": "object", "properties": {"total": {"type": "number"}}, "required": ["total"]}
FREQUENT = {"notify": 0.2, "notify_grace": 0.0}


@pytest_asyncio.fixture
async def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Room]:
    """Yield an archive that requires a token."""
    chosen = ArchiveSettings(token=SecretStr("s3cret"))
    monkeypatch.setattr(notices, "settings", lambda: chosen)
    async with opened(tmp_path, Clock(), chosen) as made:
        yield made


@pytest_asyncio.fixture
async def how(room: Room, ports: Ports, tmp_path: Path, namespace: str) -> AsyncIterator[dict[str, Any]]:
    """Return settings of an operator that knows the archive's address and token."""
    tokens = tmp_path / "tokens"
    tokens.mkdir()
    (tokens / namespace).write_text("s3cret")
    async with serving(room.http, ports.take()) as server:
        yield {"archive_url": server.url, "archive_tokens": str(tokens), **FREQUENT}


def data(room: Room, kind: str) -> list[dict[str, Any]]:
    return [event["data"] for event in room.broker.events(f"tidings.{kind}.v1")]


async def test_endings_and_failures_are_notified_once_even_by_a_second_operator(
    cluster: Cluster, namespace: str, operator: Start, room: Room, how: dict[str, Any]
) -> None:
    today = datetime.now(UTC).date()
    far, near = today + timedelta(days=90), today + timedelta(days=20)
    versions = [
        {"name": name, "schema": {"type": "object"}, "deprecation": {"effective": "2026-01-01", "removal": str(day)}}
        for name, day in (("v1", far), ("v2", near))
    ]
    versions.append({"name": "v3", "schema": {"type": "object"}})
    cluster.apply(shop.event_type(namespace, owner=OWNER, versions=versions))
    cluster.apply(shop.subscription(namespace, versions=["v1", "v3"], consumer=KITCHEN))
    cluster.apply(shop.subscription(namespace, "lost", type="orders.orderLost", consumer=KITCHEN))
    await operator(**how)
    await until(lambda: data(room, "subscriptionFailed"), "the failed subscription is notified")
    await until(lambda: data(room, "versionDeprecated") and data(room, "removalApproached"), "the endings are, too")
    await operator(**how)  # as after a restart: it remembers nothing, and the archive does
    other = cluster.apply(shop.subscription(namespace, "lost-too", type="orders.orderLost", consumer=KITCHEN))
    await until(lambda: len(data(room, "subscriptionFailed")) == 2, "the second operator sends notices")
    [deprecated], [removed] = data(room, "versionDeprecated"), data(room, "removalApproached")
    assert (deprecated["version"], deprecated["removal"]) == ("v1", str(far))
    assert deprecated["owners"] == [PRODUCER, CONSUMER]
    assert (removed["version"], removed["daysLeft"], removed["owners"]) == ("v2", 20, [PRODUCER])
    first, second = data(room, "subscriptionFailed")
    assert (first["subscription"], second["subscription"]) == ("lost", other["metadata"]["name"])
    assert (first["namespace"], first["app"], first["reason"]) == (namespace, "kitchen", "UnknownType")
    assert "orders.orderLost" in first["message"]
    assert first["owners"] == [CONSUMER]


async def test_nothing_is_notified_within_the_grace_period(
    cluster: Cluster, namespace: str, operator: Start, room: Room, how: dict[str, Any]
) -> None:
    lost = cluster.apply(shop.subscription(namespace, "lost", type="orders.orderLost", consumer=KITCHEN))
    made = await operator(**{**how, "notify": 3600.0, "notify_grace": 600.0})
    await until(lambda: shop.conditions(cluster, lost).get("Ready", {}).get("status") == "False", "it is not ready")
    await until(lambda: made.queue.idle, "its status is written")
    await made.notifier.send()
    assert not data(room, "subscriptionFailed")
    made.notifier._clock = lambda: datetime.now(UTC) + timedelta(seconds=601)
    await made.notifier.send()
    await room.published("tidings.subscriptionFailed.v1", 1)


async def test_an_archive_that_is_away_delays_nothing_and_gets_the_notices_later(
    cluster: Cluster, namespace: str, operator: Start, room: Room, how: dict[str, Any]
) -> None:
    lost = cluster.apply(shop.subscription(namespace, "lost", type="orders.orderLost", consumer=KITCHEN))
    made = await operator(**{**how, "archive_url": "http://127.0.0.1:9"})
    await until(lambda: shop.conditions(cluster, lost).get("Ready", {}).get("status") == "False", "it is reconciled")
    await until(lambda: made.notifier._unavailable == {namespace}, "the archive does not answer")
    cluster.apply(shop.event_type(namespace, "orders.orderLost"))
    await until(lambda: shop.conditions(cluster, lost)["Ready"]["status"] == "True", "it is still reconciled")
    await until(lambda: not made.notifier._present(datetime.now(UTC)), "the operator's cache has the status, too")
    cluster.apply(shop.subscription(namespace, "again", type="orders.orderGone", consumer=KITCHEN))
    made.archives._url = how["archive_url"]
    await until(lambda: data(room, "subscriptionFailed"), "the archive is back")
    assert [item["subscription"] for item in data(room, "subscriptionFailed")] == ["again"]


async def test_a_refused_incompatible_change_is_notified_but_not_a_dry_run(
    cluster: Cluster, namespace: str, guarded: Guarded, room: Room, how: dict[str, Any]
) -> None:
    versions = [{"name": "v1", "schema": TOTAL}]
    cluster.apply(shop.event_type(namespace, owner=OWNER, versions=versions, compatibility="Backward"))
    cluster.apply(shop.subscription(namespace, consumer=KITCHEN))
    made = await guarded(**{**how, "notify": 3600.0})
    narrower = [{"name": "v1", "schema": {"type": "object", "properties": {"total": {"type": "string"}}}}]
    change = shop.event_type(namespace, owner=OWNER, versions=narrower, compatibility="Backward")
    assert await webhooks.refusal(cluster, change, dry=True)
    assert not made.notifier._proposals
    refused = await webhooks.refusal(cluster, change)
    await made.notifier.send()
    [notice] = [event["data"] for event in await room.published("tidings.incompatibleChangeProposed.v1", 1)]
    assert (notice["refused"], notice["eventType"], notice["owners"]) == (
        True,
        "orders.orderConfirmed",
        [PRODUCER, CONSUMER],
    )
    assert notice["problems"][0] in refused
    assert notice["proposedBy"]


async def test_an_incompatible_change_that_no_webhook_saw_is_notified(
    cluster: Cluster, namespace: str, operator: Start, room: Room, how: dict[str, Any]
) -> None:
    kind = cluster.apply(shop.event_type(namespace, owner=OWNER, versions=[{"name": "v1", "schema": TOTAL}]))
    cluster.apply(shop.subscription(namespace, consumer=KITCHEN))
    await operator(**how)
    await until(lambda: shop.status(cluster, kind).get("accepted"), "its schema is accepted")
    narrower = [{"name": "v1", "schema": {"type": "object", "properties": {"total": {"type": "string"}}}}]
    await asyncio.to_thread(cluster.apply, shop.event_type(namespace, owner=OWNER, versions=narrower))
    await until(lambda: data(room, "incompatibleChangeProposed"), "owners are notified")
    [notice] = data(room, "incompatibleChangeProposed")
    assert (notice["refused"], notice["owners"]) == (False, [PRODUCER, CONSUMER])
    assert "total" in notice["problems"][0]
