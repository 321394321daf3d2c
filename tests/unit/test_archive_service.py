"""The archive as it runs: planned from the contracts, on a SQLite file, fed over a broker, asked over HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from starlette.routing import BaseRoute
from tests.support.newsroom import migrated

from tidings import Service, Settings
from tidings.fastapi import create_app
from tidings.messages.envelope import new_id, timestamp
from tidings.outbox.table import TableOutbox
from tidings.testing import MemoryBroker, MemorySidecar, lifespan
from tidings_archive import api, api_deadletters, api_replays, console, consumers, deadletters, replays, storage, tables
from tidings_archive.commands import CloseReplay
from tidings_archive.handlers import close_replay, handlers
from tidings_archive.migrations import upgrade
from tidings_archive.responses import ERRORS
from tidings_archive.settings import ArchiveSettings, settings
from tidings_plan import plan
from tidings_plan.resources import contracts_folders, load

ROOT = Path(__file__).parents[2]
PLAN = plan(load(contracts_folders(ROOT))).apps["archive"]
PLACED, V1, V2 = "orders.orderPlaced.v1", "orders.orderConfirmed.v1", "orders.orderConfirmed.v2"
COMMAND = "archive.replayEvents.v1"
OUTCOME = "archive.recordReplayOutcome.v1"
NOON = datetime(2026, 3, 14, 12, tzinfo=UTC)
PATIENCE = 3_000  # looks, 20 ms apart


def fact(on: str, identity: str = "", **attributes: Any) -> dict[str, Any]:
    name, _, version = on.rpartition(".v")
    standard = {"id": identity or new_id(), "source": "orders", "type": name, "specversion": "1.0", "version": version}
    return {**standard, "time": timestamp(NOON), "data": {"orderId": "o-1"}, **attributes}


def dead(identity: str = "", **attributes: Any) -> dict[str, Any]:
    failure = {
        "failurereason": "no such shelf",
        "failureclass": "Rejected",
        "failureattempts": "3",
        "failuresubscription": "pickup-pizza-boxed",
        "failuretopic": "kitchen.pizzaBoxed.v1",
        "failurefirst": "2026-03-14T12:00:00Z",
        "failurelast": "2026-03-14T12:00:09Z",
    }
    return fact("kitchen.pizzaBoxed.v1", identity, **{**failure, **attributes})


class Archive:
    """One run of the service."""

    def __init__(self, broker: MemoryBroker, service: Service, http: httpx2.AsyncClient) -> None:
        self.broker = broker
        self.service = service
        self.http = http
        self._sender = MemorySidecar("orders", broker)

    async def receive(self, topic: str, *events: dict[str, Any]) -> None:
        for event in events:
            await self._sender.publish(topic, json.dumps(event).encode())
        await self.broker.settle()

    async def get(self, path: str, **query: Any) -> Any:
        answer = await self.http.get(path, params={key: value for key, value in query.items() if value is not None})
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def ids(self, **query: Any) -> list[str]:
        return [event["id"] for event in (await self.get("/events", **query))["events"]]

    async def until(self, holds: Callable[[], object]) -> None:
        for _ in range(PATIENCE):
            if holds():
                return
            await asyncio.sleep(0.02)
        pytest.fail(f"it did not come about; published: {self.broker.topics}")

    async def ended(self, replay_id: str) -> dict[str, Any]:
        for _ in range(PATIENCE):
            result: dict[str, Any] = await self.get(f"/replays/{replay_id}")
            if result["state"] != "running":
                return result
            await asyncio.sleep(0.02)
        pytest.fail(f"it goes on and on: {result}")

    def sent(self, consumer: str) -> list[dict[str, Any]]:
        return self.broker.events(f"replay.{consumer}")


@cache
def api_routes() -> list[BaseRoute]:
    """Return the routes of the archive's API. FastAPI prepares them for each application at its first request."""
    app = FastAPI(openapi_url=None)
    for router in (api.router, api_deadletters.router, api_replays.router):
        app.include_router(router)
    return app.router.routes


@asynccontextmanager
async def running(folder: Path, broker: MemoryBroker | None = None, url: str = "") -> AsyncIterator[Archive]:
    broker, file = broker or MemoryBroker(), folder / "archive.db"
    if not url and not file.exists():
        file.write_bytes(migrated())
    service = Service(
        "archive",
        handlers,
        settings=Settings(tidings_instance="one"),
        sidecar=MemorySidecar("archive", broker, state="none"),  # a namespace needs no state store for the archive
        outbox=TableOutbox.on(url or f"sqlite:///{file}", tables=upgrade),
        policy=PLAN.policy,
    )
    app = create_app(service, errors=ERRORS)
    app.router.routes += api_routes()
    console.install(app)
    broker.attach("archive", app, PLAN.subscriptions, resiliency=PLAN.resiliency)
    client = httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://archive")
    async with lifespan(app), client as http:
        while not await service.ready():  # noqa: ASYNC110 - asked, as by a probe
            await asyncio.sleep(0.005)
        yield Archive(broker, service, http)
        broker.detach("archive")


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    archive_settings = ArchiveSettings(replay_settle=0.0, replay_rate=5000)
    monkeypatch.setattr(replays, "settings", lambda: archive_settings)
    monkeypatch.setattr(consumers, "known_consumers", lambda: frozenset({"loyalty", "tracking", "pickup"}))


