"""Suspending subscriptions through the archive's API. The cluster is in tests/operator, the sidecars in integration."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx2
import msgspec
import pytest
from pydantic import SecretStr
from tests.support.newsroom import Newsroom
from tests.support.planned import INVENTORY, PLANNED

from tidings_archive import suspensions
from tidings_archive.settings import ArchiveSettings
from tidings_cli.up.backends import BROKERS, STORES, choose
from tidings_cli.up.files import write_private
from tidings_cli.up.folder import RunFolder
from tidings_cli.up.prepare import Prepared
from tidings_cli.up.project import Home, Project
from tidings_cli.up.system import PlanRefused, System
from tidings_plan.resources import Inventory
from tidings_plan.resources.subscription import Filter, Routes

BOXED, TOPIC = "pickup-pizza-boxed", "kitchen.pizzaBoxed.v1"
TOKEN = {"Authorization": "Bearer s3cret"}


@pytest.fixture
async def newsroom(tmp_path: Path) -> AsyncIterator[Newsroom]:
    async with Newsroom.opened(tmp_path) as room:
        (tmp_path / "suspended").mkdir()
        room.settings = ArchiveSettings(
            map=room.map, suspensions=str(tmp_path / "suspended"), token=SecretStr("s3cret")
        )
        yield room


@pytest.fixture
async def http(newsroom: Newsroom) -> AsyncIterator[httpx2.AsyncClient]:
    base = newsroom.url.removesuffix("/console")
    async with httpx2.AsyncClient(base_url=base, timeout=60, trust_env=False, headers=TOKEN) as client:
        async with asyncio.timeout(60):
            while (await client.get("/readyz")).status_code != 200:  # noqa: ASYNC110 - another task migrates the tables
                await asyncio.sleep(0.01)
        yield client


def system() -> System:
    backends = choose("nats", BROKERS, "broker"), choose("sqlite", STORES, "state")
    home = Home(Path(), Project(name="pizza", open="orders"), ())
    return System(home, PLANNED, (), (), *backends, {}, {}, INVENTORY)


@contextmanager
def local_run(newsroom: Newsroom) -> Iterator[None]:
    """Do what `tidings up` does with the folder."""

    async def work() -> None:
        folder, applied = newsroom.map.with_name("suspended"), None
        while True:
            names = {file.name for file in folder.iterdir()}
            if names != applied:
                write_private(newsroom.map, json.dumps(system().suspending(names).map))
                applied = names
            await asyncio.sleep(0.01)

    task = asyncio.create_task(work())
    try:
        yield
    finally:
        task.cancel()


async def suspend(http: httpx2.AsyncClient, name: str, *, suspended: bool = True) -> httpx2.Response:
    return await http.patch(f"/subscriptions/{name}", json={"suspended": suspended, "by": "ada"})


async def test_a_subscription_is_suspended_and_resumed_and_both_are_in_the_audit_log(
    newsroom: Newsroom, http: httpx2.AsyncClient
) -> None:
    assert (await http.get("/subscriptions")).json() == {"suspended": []}
    with local_run(newsroom):
        assert (await suspend(http, BOXED)).json() == {"suspended": [BOXED]}
        assert (await http.get("/subscriptions")).json() == {"suspended": [BOXED]}
        assert (await suspend(http, BOXED)).status_code == 200
        assert (await suspend(http, BOXED, suspended=False)).json() == {"suspended": []}
    entries = (await http.get("/audit")).json()["entries"]
    assert [(entry["who"], entry["action"], entry["target"]) for entry in entries] == [
        ("ada", "resumed", f"subscription/{BOXED}"),
        ("ada", "suspended", f"subscription/{BOXED}"),
        ("ada", "suspended", f"subscription/{BOXED}"),
    ]


@pytest.mark.parametrize(
    ("name", "status", "reason"),
    [
        ("nobody", 404, "the plan has no subscription 'nobody'"),
        ("..", 404, "Not Found"),
        ("%2e%2e%2fmap", 404, "Not Found"),
        ("Up", 422, "String should match pattern"),
        ("a" * 254, 422, "at most 253"),
        ("a%00b", 400, "NUL"),
    ],
)
async def test_a_name_that_no_subscription_has_changes_nothing(
    newsroom: Newsroom, http: httpx2.AsyncClient, name: str, status: int, reason: str
) -> None:
    answer = await suspend(http, name)
    assert (answer.status_code, reason in answer.text) == (status, True), answer.text
    assert list(newsroom.map.with_name("suspended").iterdir()) == []
    assert (await http.get("/audit")).json()["entries"] == []


async def test_one_of_several_on_a_topic_is_not_suspended(newsroom: Newsroom, http: httpx2.AsyncClient) -> None:
    drawn = json.loads(newsroom.map.read_text())
    boxed = next(each for each in drawn["subscriptions"] if each["name"] == BOXED)
    drawn["subscriptions"] += [boxed | {"name": "other"}, boxed | {"name": "of-another-app", "app": "loyalty"}]
    newsroom.map.write_text(json.dumps(drawn))
    answer = await suspend(http, BOXED)
    assert (answer.status_code, "shares a topic with other," in answer.text) == (409, True)
    assert list(newsroom.map.with_name("suspended").iterdir()) == []


async def test_a_change_that_nothing_carries_out_is_reported(
    http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suspensions, "DEADLINE", 0.01)
    answer = await suspend(http, BOXED)
    assert (answer.status_code, "`tidings up` has not applied it" in answer.text) == (503, True)
    assert (await http.get("/audit")).json()["entries"] == []


async def test_only_operators_suspend(http: httpx2.AsyncClient) -> None:
    http.headers.pop("Authorization")
    assert (await http.get("/subscriptions")).status_code == 200
    assert (await suspend(http, BOXED)).status_code == 401


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({}, "ARCHIVE_SUSPENSIONS is not set"),
        ({"suspensions": "kubernetes"}, "KUBERNETES_SERVICE_HOST is not set"),
        ({"suspensions": "/nowhere"}, "ARCHIVE_MAP is not set"),
        ({"suspensions": "/nowhere", "map": "/nowhere/map.json"}, "ARCHIVE_MAP=/nowhere/map.json cannot be read"),
    ],
)
async def test_an_archive_that_cannot_suspend_says_why(
    newsroom: Newsroom, http: httpx2.AsyncClient, settings: dict[str, str], reason: str
) -> None:
    newsroom.settings = ArchiveSettings.model_validate(settings)
    for answer in (await http.get("/subscriptions"), await suspend(http, BOXED)):
        assert (answer.status_code, reason in answer.text) == (404, True), answer.text


# -- local run --------------------------------------------------------------------------------------------------------


def prepared(folder: Path) -> Prepared:
    run_folder = RunFolder(folder)
    run_folder.prepare([], fresh=False)
    return Prepared(system(), run_folder, (), {}, "to-dapr", "to-app", "pw")


def test_the_plan_has_no_dapr_subscription_of_a_suspended_one() -> None:
    suspended = system().suspending([BOXED])
    assert ("pubsub", TOPIC) in system().subscriptions()["pickup"]
    assert ("pubsub", TOPIC) not in suspended.subscriptions()["pickup"]
    assert [each["name"] for each in suspended.map["subscriptions"] if each["suspended"]] == [BOXED]


def test_one_of_several_on_a_topic_is_refused_and_the_inventory_stays() -> None:
    inventory = Inventory(INVENTORY.types.values())
    boxed = INVENTORY.subscriptions["default", BOXED]
    (event,) = boxed.spec.events
    for name in ("one", "two"):
        events = (msgspec.structs.replace(event, filters=(Filter(cel=f"event.data.orderId == '{name}'"),)),)
        spec = msgspec.structs.replace(boxed.spec, events=events, routes=Routes(default=f"/{name}"))
        inventory.put(replace(boxed, metadata=msgspec.structs.replace(boxed.metadata, name=name), spec=spec))
    shared = replace(system(), inventory=inventory)
    with pytest.raises(PlanRefused, match="a topic is suspended as a whole"):
        shared.suspending(["one"])
    assert not any(each.spec.suspend for each in inventory.subscriptions.values())
    assert ("pubsub", TOPIC) not in shared.suspending(["one", "two"]).subscriptions()["pickup"]


def test_a_suspension_outlives_a_restart_but_not_fresh_data(tmp_path: Path) -> None:
    folder = prepared(tmp_path).folder
    (folder.suspended / BOXED).touch()
    folder.prepare([], fresh=False)
    assert folder.suspended_names == {BOXED}
    folder.prepare([], fresh=True)
    assert folder.suspended_names == set()
