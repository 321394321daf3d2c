"""Persons are forgotten through the archive, which publishes it once to all services."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa
from tests.unit.test_archive_service import PLAN

from tidings import Service, Settings
from tidings.fastapi import create_app
from tidings.observability import metrics
from tidings.outbox.sql import Database
from tidings.outbox.table import TableOutbox
from tidings.subject_keys import KeyFile
from tidings.testing import MemoryBroker, MemorySidecar, lifespan
from tidings_archive import access, api, api_forgetting, background, forgetting, retention
from tidings_archive.handlers import handlers
from tidings_archive.migrations import upgrade
from tidings_archive.responses import ERRORS
from tidings_archive.settings import ArchiveSettings, settings

TOPIC = "tidings.subjectForgotten.v1"


class Archive:
    def __init__(self, folder: Path, broker: MemoryBroker) -> None:
        outbox = TableOutbox.on(f"sqlite:///{folder / 'archive.db'}", tables=upgrade)
        own = Settings(tidings_instance="one")
        sidecar = MemorySidecar("archive", broker)
        self.service = Service("archive", handlers, settings=own, sidecar=sidecar, outbox=outbox, policy=PLAN.policy)
        chosen = ArchiveSettings(token="secret")  # type: ignore[arg-type]
        routers = [api.router, api_forgetting.router]
        admit = access.admission(lambda: chosen)
        self.app = create_app(self.service, routers, admit=admit, background=background.running, errors=ERRORS)
        self.app.dependency_overrides[settings] = lambda: chosen
        transport = httpx2.ASGITransport(self.app)
        self.http = httpx2.AsyncClient(transport=transport, base_url="http://archive")

    async def forget(self, subject: str, token: str = "secret") -> httpx2.Response:
        headers = {"authorization": f"Bearer {token}"}
        return await self.http.post("/subjects/forget", json={"subject": subject, "by": "ann"}, headers=headers)


@pytest.fixture
def broker() -> MemoryBroker:
    return MemoryBroker()


@pytest.fixture
async def archive(tmp_path: Path, broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Archive]:
    monkeypatch.setattr(forgetting, "INTERVAL", 0.01)
    made = Archive(tmp_path, broker)
    async with lifespan(made.app), made.http:
        await made.service.started()
        yield made


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110 - a condition of the archive, which has no event for it
            await asyncio.sleep(0.005)


async def told(broker: MemoryBroker, number: int = 1) -> list[dict[str, Any]]:
    await until(lambda: len(broker.events(TOPIC)) >= number)
    return broker.events(TOPIC)


async def test_a_person_is_forgotten_over_http_and_the_services_are_notified_a_single_time(
    keys: KeyFile, archive: Archive, broker: MemoryBroker
) -> None:
    keys.create("p-1")
    answer = await archive.forget("p-1")
    assert (answer.status_code, answer.json()) == (200, {"subject": "p-1", "existed": True})
    assert keys.key("p-1") is None
    assert (await archive.forget("p-1")).json() == {"subject": "p-1", "existed": False}
    keys.destroy("p-2")  # as the command line does, in the same file
    events = await told(broker, 2)
    assert [(event["data"]["person"], event["subject"], event["type"]) for event in events] == [
        ("p-1", "p-1", "tidings.subjectForgotten"),
        ("p-2", "p-2", "tidings.subjectForgotten"),
    ]
    await until(lambda: keys.forgotten() == [])
    entries = (await archive.http.get("/audit")).json()["entries"]
    assert [(entry["who"], entry["target"], entry["detail"]) for entry in entries][-1] == (
        "ann", "subject/p-1", "key destroyed",
    )  # fmt: skip


async def test_only_an_operator_forgets(keys: KeyFile, archive: Archive) -> None:
    key = keys.create("p-1")
    assert (await archive.forget("p-1", token="wrong")).status_code == 401
    assert keys.create("p-1") == key


async def test_without_keys_no_person_is_forgotten(archive: Archive) -> None:
    answer = await archive.forget("p-1")
    assert answer.status_code == 409
    assert "set TIDINGS_KEYS" in answer.json()["detail"]


async def test_every_replica_gives_the_event_the_same_id(
    keys: KeyFile, tmp_path: Path, broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forgetting, "INTERVAL", 0.01)
    monkeypatch.setattr(KeyFile, "announced", lambda *_: None)  # it dies between publishing and recording
    keys.destroy("p-1")
    archive = Archive(tmp_path, broker)
    async with lifespan(archive.app), archive.http:
        assert len({event["id"] for event in await told(broker, 2)}) == 1


async def test_background_tasks_wait_for_the_tables(
    tmp_path: Path, broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive, failed = Archive(tmp_path, broker), list[str]()
    monkeypatch.setattr(metrics, "background_failed", failed.append)
    start, allowed = archive.service.outbox.start, asyncio.Event()

    async def start_later(deliver: Any) -> None:
        await allowed.wait()
        await start(deliver)

    monkeypatch.setattr(archive.service.outbox, "start", start_later)
    async with lifespan(archive.app):
        for _ in range(20):  # in which the tasks would fail for lack of tables
            await asyncio.sleep(0)
        await asyncio.to_thread(time.sleep, 0.05)
        allowed.set()
        await archive.service.started()
        await archive.service.execute(_nothing, None)
    assert failed == []


async def test_background_tasks_end_before_the_database_closes(
    tmp_path: Path, broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive, failed, begun = Archive(tmp_path, broker), list[str](), asyncio.Event()
    monkeypatch.setattr(metrics, "background_failed", failed.append)

    async def read_on(database: Database, _rules: object) -> None:
        while True:
            async with database.connect(write=False) as connection:
                await connection.execute(sa.select(sa.true()))
            begun.set()

    monkeypatch.setattr(retention, "run", read_on)
    async with lifespan(archive.app):
        await asyncio.wait_for(begun.wait(), 60)
    assert failed == []


async def _nothing(_message: object, _context: object) -> None: ...