@pytest.fixture
async def archive(tmp_path: Path) -> AsyncIterator[Archive]:
    async with running(tmp_path) as result:
        yield result


# -- keeping ----------------------------------------------------------------------------------------------------------


async def test_an_event_is_kept_whole_and_a_single_time(archive: Archive) -> None:
    placed = fact(PLACED, "e-1", correlationid="c", subject="o-1", odd="x", data={"total": 1.5, "name": "Zoë"})
    await archive.receive(PLACED, placed, placed)
    [result] = (await archive.get("/events"))["events"]
    assert {name: result[name] for name in placed} == placed
    assert result["topic"] == PLACED
    assert datetime.fromisoformat(result["receivedAt"]).tzinfo
    assert await archive.get("/counts") == {PLACED: 1}


async def test_a_fact_in_two_versions_is_two_rows_under_one_id(archive: Archive) -> None:
    await archive.receive(V1, fact(V1, "e-1"))
    await archive.receive(V2, fact(V2, "e-1"))
    assert [event["version"] for event in (await archive.get("/events/e-1"))["events"]] == ["1", "2"]
    assert (await archive.http.get("/events/e-2")).status_code == 404


@pytest.mark.parametrize(
    "odd", [{"type": "nobody.knowsThis", "version": ""}, {"version": 7}, {"data": "\0"}, {"time": "yesterday"}]
)
async def test_what_cannot_be_read_is_kept_too(archive: Archive, odd: dict[str, Any]) -> None:
    await archive.receive(PLACED, {**fact(PLACED, "e-1"), **odd})
    assert await archive.ids() == ["e-1"]
    assert archive.broker.events("deadletter.archive") == []


async def test_its_own_command_is_kept_as_well(archive: Archive) -> None:
    asked = {"replayId": "r-1", "consumer": "loyalty", "dryRun": True}
    await archive.receive(COMMAND, fact(COMMAND, "e-1", data=asked))
    assert "e-1" in await archive.ids(type="archive.*")


# -- searching --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "actual"),
    [
        ({}, ["d", "c", "b", "a"]),
        ({"type": "orders.orderPlaced"}, ["b", "a"]),
        ({"type": "orders.orderConfirmed.v2"}, ["d"]),
        ({"type": ["orders.orderConfirmed.v1", "orders.orderPlaced"]}, ["c", "b", "a"]),
        ({"type": "orders.*"}, ["d", "c", "b", "a"]),
        ({"type": "kitchen.*"}, []),
        ({"correlationId": "c-2"}, ["b"]),
        ({"subject": "o-1"}, ["c", "a"]),
        ({"source": "kitchen"}, []),
        ({"topic": V2}, ["d"]),
        ({"since": "2026-03-14T12:01:00Z"}, ["c", "b"]),
        ({"until": "2026-03-14T13:01:00+01:00"}, ["d", "a"]),
        ({"since": "2026-03-14T12:01:00Z", "until": "2026-03-14T12:02:00Z"}, ["b"]),
        ({"q": "ANN@"}, ["b"]),
        ({"q": "x.example ANN", "type": "orders.*"}, ["b"]),
        ({"q": "example", "source": "kitchen"}, []),
        ({"q": "orderPlaced o-1", "subject": "o-1"}, ["a"]),
        ({"q": "orders", "type": "orders.orderConfirmed.v1"}, ["c"]),
    ],
)
async def test_events_are_filtered_by(archive: Archive, query: dict[str, Any], actual: list[str]) -> None:
    later = (timestamp(NOON + timedelta(minutes=minutes)) for minutes in (1, 2))
    await archive.receive(PLACED, fact(PLACED, "a", subject="o-1"))
    await archive.receive(
        PLACED, fact(PLACED, "b", correlationid="c-2", time=next(later), data={"email": "ann@x.example"})
    )
    await archive.receive(V1, fact(V1, "c", subject="o-1", time=next(later)))
    await archive.receive(V2, fact(V2, "d", data={"share": "100%"}))
    assert await archive.ids(**query) == actual
    assert sum((await archive.get("/counts", **query)).values()) == len(actual)


async def test_pages_show_every_event_a_single_time_while_more_arrive(archive: Archive) -> None:
    await archive.receive(PLACED, *(fact(PLACED, f"e-{number}") for number in range(7)))
    seen, cursor = [], None
    while True:
        page = await archive.get("/events", limit=3, cursor=cursor)
        seen += [event["id"] for event in page["events"]]
        cursor = page["next"]
        if cursor is None:
            break
        await archive.receive(PLACED, fact(PLACED))
    assert seen == [f"e-{number}" for number in reversed(range(7))]


