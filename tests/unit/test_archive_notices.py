"""Notices to owners: one event per matter and silence period, and the webhook."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing, suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa
from pydantic import SecretStr, ValidationError
from tests.unit.test_archive_service import PLAN, dead

from tidings import Service, Settings
from tidings.fastapi import create_app
from tidings.outbox.table import TableOutbox
from tidings.testing import Clock, MemoryBroker, MemorySidecar, lifespan
from tidings_archive import api_notices, notices, tables, webhook
from tidings_archive.access import admission
from tidings_archive.api import current_database
from tidings_archive.domain.notice import Message, describe, matter
from tidings_archive.events import (
    DeadLettersAccumulated,
    IncompatibleChangeProposed,
    Notice,
    Owner,
    RemovalApproached,
    SubscriptionFailed,
    VersionDeprecated,
)
from tidings_archive.handlers import handlers
from tidings_archive.settings import ArchiveSettings, settings

HOUR = 3600.0
OWNER = Owner(name="kitchen", contact="#kitchen")
SINCE = datetime(2026, 1, 1, tzinfo=UTC)
FAILED = SubscriptionFailed(
    namespace="pizza", owners=(OWNER,), subscription="s", app="kitchen", reason="UnknownType", message="m", since=SINCE
)
CHANGED = SubscriptionFailed(
    namespace="pizza", owners=(OWNER,), subscription="s", app="kitchen", reason="AccessDenied", message="m", since=SINCE
)
DEPRECATED = VersionDeprecated(
    namespace="pizza", owners=(OWNER,), event_type="a.bDone", version="v1", removal=date(2026, 6, 1), alternative="v2"
)


class Room:
    """An archive on a virtual clock."""

    def __init__(self, broker: MemoryBroker, service: Service, http: httpx2.AsyncClient, clock: Clock) -> None:
        self.broker, self.service, self.http, self.clock = broker, service, http, clock
        self.database = current_database(service)

    @property
    def now(self) -> datetime:
        return datetime.fromtimestamp(self.clock(), UTC)

    async def notify(self, notice: Notice) -> bool:
        return await self.service.execute(notices.notify, notice)

    async def published(self, topic: str, count: int) -> list[dict[str, Any]]:
        async with asyncio.timeout(60):
            while len(self.broker.events(topic)) < count:  # noqa: ASYNC110 - the broker has no event for it
                await asyncio.sleep(0.005)
        return self.broker.events(topic)


@asynccontextmanager
async def opened(folder: Path, clock: Clock, chosen: ArchiveSettings) -> AsyncIterator[Room]:
    broker = MemoryBroker()
    service = Service(
        "archive",
        handlers,
        settings=Settings(tidings_instance="one"),
        sidecar=MemorySidecar("archive", broker),
        outbox=TableOutbox.on(f"sqlite:///{folder / 'archive.db'}", tables=tables.metadata),
        policy=PLAN.policy,
        clock=lambda: datetime.fromtimestamp(clock(), UTC),
    )
    app = create_app(service, [api_notices.router], admit=admission(lambda: chosen))
    app.dependency_overrides[settings] = lambda: chosen
    broker.attach("archive", app, PLAN.subscriptions, resiliency=PLAN.resiliency)
    client = httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://archive")
    async with lifespan(app), client as http:
        while not await service.ready():  # noqa: ASYNC110 - asked, as by a probe
            await asyncio.sleep(0.005)
        yield Room(broker, service, http, clock)
        broker.detach("archive")


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> ArchiveSettings:
    made = ArchiveSettings(
        token=SecretStr("s3cret"), notice_webhook=SecretStr("https://hooks.example/T0/key"), notice_dead_letters=3
    )
    monkeypatch.setattr(notices, "settings", lambda: made)
    return made


@pytest.fixture
async def room(tmp_path: Path, chosen: ArchiveSettings) -> AsyncIterator[Room]:
    async with opened(tmp_path, Clock(), chosen) as made:
        yield made


# -- silence ----------------------------------------------------------------------------------------------------------


async def test_a_matter_is_notified_again_after_its_period_or_when_it_has_changed(room: Room) -> None:
    assert await room.notify(FAILED)
    room.clock.advance(23.9 * HOUR)
    assert not await room.notify(FAILED)
    assert await room.notify(CHANGED)
    assert not await room.notify(CHANGED)
    room.clock.advance(0.2 * HOUR)
    assert await room.notify(FAILED)
    assert not await room.notify(CHANGED)
    events = await room.published("tidings.subscriptionFailed.v1", 3)
    assert [event["data"]["reason"] for event in events] == ["UnknownType", "AccessDenied", "UnknownType"]
    assert len({event["id"] for event in events}) == 3
    assert {(event["source"], event["subject"]) for event in events} == {("archive", "s")}


async def test_the_period_of_a_deprecation_is_a_week(room: Room) -> None:
    assert await room.notify(DEPRECATED)
    room.clock.advance(167 * HOUR)
    assert not await room.notify(DEPRECATED)
    room.clock.advance(1 * HOUR)
    assert await room.notify(DEPRECATED)


async def test_the_record_survives_a_restart(tmp_path: Path, chosen: ArchiveSettings) -> None:
    clock = Clock()
    async with opened(tmp_path, clock, chosen) as first:
        assert await first.notify(FAILED)
    async with opened(tmp_path, clock, chosen) as second:
        assert not await second.notify(FAILED)


async def test_a_matter_that_many_report_concurrently_is_notified_a_single_time(room: Room) -> None:
    assert sorted(await asyncio.gather(*(room.notify(FAILED) for _ in range(8)))) == [False] * 7 + [True]


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        (FAILED, SubscriptionFailed(namespace="other", subscription="s", app="kitchen", reason="UnknownType",
                                    message="m", since=SINCE), False),
        (FAILED, SubscriptionFailed(namespace="pizza", subscription="s", app="kitchen", reason="UnknownType",
                                    message="else", since=SINCE + timedelta(days=1)), True),
        (DeadLettersAccumulated(namespace="n", app="a", count=10, threshold=10),
         DeadLettersAccumulated(namespace="n", app="a", count=19, threshold=10), True),
        (DeadLettersAccumulated(namespace="n", app="a", count=10, threshold=10),
         DeadLettersAccumulated(namespace="n", app="a", count=20, threshold=10), False),
        (RemovalApproached(namespace="n", event_type="a.bDone", version="v1", removal=date(2026, 6, 1), days_left=9),
         RemovalApproached(namespace="n", event_type="a.bDone", version="v1", removal=date(2026, 6, 1), days_left=8),
         True),
    ],
)  # fmt: skip
def test_what_a_change_is(one: Notice, other: Notice, is_same: bool) -> None:
    assert (matter(one) == matter(other)) is is_same


# -- dead letters -----------------------------------------------------------------------------------------------------


async def test_owners_are_notified_of_dead_letters_at_the_limit(
    tmp_path: Path, room: Room, chosen: ArchiveSettings
) -> None:
    map_file = tmp_path / "map.json"
    readers = [{"name": "pickup-pizza-boxed", "app": "pickup", "owner": "shelves", "contact": "#shelves"}]
    map_file.write_text(json.dumps({"subscriptions": readers}))
    chosen = chosen.model_copy(update={"map": map_file, "namespace": "pizza"})
    sender = MemorySidecar("pickup", room.broker)

    async def fail(count: int) -> None:
        for _ in range(count):
            await sender.publish("deadletter.pickup", json.dumps(dead()).encode())
        await room.broker.settle()
        await notices.check_dead_letters(room.service, room.database, chosen)

    await fail(2)
    assert not room.broker.events("tidings.deadLettersAccumulated.v1")
    await fail(1)
    await fail(1)
    await fail(2)  # twice the limit
    first, second = await room.published("tidings.deadLettersAccumulated.v1", 2)
    assert (first["data"]["count"], second["data"]["count"]) == (3, 6)
    assert first["data"]["owners"] == [{"name": "shelves", "contact": "#shelves", "role": "consumer"}]


async def test_old_matters_are_forgotten(room: Room, chosen: ArchiveSettings) -> None:
    await room.notify(FAILED)
    room.clock.advance(notices.KEPT.total_seconds() + 1)
    await notices.check_dead_letters(room.service, room.database, chosen)
    assert (await room.http.get("/notices")).json() == {"notices": []}


# -- the API ----------------------------------------------------------------------------------------------------------

TOKEN = {"Authorization": "Bearer s3cret"}
GOOD = {
    "type": "tidings.versionDeprecated",
    "data": {"namespace": "pizza", "eventType": "a.bDone", "version": "v1", "removal": "2026-06-01"},
}


async def test_a_notice_over_http(room: Room) -> None:
    assert (await room.http.post("/notices", json=GOOD)).status_code == 401
    assert (await room.http.post("/notices", json=GOOD, headers=TOKEN)).json() == {"published": True}
    assert (await room.http.post("/notices", json=GOOD, headers=TOKEN)).json() == {"published": False}
    [notice] = (await room.http.get("/notices")).json()["notices"]
    assert (notice["title"], notice["times"], notice["webhook"]) == ("a.bDone v1 is deprecated [pizza]", 1, "pending")
    assert notice["webhookError"] is None


@pytest.mark.parametrize(
    "body",
    [
        {**GOOD, "type": "tidings.deadLettersAccumulated"},
        {**GOOD, "type": "orders.orderPlaced"},
        {**GOOD, "url": "http://169.254.169.254/"},
        {**GOOD, "data": {**GOOD["data"], "removal": "soon"}},  # type: ignore[dict-item]
        {**GOOD, "data": {**GOOD["data"], "namespace": "n" * 254}},  # type: ignore[dict-item]
        {**GOOD, "data": {**GOOD["data"], "owners": [{"name": "x"}] * 101}},  # type: ignore[dict-item]
        {"type": "tidings.versionDeprecated", "data": {}},
    ],
)
async def test_what_is_no_notice_is_refused(room: Room, body: dict[str, Any]) -> None:
    assert (await room.http.post("/notices", json=body, headers=TOKEN)).status_code == 422
    assert (await room.http.get("/notices")).json() == {"notices": []}


# -- the webhook ------------------------------------------------------------------------------------------------------

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def receiver(status: str = "200 OK", headers: str = "") -> AsyncIterator[tuple[str, list[dict[str, Any]]]]:
    """Serve HTTP on a free port; the URL, and the bodies that have arrived."""
    bodies: list[dict[str, Any]] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A sender that is killed ends its request at any byte.
        with closing(writer), suppress(asyncio.IncompleteReadError, ConnectionError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = int(head.split("content-length:")[1].split("\r\n")[0])
            bodies.append(json.loads(await reader.readexactly(length)))
            writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 2\r\nConnection: close\r\n{headers}\r\nok".encode())
            await writer.drain()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/secret-path", bodies


async def _error_of(room: Room) -> tuple[str, int]:
    async with room.database.connect(write=False) as connection:
        row = (await connection.execute(sa.select(tables.notices))).one()
    return row.error, row.attempts


async def test_a_message_arrives_at_the_webhook_a_single_time(room: Room) -> None:
    await room.notify(FAILED)
    async with receiver() as (url, bodies), httpx2.AsyncClient(timeout=60) as client:
        send = webhook.sender(client, url)
        assert await webhook.send_next(room.database, send, room.now)
        assert not await webhook.send_next(room.database, send, room.now)
        room.clock.advance(24 * HOUR)
        await room.notify(FAILED)
        assert await webhook.send_next(room.database, send, room.now)
    assert len(bodies) == 2
    assert bodies[0] == webhook.payload(describe(FAILED))
    assert bodies[0]["text"] == "The subscription s is not ready: UnknownType [pizza]"
    assert "Owners: kitchen (#kitchen)" in json.dumps(bodies[0]["blocks"])
    assert (await room.http.get("/notices")).json()["notices"][0]["webhook"] == "sent"


@pytest.mark.parametrize("status", ["500 Internal Server Error", "404 Not Found", "429 Too Many Requests"])
async def test_failing_attempts_are_bounded(room: Room, status: str) -> None:
    await room.notify(FAILED)
    async with receiver(status) as (url, bodies), httpx2.AsyncClient(timeout=60) as client:
        send = webhook.sender(client, url)
        for attempt in range(webhook.ATTEMPTS):
            assert await webhook.send_next(room.database, send, room.now)
            assert not await webhook.send_next(room.database, send, room.now), "the next attempt has to wait"
            room.clock.advance(webhook.FIRST_DELAY * 4**attempt)
        room.clock.advance(1000 * HOUR)
        assert not await webhook.send_next(room.database, send, room.now)
    assert len(bodies) == webhook.ATTEMPTS
    [notice] = (await room.http.get("/notices")).json()["notices"]
    assert (notice["webhook"], notice["webhookError"]) == ("failed", f"status {status[:3]}")
    assert await _error_of(room) == (f"status {status[:3]}", webhook.ATTEMPTS)


async def test_redirects_are_not_followed(room: Room) -> None:
    await room.notify(FAILED)
    async with (
        receiver() as (inner, reached),
        receiver("307 Temporary Redirect", f"Location: {inner}\r\n") as (url, bodies),
        httpx2.AsyncClient(follow_redirects=True, timeout=60) as client,
    ):
        assert await webhook.send_next(room.database, webhook.sender(client, url), room.now)
    assert (len(bodies), len(reached)) == (1, 0)
    assert (await _error_of(room))[0] == "status 307 (redirects are not followed)"


async def test_an_unreachable_or_silent_webhook_is_named_without_its_address(
    room: Room, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(webhook, "TIMEOUT", 0.2)
    await room.notify(FAILED)

    ended = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        await writer.wait_closed()
        ended.set()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with httpx2.AsyncClient(timeout=60) as client:
        send = webhook.sender(client, f"http://127.0.0.1:{port}/secret-path")
        async with server:
            assert await webhook.send_next(room.database, send, room.now)
            assert (await _error_of(room))[0] == "no response within 0.2 s"
            await asyncio.wait_for(ended.wait(), 60)
        room.clock.advance(HOUR)
        assert await webhook.send_next(room.database, send, room.now)
    assert (await _error_of(room))[0] == "ConnectError"
    assert "secret-path" not in caplog.text + (await room.http.get("/notices")).text


HOSTILE = "<!channel> <@U1> <https://evil.example|click> *bold* @here @ALL \x1b[2J \u202e ada@example.org & co"


def test_texts_of_tenants_are_cut_and_their_mentions_have_no_effect() -> None:
    body = webhook.payload(Message(HOSTILE, HOSTILE * 100, HOSTILE * 100))
    whole = json.dumps(body, ensure_ascii=False)
    assert not set("<>\x1b\u202e") & set(whole)
    assert "@here" not in whole
    assert "@ALL" not in whole
    assert "ada@example.org &amp; co" in whole
    assert {block["text"]["type"] for block in body["blocks"]} == {"plain_text"}
    assert body["mrkdwn"] is False
    assert len(body["blocks"][0]["text"]["text"]) <= 150
    assert all(len(block["text"]["text"]) <= 3000 for block in body["blocks"])


@pytest.mark.parametrize("length", range(1, 12))
def test_no_entity_is_cut_in_two(length: int) -> None:
    assert webhook.safe("<&>" * 5, length).replace("&lt;", "").replace("&amp;", "").replace("&gt;", "") == "…"
    assert len(webhook.safe("<&>" * 5, length)) <= length


@pytest.mark.parametrize(
    "notice",
    [
        FAILED,
        DEPRECATED,
        RemovalApproached(namespace="n", event_type="a.bDone", version="v1", removal=date(2026, 6, 1), days_left=0),
        IncompatibleChangeProposed(namespace="n", event_type="a.bDone", problems=("x",), proposed_by="ada"),
        DeadLettersAccumulated(namespace="", app="a", count=3, threshold=3),
    ],
)
def test_every_notice_has_words(notice: Notice) -> None:
    message = describe(notice)
    assert message.title
    assert message.text


# -- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["http://hooks.example/key", "file:///etc/passwd", "https:///key", "hooks.example/key"])
def test_the_webhook_is_https_and_its_address_stays_secret(url: str) -> None:
    with pytest.raises(ValidationError, match="must start with https://") as raised:
        ArchiveSettings(notice_webhook=SecretStr(url))
    assert "key" not in str(raised.value).replace("ARCHIVE", "")
    assert "passwd" not in str(raised.value)


def test_http_can_be_allowed() -> None:
    ArchiveSettings(notice_webhook=SecretStr("http://127.0.0.1:9/"), notice_webhook_http=True)


def test_periods_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHIVE_NOTICE_SILENCE", "tidings.subscriptionFailed=1, *=48")
    assert ArchiveSettings().notice_silence == {
        "*": 48.0,
        "tidings.subscriptionFailed": 1.0,
        "tidings.versionDeprecated": 168.0,
        "tidings.removalApproached": 168.0,
    }


@pytest.mark.parametrize("text", ["x=1", "*", "*=-1", "*=nan", "*=many", "orders.orderPlaced=1", "*=1e9"])
def test_a_wrong_period_is_named(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHIVE_NOTICE_SILENCE", text)
    with pytest.raises(ValidationError, match="ARCHIVE_NOTICE_SILENCE"):
        ArchiveSettings()
