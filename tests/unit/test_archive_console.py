"""The console's files, its headers, and what it asks the archive for."""

import hashlib
import re
import socket
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server
from tests.support.newsroom import MAPS_OF_NO_USE, Newsroom, contract_map

from tidings.messages.envelope import timestamp
from tidings.web.guard import PAGE_POLICY
from tidings_archive import consumers
from tidings_archive.console import STATIC, VIEWS, WINDOW
from tidings_archive.settings import ArchiveSettings
from tidings_cli.up import system
from tidings_cli.up.state import RunState
from tidings_cli.up.system import Options

VENDORED = Path(STATIC) / "vendor"


@pytest.fixture
async def newsroom(tmp_path: Path) -> AsyncIterator[Newsroom]:
    async with Newsroom.opened(tmp_path) as room:
        yield room


@pytest.fixture
async def http(newsroom: Newsroom) -> AsyncIterator[httpx2.AsyncClient]:
    base = newsroom.url.removesuffix("/console")
    async with httpx2.AsyncClient(base_url=base, timeout=60, trust_env=False) as client:
        yield client


# -- files ------------------------------------------------------------------------------------------------------------


def test_the_library_is_the_published_one_with_its_licence() -> None:
    library = (VENDORED / "dagre.esm.js").read_bytes()
    assert hashlib.sha256(library).hexdigest() in (VENDORED / "README.md").read_text()
    assert "Permission is hereby granted" in (VENDORED / "dagre.LICENSE").read_text()
    assert re.search(rb"\beval\(|new Function", library) is None


# -- served -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("view", VIEWS)
async def test_every_view_is_the_page_kept_to_itself(http: httpx2.AsyncClient, view: str) -> None:
    answer = await http.get(view)
    assert answer.status_code == 200
    assert answer.headers["Content-Security-Policy"] == PAGE_POLICY
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "<main" in answer.text


async def test_a_file_is_asked_for_again_only_when_it_has_changed(http: httpx2.AsyncClient) -> None:
    first = await http.get("/console/assets/js/main.js")
    assert first.headers["Cache-Control"] == "no-cache"
    again = await http.get("/console/assets/js/main.js", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert (await http.get("/console/assets/../console.py")).status_code == 404


async def test_the_map_is_the_file_as_it_is_now(newsroom: Newsroom, http: httpx2.AsyncClient) -> None:
    assert (await http.get("/console/map")).json() == contract_map()
    newsroom.map.write_text('{"subscriptions": []}')
    assert (await http.get("/console/map")).json() == {"subscriptions": []}


@pytest.mark.parametrize("content", [*MAPS_OF_NO_USE, "gone"])
async def test_a_map_that_cannot_be_read_is_refused_with_the_reason(
    newsroom: Newsroom, http: httpx2.AsyncClient, content: bytes | str | None
) -> None:
    newsroom.map.unlink()
    if content is None:
        newsroom.map.mkdir()
    elif isinstance(content, bytes):
        newsroom.map.write_bytes(content)
    answer = await http.get("/console/map")
    assert answer.status_code == 404
    assert f"ARCHIVE_MAP={newsroom.map} cannot be read: " in answer.json()["detail"]
    assert "tidings render -o map" in answer.json()["detail"]


def test_without_a_file_the_map_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHIVE_MAP", "")
    assert ArchiveSettings().map is None
    monkeypatch.setenv("ARCHIVE_MAP", "/run/map.json")
    assert ArchiveSettings().map == Path("/run/map.json")


async def test_live_counts_the_last_minute_and_open_dead_letters(newsroom: Newsroom, http: httpx2.AsyncClient) -> None:
    long_ago = timestamp(datetime.now(UTC) - timedelta(seconds=WINDOW + 5))
    await newsroom.receive("orders.orderPlaced.v1")
    await newsroom.receive("orders.orderPlaced.v1")
    await newsroom.receive("orders.orderCompleted.v1", time=long_ago)
    await newsroom.died("pickup", "kitchen.pizzaBoxed.v1", "no shelf", failuresubscription="pickup-pizza-boxed")
    discarded = await newsroom.died("loyalty", "orders.orderCompleted.v1", "no", failuresubscription="l")
    [letter] = (await http.get("/deadletters", params={"eventId": discarded["id"]})).json()["deadLetters"]
    await http.post(f"/deadletters/{letter['number']}/discard", json={"by": "ada", "reason": "a test"})
    assert (await http.get("/console/live")).json() == {
        "window": WINDOW,
        "waiting": None,
        "events": {"orders.orderPlaced.v1": 2},
        "deadLetters": {"pickup": 1},
    }


# -- deciding ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 202),
        ({"Sec-Fetch-Site": "none"}, 202),
        ({}, 202),  # no browser
        ({"Origin": "http://evil.example"}, 403),  # a browser over plain HTTP
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost", "Host": "localhost"}, 202),
    ],
)
async def test_no_other_site_decides(
    newsroom: Newsroom, http: httpx2.AsyncClient, headers: dict[str, str], status: int
) -> None:
    await newsroom.died("pickup", "kitchen.pizzaBoxed.v1", "no shelf", failuresubscription="pickup-pizza-boxed")
    answer = await http.post("/deadletters/1/replay", json={"by": "ada"}, headers=headers)
    assert answer.status_code == status, answer.text
    assert (await http.get("/console/live", headers=headers)).status_code == 200
    assert len(await newsroom.sent("pickup", int(status == 202))) == (status == 202)