@pytest.mark.parametrize(
    ("query", "complaint"),
    [
        ({"type": "Orders"}, "is no type"),
        ({"since": "2026-03-14T12:00:00Z", "until": "2026-03-14T11:00:00Z"}, "nothing happened"),
        ({"since": "2026-03-14T12:00:00"}, "timezone"),
        ({"limit": 0}, "greater than or equal to 1"),
    ],
)
async def test_a_search_that_makes_no_sense_is_refused(archive: Archive, query: dict[str, Any], complaint: str) -> None:
    answer = await archive.http.get("/events", params=query)
    assert answer.status_code == 422
    assert complaint in answer.text


# -- dead letters -----------------------------------------------------------------------------------------------------


async def test_a_dead_letter_has_its_reason_and_is_replayed_only_to_the_failed_consumer(archive: Archive) -> None:
    await archive.receive("deadletter.pickup", dead("e-1"))
    [letter] = (await archive.get("/deadletters"))["deadLetters"]
    assert letter["app"] == "pickup"
    assert (letter["reason"], letter["error"], letter["attempts"]) == ("no such shelf", "Rejected", 3)
    assert (letter["subscription"], letter["topic"]) == ("pickup-pizza-boxed", "kitchen.pizzaBoxed.v1")

    path = f"/deadletters/{letter['number']}"
    answer = await archive.http.post(f"{path}/replay", json={"by": "ann"})
    assert (answer.status_code, answer.json()["state"]) == (202, "sent")
    assert answer.json()["replay"]["outcome"] == "unconfirmed"
    await archive.until(lambda: archive.sent("pickup"))
    [again] = archive.sent("pickup")
    assert (again["id"], again["replayto"], again["data"]) == ("e-1", "pickup-pizza-boxed", {"orderId": "o-1"})
    assert not [name for name in again if name.startswith("failure")]

    result = await archive.get(path)
    assert [(entry["who"], entry["action"], entry["detail"]) for entry in result["audit"]] == [
        ("ann", "sent", "to pickup-pizza-boxed")
    ]
    assert result["event"]["failurereason"] == "no such shelf"
    assert (await archive.get("/deadletters"))["deadLetters"] == []


async def confirm(archive: Archive, replay_id: str, outcome: str, **more: str) -> None:
    """Publish what a consumer's SDK confirms."""
    output = {"eventId": "e-1", "source": "orders", "subscription": "pickup-pizza-boxed", "reason": "", **more}
    data = {"replayId": replay_id, "outcome": outcome, **output}
    await archive.receive(OUTCOME, fact(OUTCOME, source="pickup", data=data))


async def replayed(archive: Archive, number: int = 1) -> str:
    answer = await archive.http.post(f"/deadletters/{number}/replay", json={})
    assert answer.status_code == 202, answer.text
    result: str = answer.json()["replay"]["replayId"]
    return result


@pytest.mark.parametrize(
    ("outcome", "state"), [("handled", "handled"), ("unread", "open"), ("dropped", "dropped"), ("failed", "open")]
)
async def test_a_replays_result_is_what_the_consumer_confirms(archive: Archive, outcome: str, state: str) -> None:
    await archive.receive("deadletter.pickup", dead("e-1"))
    replay_id = await replayed(archive)
    assert (await archive.get("/deadletters/1"))["state"] == "sent"
    await confirm(archive, replay_id, outcome, reason="why")
    response = await archive.get("/deadletters/1")
    assert (response["state"], response["replay"]["outcome"], response["replay"]["reason"]) == (state, outcome, "why")
    assert response["failures"] == (2 if outcome == "failed" else 1)
    counted = await archive.http.get("/deadletters/outcomes", params={"batch": ""})
    assert counted.status_code == 422


@pytest.mark.parametrize("letter_first", [True, False])
@pytest.mark.parametrize("last", ["2026-03-14T12:09:00Z", "1999-01-01T00:00:00Z"])
async def test_a_failed_replay_is_open_again_regardless_of_clocks(
    archive: Archive, letter_first: bool, last: str
) -> None:
    await archive.receive("deadletter.pickup", dead("e-1"))
    await archive.receive("deadletter.pickup", dead("e-1"))  # delivered twice
    replay_id = await replayed(archive)
    await archive.receive("deadletter.pickup", dead("e-1"))  # and once more, late
    assert (await archive.get("/deadletters/1"))["state"] == "sent"
    again = dead("d-2", originalid="e-1", replayid=replay_id, failurereason="still", failurelast=last)
    if letter_first:
        await archive.receive("deadletter.pickup", again)
        await confirm(archive, replay_id, "failed", reason="still")
    else:
        await confirm(archive, replay_id, "failed", reason="still")
        await archive.receive("deadletter.pickup", again)
    await archive.receive("deadletter.pickup", again)
    response = await archive.get("/deadletters/1")
    assert (response["state"], response["failures"], response["reason"]) == ("open", 2, "still")
    assert [entry["action"] for entry in response["audit"]] == ["failed again", "sent"]
    assert response["replay"]["outcome"] == "failed"
    assert response["event"]["id"] == "d-2"


async def test_what_an_earlier_replay_reports_late_changes_nothing_that_is_handled(archive: Archive) -> None:
    await archive.receive("deadletter.pickup", dead("e-1"))
    first, second = await replayed(archive), await replayed(archive)
    await confirm(archive, first, "unread")
    assert (await archive.get("/deadletters/1"))["state"] == "sent"
    await confirm(archive, second, "handled")
    await archive.receive("deadletter.pickup", dead("d-2", originalid="e-1", replayid=first))
    assert (await archive.get("/deadletters/1"))["state"] == "handled"
    await archive.receive("deadletter.pickup", dead("d-3", originalid="e-1", replayid="of-the-archive"))
    assert (await archive.get("/deadletters/1"))["state"] == "open"


async def test_what_is_discarded_stays_discarded_for_a_known_failure(archive: Archive) -> None:
    await archive.receive("deadletter.pickup", dead("e-1"))
    again = dead("d-2", originalid="e-1", replayid=await replayed(archive))
    await archive.receive("deadletter.pickup", again)
    await archive.http.post("/deadletters/1/discard", json={"reason": "x"})
    await archive.receive("deadletter.pickup", again)
    assert (await archive.get("/deadletters/1"))["state"] == "discarded"


async def test_letters_that_are_replayed_together_are_counted_together(archive: Archive) -> None:
    await archive.receive("deadletter.pickup", *(dead(f"e-{item}") for item in range(4)))
    ids = []
    for number in range(1, 5):
        answer = await archive.http.post(f"/deadletters/{number}/replay", json={"batch": "b-1"})
        ids.append(answer.json()["replay"]["replayId"])
    for number, outcome in enumerate(("handled", "failed", "unread")):
        await confirm(archive, ids[number], outcome, eventId=f"e-{number}")
    assert await archive.get("/deadletters/outcomes", batch="b-1") == {
        "sent": 4,
        "handled": 1,
        "failed": 1,
        "unread": 1,
        "dropped": 0,
        "unconfirmed": 1,
    }
    assert (await archive.get("/deadletters/outcomes", batch="nobody's"))["sent"] == 0


# -- whatever arrives -------------------------------------------------------------------------------------------------

ODD: list[bytes] = [
    b"",
    b"\x00\x01\xff\xfe",
    b"not json",
    b"[1, 2]",
    b'{"id": "x", "source": "s", "type": "t.u", "specversion": "1.0", "version": "' + b"9" * 5000 + b'"}',
    b'{"id": "x", "source": "s", "type": "t.u", "specversion": "1.0", "version": "1", "data": '
    + b"[" * 1200
    + b"]" * 1200
    + b"}",
    b'{"id": "x", "source": "s", "type": "t.u", "specversion": "1.0", "version": "1", "data": "a\\u0000b"}',
    b'{"id": "x", "source": "s", "type": "t.u", "specversion": "1.0", "version": "1", "data": "\\ud800"}',
    b'{"id": "' + b"i" * 9000 + b'", "source": "s", "type": "t.u", "specversion": "1.0", "version": "1"}',
    b'{"id": "x", "source": "s", "type": "' + b"t" * 9000 + b'", "specversion": "1.0", "version": "1"}',
    b'{"id": "x", "source": "s", "type": "t.u", "specversion": "1.0", "version": "1", "data": 1e999}',
    b'{"id": "x", "source": "s", "type": "t.u", "specversion": "1.0", "version": "1", "data": ' + b"7" * 20 + b"}",
    b'{"id": "x", "source": "s", "type": "t.u", "specversion": "1.0", "version": "1", "subject": null}',
    b'{"id": "x", "source": "s", "type": "t.u", "specversion": "1.0", "version": "1", "traceid": 12345, "data": {}}',
    b'{"id": "x", "source": "s", "type": "t.u", "specversion": "1.0", "time": "2026-12-31T23:59:60Z", "version": 1}',
    b'{"id": "x", "source": "s", "type": "t.u", "specversion": "1.0", "time": "0001-01-01T00:00:00Z", "version": "1"}',
    b'{"id": "x", "source": "s", "type": "t.u", "specversion": "1.0", "version": "1", "failurereason": "a\\u0000b", '
    b'"failureattempts": "' + b"9" * 5000 + b'", "failuresubscription": "s"}',
]