async def test_a_dry_run_shows_what_would_be_sent_and_sends_nothing(
    newsroom: Newsroom, http: httpx2.AsyncClient
) -> None:
    died = await newsroom.died("pickup", "kitchen.pizzaBoxed.v1", "no shelf", failuresubscription="pickup-pizza-boxed")
    dry = await http.post("/deadletters/1/replay?dryRun=true", json={"by": "ada"})
    assert dry.status_code == 200
    body: dict[str, Any] = dry.json()
    event = body.pop("event")
    assert body == {"dryRun": True, "app": "pickup", "subscription": "pickup-pizza-boxed", "topic": "replay.pickup"}
    assert (event["id"], event["data"], event["replayto"]) == (died["id"], died["data"], "pickup-pizza-boxed")
    assert (await http.get("/deadletters/1")).json()["audit"] == []

    assert (await http.post("/deadletters/1/replay", json={"by": "ada"})).status_code == 202
    [sent] = await newsroom.sent("pickup", 1)  # this one alone, and nothing of the dry run before it
    assert event.pop("replayid") != sent["replayid"]  # each replay has an id of its own
    assert {name: sent[name] for name in event} == event


@pytest.mark.parametrize(
    ("attributes", "body", "status", "why"),
    [
        ({"failuresubscription": ""}, {}, 409, "name the subscription"),
        ({"failuresubscription": ""}, {"subscription": "pickup-pizza-boxed"}, 200, None),
        ({"failuresubscription": "pickup-pizza-boxed"}, {"subscription": "another"}, 409, "only to pickup-pizza-boxed"),
    ],
)
async def test_a_dry_run_is_refused_as_the_replay_would_be(
    newsroom: Newsroom,
    http: httpx2.AsyncClient,
    attributes: dict[str, str],
    body: dict[str, str],
    status: int,
    why: str | None,
) -> None:
    await newsroom.died("pickup", "kitchen.pizzaBoxed.v1", "no shelf", **attributes)
    answer = await http.post("/deadletters/1/replay?dryRun=true", json=body)
    assert answer.status_code == status
    assert why is None or why in answer.json()["detail"]
    assert (await http.post("/deadletters/99/replay?dryRun=true", json={})).status_code == 404


@pytest.mark.parametrize(
    ("content", "waiting"),
    [
        (None, None),
        (b'{"phase": "ready", "broker_lag": {"pickup": 3}}', {"pickup": 3}),
        (b'{"broker_lag": {}}', {}),
        (b'{"broker_lag": {"pick', None),
        (b'{"broker_lag": {"pickup": "many"}}', None),
        (b"[]", None),
    ],
)
async def test_what_waits_at_the_broker_is_read_where_it_is_measured(
    tmp_path: Path, content: bytes | None, waiting: dict[str, int] | None
) -> None:
    assert await consumers.read_lag("") is None
    if content is not None:
        (tmp_path / "state.json").write_bytes(content)
    assert await consumers.read_lag(str(tmp_path / "state.json")) == waiting


@pytest.fixture
def topology() -> Iterator[tuple[str, Gauge]]:
    """Serve metrics as the topology controller does; yield their URL, and the metric of the lag."""
    metrics = CollectorRegistry()
    Counter("tidings_broker_losses", "Another metric", registry=metrics).inc()
    lag = Gauge(consumers.LAG, "Events that wait at the broker for an app of the plan", ["app"], registry=metrics)
    server, thread = start_http_server(0, "127.0.0.1", registry=metrics)
    yield f"http://127.0.0.1:{server.server_port}/metrics", lag
    server.shutdown()
    server.server_close()
    thread.join()


async def test_what_waits_is_read_from_the_topology_controllers_metrics(topology: tuple[str, Gauge]) -> None:
    url, lag = topology
    assert await consumers.read_lag(url) is None  # the broker does not answer
    lag.labels("kitchen").set(3)
    lag.labels("loyalty").set(0)
    assert await consumers.read_lag(url) == {"kitchen": 3}
    lag.labels("kitchen").set(0)
    assert await consumers.read_lag(url) == {}


async def test_an_unreachable_topology_controller_counts_as_not_measured() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    assert await consumers.read_lag(f"http://127.0.0.1:{port}/metrics") is None


async def test_metrics_of_any_form_or_size_break_no_page(
    monkeypatch: pytest.MonkeyPatch, topology: tuple[str, Gauge]
) -> None:
    url, lag = topology
    lag.labels("kitchen").set(float("nan"))
    assert await consumers.read_lag(url) is None
    lag.labels("kitchen").set(float("inf"))
    assert await consumers.read_lag(url) is None
    lag.labels("kitchen").set(1)
    monkeypatch.setattr(consumers, "MAX_METRICS", 10)
    assert await consumers.read_lag(url) is None


def test_the_local_run_gives_the_archive_its_state() -> None:
    root = Path(__file__).parents[2]
    [archive] = [each.service for each in system.read(root, Options()).instances if each.service.name == "archive"]
    assert archive.environment["ARCHIVE_LAG"] == "${run}/state.json"
    assert "broker_lag" in {field.name for field in msgspec.structs.fields(RunState)}