@pytest.mark.parametrize("body", ODD, ids=[str(item[:30] + item[-30:]) for item in ODD])
@pytest.mark.parametrize("topic", [PLACED, "deadletter.pickup", "deadletter.archive"])
async def test_any_arriving_event_is_stored_listed_and_shown(archive: Archive, topic: str, body: bytes) -> None:
    answer = await archive.service.ingress.deliver(f"/events/{topic}", body)
    assert b"SUCCESS" in answer
    assert archive.broker.topics == []
    if topic == PLACED:
        [result] = (await archive.get("/events"))["events"]
        identity = result.get("id")
        if isinstance(identity, str) and len(identity) < 100:
            await archive.get(f"/events/{identity}")
        assert sum((await archive.get("/counts")).values()) == 1
    else:
        [letter] = (await archive.get("/deadletters"))["deadLetters"]
        assert letter["app"] == topic.removeprefix("deadletter.")
        await archive.get("/deadletters/1")
    async with archive.service.outbox.database.connect(write=False) as connection:  # type: ignore[attr-defined]
        table = tables.events if topic == PLACED else tables.dead_letters
        row = (await connection.execute(sa.select(table))).mappings().one()
    assert storage.original_body(row) == body


async def test_binary_events_are_searchable_by_their_text(archive: Archive) -> None:
    await archive.service.ingress.deliver(f"/events/{PLACED}", b"\xff needle \x00")
    await archive.receive(PLACED, fact(PLACED, "e-2"))
    [result] = (await archive.get("/events", q="NEEDLE"))["events"]
    assert "needle" in result["raw"]


async def test_an_id_is_its_sources_own(archive: Archive) -> None:
    for source in ("shop-berlin", "shop-paris"):
        await archive.receive(PLACED, fact(PLACED, "4711", source=source, data={"from": source}))
        await archive.receive("deadletter.pickup", dead("d-" + source, originalid="4711", source=source))
    assert len((await archive.get("/events/4711"))["events"]) == 2
    assert len((await archive.get("/deadletters", eventId="4711"))["deadLetters"]) == 2


async def test_its_own_dead_letters_are_listed_like_the_rest(archive: Archive) -> None:
    await archive.receive(COMMAND, fact(COMMAND, "e-1", data={"replayId": 7}))
    [letter] = (await archive.get("/deadletters", app="archive"))["deadLetters"]
    assert (letter["subscription"], letter["eventId"]) == ("archive-replay-events", "e-1")


async def test_one_event_failed_by_two_subscriptions_is_two_dead_letters(archive: Archive) -> None:
    await archive.receive("deadletter.pickup", dead("e-1"), dead("e-1", failuresubscription="pickup-order-confirmed"))
    await archive.receive("deadletter.kitchen", dead("e-1", failuresubscription="kitchen-x"))
    listed = (await archive.get("/deadletters", eventId="e-1"))["deadLetters"]
    assert [item["subscription"] for item in listed] == [
        "kitchen-x",
        "pickup-order-confirmed",
        "pickup-pizza-boxed",
    ]
    assert len((await archive.get("/deadletters", app="pickup"))["deadLetters"]) == 2
    page = await archive.get("/deadletters", limit=2)
    assert [dead_letter["number"] for dead_letter in page["deadLetters"]] == [3, 2]
    assert [
        dead_letter["number"] for dead_letter in (await archive.get("/deadletters", cursor=page["next"]))["deadLetters"]
    ] == [1]


async def test_pages_of_dead_letters_examine_few_and_together_show_all(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deadletters, "EXAMINED", 3)
    reasons = ["oven", *["shelf"] * 5, "oven", "shelf", "oven"]
    for number, reason in enumerate(reasons, start=1):
        await archive.receive("deadletter.pickup", dead(f"e-{number}", failurereason=reason))
    pages, cursor = [], None
    while True:
        page = await archive.get("/deadletters", reason="oven", state="any", limit=2, cursor=cursor)
        pages.append([letter["number"] for letter in page["deadLetters"]])
        if page["next"] is None:
            break
        cursor = page["next"]
    assert pages == [[9, 7], [], [1], []]
    assert len((await archive.get("/deadletters", app="pickup"))["deadLetters"]) == len(reasons)


async def test_events_dead_lettered_by_the_sidecar_are_stored_and_replayed_to_the_chosen_consumer(
    archive: Archive,
) -> None:
    await archive.receive("deadletter.pickup", fact("kitchen.pizzaBoxed.v1", "e-1", topic="kitchen.pizzaBoxed.v1"))
    await archive.receive(
        "deadletter.pickup", {"id": "e-2", "source": "s", "type": "t.u", "specversion": "1.0", "version": [1]}
    )
    listed = (await archive.get("/deadletters"))["deadLetters"]
    assert [item["eventId"] for item in listed] == ["e-2", "e-1"]
    assert "not a CloudEvents envelope" in listed[0]["reason"]
    assert "records no reason" in listed[1]["reason"]
    refused = await archive.http.post("/deadletters/1/replay", json={})
    assert (refused.status_code, "name the subscription" in refused.text) == (409, True)
    answer = await archive.http.post("/deadletters/1/replay", json={"subscription": "pickup-pizza-boxed"})
    assert answer.status_code == 202
    await archive.until(lambda: archive.sent("pickup"))


async def test_discarding_is_remembered_with_who_and_why(archive: Archive) -> None:
    await archive.receive("deadletter.pickup", dead("e-1"))
    answer = await archive.http.post("/deadletters/1/discard", json={"by": "ben", "reason": "a test order"})
    assert answer.json()["state"] == "discarded"
    assert (await archive.http.post("/deadletters/1/replay", json={})).status_code == 409
    assert [
        dead_letter["number"] for dead_letter in (await archive.get("/deadletters", state="any"))["deadLetters"]
    ] == [1]
    entries = (await archive.get("/audit"))["entries"]
    assert [(entry["who"], entry["target"], entry["detail"]) for entry in entries] == [
        ("ben", "deadletter/1", "a test order")
    ]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/deadletters/9/replay", {}, 404),
        ("/deadletters/9/discard", {"reason": "x"}, 404),
        ("/deadletters/1/discard", {}, 422),
        ("/deadletters/1/replay", {"to": "everyone"}, 422),
    ],
)
async def test_refusals(archive: Archive, path: str, body: dict[str, Any], status: int) -> None:
    assert (await archive.http.post(path, json=body)).status_code == status
    assert archive.broker.topics == []


# -- replays ----------------------------------------------------------------------------------------------------------


async def several(archive: Archive, number: int = 5) -> None:
    await archive.receive(PLACED, *(fact(PLACED, f"p-{item}", subject=f"o-{item}") for item in range(number)))
    await archive.receive(V1, fact(V1, "k-1", correlationid="c"))
    await archive.receive(V2, fact(V2, "k-1", correlationid="c"))


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        ({"types": ["orders.orderPlaced"]}, [("p-0", "1"), ("p-1", "1"), ("p-2", "1")]),
        ({"types": ["orders.orderConfirmed"]}, [("k-1", "2")]),
        ({"types": ["orders.orderConfirmed.v1"]}, [("k-1", "1")]),
        ({"types": ["orders.orderConfirmed.v1", "orders.orderPlaced"], "until": "2026-03-14T12:00:00Z"}, []),
        ({"correlationId": "c"}, [("k-1", "2")]),
        ({"types": ["orders.*"]}, [("p-0", "1"), ("p-1", "1"), ("p-2", "1"), ("k-1", "2")]),
        ({"ids": ["p-1", "k-1", "nobody"]}, [("p-1", "1"), ("k-1", "2")]),
        ({"match": [{"exact": {"subject": "o-1"}}]}, [("p-1", "1")]),
        ({"match": [{"prefix": {"type": "orders.orderC"}}]}, [("k-1", "2")]),
        (
            {"match": [{"not": {"any": [{"suffix": {"subject": "-0"}}, {"exact": {"correlationid": "c"}}]}}]},
            [("p-1", "1"), ("p-2", "1")],
        ),
        ({"ids": ["p-0", "p-1"], "match": [{"exact": {"subject": "o-1"}}]}, [("p-1", "1")]),
    ],
)
async def test_a_replay_sends_what_was_asked_for_as_it_was(
    archive: Archive, body: dict[str, Any], sent: list[tuple[str, str]]
) -> None:
    await several(archive, 3)
    counted = await archive.http.post("/replays?dryRun=true", json={"consumer": "loyalty", **body})
    assert (counted.status_code, counted.json()["matched"]) == (200, len(sent))
    asked = await archive.http.post("/replays", json={"consumer": "loyalty", "by": "ann", **body})
    assert asked.status_code == 202, asked.text
    ended = await archive.ended(asked.json()["replayId"])
    assert (ended["state"], ended["matched"], ended["sent"]) == ("completed", len(sent), len(sent))
    await archive.until(lambda: len(archive.sent("loyalty")) == len(sent))
    assert [(item["id"], item["version"]) for item in archive.sent("loyalty")] == sent
    assert {item["replayto"] for item in archive.sent("loyalty")} <= {"*"}
    assert {item["replayid"] for item in archive.sent("loyalty")} <= {ended["replayId"]}
    await archive.until(lambda: archive.broker.events("archive.replayCompleted.v1"))
    [published] = archive.broker.events("archive.replayCompleted.v1")
    assert (published["data"]["count"], published["data"]["consumer"]) == (len(sent), "loyalty")
    actions = [(entry["who"], entry["action"]) for entry in (await archive.get("/audit"))["entries"]]
    assert actions == [("archive", "completed"), ("ann", "replay")]


async def test_few_that_match_among_many_do_not_wait_for_those_that_do_not(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At its rate, 60 events would take five minutes; those that are left out take no time."""
    monkeypatch.setattr(replays, "_PAGE", 7)
    monkeypatch.setattr(replays, "_MAX_SCANNED", 50)
    await several(archive, 60)
    body = {"consumer": "loyalty", "ratePerSecond": 0.2, "match": [{"exact": {"subject": "o-59"}}]}
    asked = await archive.http.post("/replays", json=body)
    ended = await archive.ended(asked.json()["replayId"])
    assert (ended["state"], ended["matched"], ended["sent"]) == ("completed", 1, 1)


async def test_commands_of_a_service_are_idempotent(archive: Archive) -> None:
    await several(archive)
    asked = {"replayId": "r-1", "consumer": "tracking", "subscription": "tracking-order-placed"}
    for identity in ("m-1", "m-2"):
        await archive.receive(
            COMMAND, fact(COMMAND, identity, source="tracking", data={**asked, "types": ["orders.orderPlaced"]})
        )
    ended = await archive.ended("r-1")
    assert (ended["sent"], ended["requestedBy"]) == (5, "tracking")
    await archive.until(lambda: len(archive.sent("tracking")) >= 5)
    assert {item["replayto"] for item in archive.sent("tracking")} == {"tracking-order-placed"}
    assert len((await archive.get("/replays"))["replays"]) == 1


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ({"consumer": "nobody"}, "reads no events"),
        ({"consumer": "loyalty", "types": ["x y"]}, "is no type"),
        ({"consumer": "loyalty", "match": [{"exakt": {"subject": "o-1"}}]}, "exakt"),
        ({"consumer": "loyalty", "match": [{"not": {"cel": "event.id == 'p-1'"}}]}, "does not evaluate CEL"),
        ({"consumer": "..", "types": []}, "slashes"),
        ({"consumer": "a/b", "types": []}, "slashes"),
        ({"consumer": "loyalty", "ratePerSecond": 5e-324}, "ratePerSecond must be at least 0.001"),
        ({"consumer": "loyalty", "ratePerSecond": 0.0009}, "ratePerSecond must be at least 0.001"),
    ],
)
async def test_a_replay_that_cannot_be_is_refused_and_written_down(
    archive: Archive, body: dict[str, Any], complaint: str
) -> None:
    answer = await archive.http.post("/replays", json=body)
    assert (answer.status_code, complaint in answer.text) == (422, True)
    await archive.receive(COMMAND, fact(COMMAND, source="tracking", data={"replayId": "r-1", **body}))
    await archive.until(lambda: archive.broker.events("archive.replayCompleted.v1"))
    [entry] = (await archive.get("/audit"))["entries"]
    assert (entry["who"], entry["action"]) == ("tracking", "refused")
    assert (await archive.http.get("/replays/r-1")).status_code == 404
    [published] = archive.broker.events("archive.replayCompleted.v1")
    assert (published["data"]["replayId"], published["data"]["state"]) == ("r-1", "failed")
    assert complaint in published["data"]["reason"]


async def test_what_cannot_be_sent_is_skipped_counted_and_shown(archive: Archive) -> None:
    await archive.receive(PLACED, fact(PLACED, "p-0", subject=None), fact(PLACED, "p-1"), fact(PLACED, "p-2"))
    await archive.service.ingress.deliver(
        f"/events/{PLACED}", json.dumps({**fact(PLACED, "p-3"), "time": "?"}).encode()
    )
    await archive.receive(PLACED, fact(PLACED, "p-4", data="x" * 999_900))
    asked = await archive.http.post("/replays", json={"consumer": "loyalty", "replayId": "r-1"})
    assert asked.json()["matched"] == 5
    ended = await archive.ended("r-1")
    assert (ended["state"], ended["sent"], ended["skipped"], ended["unconfirmed"]) == ("completed", 3, 2, 3)
    await archive.until(lambda: len(archive.sent("loyalty")) == 3)
    assert "subject" not in archive.sent("loyalty")[0]
    skipped = [entry["detail"] for entry in (await archive.get("/audit"))["entries"] if entry["action"] == "skipped"]
    assert ["event p-3" in item or "event p-4" in item for item in skipped] == [True, True]
    for identity, outcome in (("p-0", "handled"), ("p-1", "failed"), ("p-2", "unread")):
        await confirm(archive, "r-1", outcome, eventId=identity)
    response = await archive.get("/replays/r-1")
    assert [response[item] for item in ("handled", "failed", "unread", "dropped", "unconfirmed")] == [1, 1, 1, 0, 0]


async def test_a_replay_that_cannot_go_on_ends_as_failed(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> bytes:
        raise KeyError("shelf")

    await several(archive)
    monkeypatch.setattr(replays, "build_replay_event", broken)
    await archive.http.post("/replays", json={"consumer": "loyalty", "replayId": "r-1"})
    ended = await archive.ended("r-1")
    assert (ended["state"], ended["sent"], ended["reason"]) == ("failed", 0, "KeyError: 'shelf'")
    await archive.until(lambda: archive.broker.events("archive.replayCompleted.v1"))
    assert archive.sent("loyalty") == []


@pytest.mark.parametrize("step", ["archive.continueReplay.v1", "archive.closeReplay.v1"])
async def test_a_replay_whose_step_is_dead_lettered_ends_as_failed(archive: Archive, step: str) -> None:
    """Such as one whose commit fails each time."""
    await several(archive)
    await archive.http.post("/replays", json={"consumer": "loyalty", "replayId": "r-1", "ratePerSecond": 0.001})
    letter = {**dead(source="archive", subject="r-1"), **fact(step, source="archive", subject="r-1")}
    await archive.receive("deadletter.pickup", letter)
    assert (await archive.get("/replays/r-1"))["state"] == "running", "only its own dead letters count"
    await archive.receive("deadletter.archive", letter, {**letter, "id": "again"})
    ended = await archive.ended("r-1")
    assert (ended["state"], ended["reason"]) == ("failed", "no such shelf")
    await archive.until(lambda: archive.broker.events("archive.replayCompleted.v1"))
    [published] = archive.broker.events("archive.replayCompleted.v1")
    assert (published["data"]["state"], published["data"]["reason"]) == ("failed", "no such shelf")


async def test_a_dry_run_by_command_is_answered_with_the_count(archive: Archive) -> None:
    await several(archive)
    await archive.receive(
        COMMAND, fact(COMMAND, data={"replayId": "r-1", "consumer": "loyalty", "dryRun": True, "types": ["orders.*"]})
    )
    await archive.until(lambda: archive.broker.events("archive.replayCompleted.v1"))
    [published] = archive.broker.events("archive.replayCompleted.v1")
    assert (published["data"]["count"], published["data"]["dryRun"]) == (6, True)
    assert archive.sent("loyalty") == []


async def test_a_replay_goes_on_after_a_crash_where_it_was(tmp_path: Path) -> None:
    broker = MemoryBroker()
    async with running(tmp_path, broker) as first:
        await first.receive(PLACED, *(fact(PLACED, f"p-{number}") for number in range(40)))
        await first.http.post("/replays", json={"replayId": "r-1", "consumer": "loyalty", "ratePerSecond": 40})
        await first.until(lambda: len(first.sent("loyalty")) >= 10)
    assert len(broker.events("replay.loyalty")) < 40
    async with running(tmp_path, broker) as second:
        ended = await second.ended("r-1")
        assert (ended["state"], ended["sent"]) == ("completed", 40)
        await second.until(lambda: len(second.sent("loyalty")) >= 40)
        assert [item["id"] for item in second.sent("loyalty")] == [f"p-{number}" for number in range(40)]


async def test_a_replay_is_no_faster_than_its_rate_and_can_be_ended(archive: Archive) -> None:
    await archive.receive(PLACED, *(fact(PLACED) for _ in range(30)))
    began = asyncio.get_running_loop().time()
    await archive.http.post("/replays", json={"replayId": "r-1", "consumer": "loyalty", "ratePerSecond": 20})
    await archive.until(lambda: len(archive.sent("loyalty")) >= 15)
    assert asyncio.get_running_loop().time() - began >= 0.5  # 5 every 250 ms: the third 5 go after two pauses
    ended = await archive.http.post("/replays/r-1/cancel", params={"by": "ann"})
    assert ended.json()["state"] == "cancelled"
    sent = ended.json()["sent"]
    await asyncio.sleep(0.4)
    assert len(archive.sent("loyalty")) == sent < 30
    assert (await archive.http.post("/replays/r-2/cancel")).status_code == 404


async def test_what_arrives_late_is_part_of_a_replay_that_waits_for_it(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replays, "settings", lambda: ArchiveSettings(replay_settle=3600.0, replay_rate=100))
    await archive.receive(PLACED, fact(PLACED, "p-0"))
    await archive.http.post("/replays", json={"replayId": "r-1", "consumer": "loyalty"})
    await archive.until(lambda: archive.sent("loyalty"))
    await archive.receive(PLACED, fact(PLACED, "p-1"))
    await archive.until(lambda: len(archive.sent("loyalty")) == 2)
    await archive.service.execute(close_replay, CloseReplay(replay_id="r-1"))  # an hour later
    assert (await archive.ended("r-1"))["sent"] == 2


def test_settings_have_a_place_for_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDINGS_DATA", "/somewhere")
    settings.cache_clear()
    assert settings().database == "sqlite:////somewhere/archive.db"
    monkeypatch.setenv("ARCHIVE_DATABASE_URL", "postgresql://archive@host/archive")
    settings.cache_clear()
    assert settings().database == "postgresql://archive@host/archive"
    settings.cache_clear()
