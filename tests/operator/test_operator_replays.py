"""EventReplays against an archive that is played: each is carried out once, also when the operator ends in between."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from tests.operator import shop
from tests.operator.cluster import Cluster
from tests.operator.conftest import Start, until

from tidings_operator.server import serve

pytestmark = pytest.mark.real
PAST = "2020-01-01T00:00:00+00:00"
COUNTS = ("sent", "handled", "failed", "unread", "dropped", "unconfirmed", "skipped")


@dataclass
class Archive:
    """Keeps orders and dead letters as the real one does: an id is one replay, a released letter is not open."""

    url: str = ""
    orders: list[dict[str, Any]] = field(default_factory=list)
    replays: dict[str, dict[str, Any]] = field(default_factory=dict)
    letters: dict[int, dict[str, Any]] = field(default_factory=dict)
    released: list[int] = field(default_factory=list)
    refused: frozenset[int] = frozenset()
    unreadable: frozenset[int] = frozenset()
    outcome: str = "handled"
    """What the consumer confirms of each letter; empty: nothing."""
    batches: dict[int, str] = field(default_factory=dict)
    is_down: bool = False

    def letter(self, number: int, **how: Any) -> None:
        self.letters[number] = {
            "number": number,
            "state": "open",
            "subscription": "kitchen-order-confirmed",
            "eventId": f"e{number}",
            "type": "orders.orderConfirmed",
            "version": 1,
            "reason": "boom",
            "lastAttempt": PAST,
            "receivedAt": PAST,
            **how,
        }

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self._outage])
        app.router.add_post("/replays", self._begin)
        app.router.add_get("/deadletters", self._open)
        app.router.add_get("/deadletters/outcomes", self._outcomes)
        app.router.add_get("/deadletters/{number}", self._show)
        app.router.add_get("/replays/{id}", self._replay)
        app.router.add_post("/deadletters/{number}/replay", self._release)
        return app

    @web.middleware
    async def _outage(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if self.is_down:
            return web.json_response({"detail": "down"}, status=503)
        answer: web.StreamResponse = await handler(request)
        return answer

    async def _begin(self, request: web.Request) -> web.Response:
        order = await request.json()
        self.orders.append(order)
        if "dryRun" in request.query:
            return web.json_response({"dryRun": True, "matched": 7})
        new = {"state": "running", "matched": 7, "reason": None, **dict.fromkeys(COUNTS, 0)}
        known = self.replays.setdefault(order["replayId"], new)
        return web.json_response(known, status=202)

    async def _replay(self, request: web.Request) -> web.Response:
        reasons = ["event e-3: it was shortened", *(f"event x-{n}: \x1b[31m" + "y" * 999 for n in range(20))]
        return web.json_response({**self.replays[request.match_info["id"]], "skippedEvents": reasons})

    async def _open(self, request: web.Request) -> web.Response:
        batch = request.query["notBatch"]
        result = [
            item for n, item in self.letters.items() if item["state"] == "open" and self.batches.get(n, "") != batch
        ]
        return web.json_response({"deadLetters": result, "next": None})

    async def _show(self, request: web.Request) -> web.Response:
        number = int(request.match_info["number"])
        if number in self.unreadable:
            return web.json_response({"detail": "there is none"}, status=404)
        return web.json_response({**self.letters[number], "event": {"time": PAST, "id": f"e{number}"}})

    async def _outcomes(self, request: web.Request) -> web.Response:
        sent = sum(batch == request.query["batch"] for batch in self.batches.values())
        return web.json_response({**dict.fromkeys(COUNTS, 0), "sent": sent, self.outcome or "unconfirmed": sent})

    async def _release(self, request: web.Request) -> web.Response:
        number = int(request.match_info["number"])
        if number in self.refused:
            return web.json_response({"detail": "it cannot be sent again: it was shortened"}, status=409)
        self.batches[number] = (await request.json())["batch"]
        self.released.append(number)
        self.letters[number]["state"] = "open" if self.outcome in ("failed", "unread") else "sent"
        return web.json_response({}, status=202)


@pytest_asyncio.fixture
async def archive() -> AsyncIterator[Archive]:
    made = Archive()
    runner, port = await serve(made.app(), "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{port}"
    yield made
    await runner.cleanup()


@pytest.fixture
def target(cluster: Cluster, namespace: str) -> None:
    cluster.apply(shop.event_type(namespace))
    cluster.apply(shop.subscription(namespace))


def phase(cluster: Cluster, order: dict[str, Any], expected: str) -> bool:
    return shop.status(cluster, order).get("phase") == expected


async def test_a_replay_is_executed_as_one_replay_by_any_operator(
    cluster: Cluster, namespace: str, operator: Start, archive: Archive, target: None
):
    how = {"archive_url": archive.url, "replay_poll": 0.05}
    order = cluster.apply(
        shop.replay(
            namespace,
            source={"kind": "Archive"},
            filter={"type": "orders.orderConfirmed", "versions": ["v1"], "since": "2026-01-01T00:00:00Z"},
            rate=25,
        )
    )
    await operator(**how)
    await until(lambda: phase(cluster, order, "Running"), "it runs")
    await operator(**how)  # a second one goes on with it
    uid = order["metadata"]["uid"]
    await until(lambda: len(archive.orders) > 3, "it is asked again and again")
    archive.replays[uid].update(sent=3)
    await until(lambda: shop.status(cluster, order).get("sent") == 3, "progress is told")
    archive.replays[uid].update(sent=7, unconfirmed=7, state="completed")
    await until(lambda: shop.conditions(cluster, order)["Confirmed"]["reason"] == "Waiting", "all is sent")
    assert not phase(cluster, order, "Completed"), "nothing is confirmed yet"
    archive.replays[uid].update(unconfirmed=0, handled=7)
    await until(lambda: phase(cluster, order, "Completed"), "it is done")

    assert {item["replayId"] for item in archive.orders} == {uid}
    assert archive.orders[0] == {
        "replayId": uid,
        "consumer": "kitchen",
        "subscription": "kitchen-order-confirmed",
        "types": ["orders.orderConfirmed.v1"],
        "since": "2026-01-01T00:00:00+00:00",
        "ratePerSecond": 25.0,
        "by": "ada",
    }
    status = shop.status(cluster, order)
    assert (status["sent"], status["matched"]) == (7, 7)
    assert [item["what"] for item in status["audit"]] == ["started", "completed"]
    assert shop.conditions(cluster, order)["Ready"]["status"] == "True"


async def test_dead_letters_are_released_at_the_rate_and_never_repeatedly(
    cluster: Cluster, namespace: str, operator: Start, archive: Archive, target: None
):
    for number in range(1, 6):
        archive.letter(number)
    archive.letter(6, subscription="another")
    archive.letter(7, reason="other trouble")
    first = await operator(archive_url=archive.url)
    first.reconciler._may_write = lambda: not archive.released  # it loses its lease after the first
    begun = time.monotonic()
    order = cluster.apply(shop.replay(namespace, rate=2, filter={"reason": "boom"}))
    await until(lambda: archive.released, "some are released")
    archive.letter(8)  # arrives after the replay has begun
    await operator(archive_url=archive.url)
    await until(lambda: phase(cluster, order, "Completed"), "it is done")
    assert sorted(archive.released) == [1, 2, 3, 4, 5]
    assert time.monotonic() - begun > 1, "two a second; the next operator begins at once with its first two"
    assert shop.status(cluster, order)["sent"] == 5


@pytest.mark.parametrize("source", ["Archive", "DeadLetters"])
async def test_a_dry_run_only_counts(
    cluster: Cluster, namespace: str, operator: Start, archive: Archive, target: None, source: str
):
    for number in range(1, 8):
        archive.letter(number)
    order = cluster.apply(shop.replay(namespace, source={"kind": source}, dryRun=True))
    await operator(archive_url=archive.url)
    await until(lambda: phase(cluster, order, "Completed"), "it is counted")
    assert shop.status(cluster, order)["matched"] == 7
    assert not archive.released
    assert not archive.replays


async def test_what_cannot_run_waits_and_reports_the_reason(
    cluster: Cluster, namespace: str, operator: Start, archive: Archive
):
    archive.is_down = True
    order = cluster.apply(shop.replay(namespace))
    made = await operator(archive_url=archive.url)
    await until(lambda: shop.conditions(cluster, order).get("Ready", {}).get("reason") == "UnknownTarget", "no target")
    cluster.apply(shop.event_type(namespace))
    cluster.apply(shop.subscription(namespace))
    await until(
        lambda: (
            shop.conditions(cluster, order)["Ready"]["reason"] == "ArchiveUnreachable"
            or shop.conditions(cluster, order)["Ready"]["reason"] == "Refused"
        ),
        "the archive is down",
    )
    archive.is_down = False
    archive.letter(1)
    for key in made.cache.everything():
        made.queue.add(key)
    await until(lambda: phase(cluster, order, "Completed"), "it is done after all")
    assert archive.released == [1]


@pytest.mark.parametrize(
    ("counts", "reason", "confirmed", "summary"),
    [
        ({"handled": 4, "dropped": 3}, "Completed", "Handled", "4 handled; 3 dropped"),
        ({"handled": 6, "failed": 1}, "CompletedWithExceptions", "Failed", "1 failed again"),
        ({"handled": 5, "unread": 2}, "CompletedWithExceptions", "Unread", "2 unread"),
        ({"handled": 5, "unconfirmed": 2}, "CompletedWithExceptions", "TimedOut", "2 never confirmed"),
        ({"handled": 0, "sent": 0, "skipped": 7}, "CompletedWithExceptions", "Handled", "7 skipped"),
    ],
)
async def test_the_status_shows_the_outcomes_of_events(
    cluster: Cluster,
    namespace: str,
    operator: Start,
    archive: Archive,
    target: None,
    counts: dict[str, int],
    reason: str,
    confirmed: str,
    summary: str,
):
    order = cluster.apply(shop.replay(namespace, source={"kind": "Archive"}, confirmationTimeout="1s"))
    end = {**dict.fromkeys(COUNTS, 0), "sent": 7, **counts, "state": "completed", "matched": 7, "reason": None}
    archive.replays[order["metadata"]["uid"]] = end
    await operator(archive_url=archive.url, replay_poll=0.05)
    await until(lambda: phase(cluster, order, "Completed"), "it is done")
    output, conditions = shop.status(cluster, order), shop.conditions(cluster, order)
    assert {name: output[name] for name in COUNTS} == {name: end[name] for name in COUNTS}
    assert conditions["Ready"]["reason"] == reason
    assert summary in conditions["Ready"]["message"]
    assert conditions["Confirmed"]["reason"] == confirmed
    assert conditions["Sent"]["status"] == ("False" if counts.get("skipped") else "True")
    assert conditions["Reconciling"]["status"] == "False"
    if counts.get("skipped"):
        shown = output["skippedEvents"]
        assert (shown[0], len(shown), max(map(len, shown))) == ("event e-3: it was shortened", 10, 300)
        assert not any("\x1b" in item for item in shown)


async def test_a_replay_that_cannot_go_on_ends_as_failed_with_the_reason(
    cluster: Cluster, namespace: str, operator: Start, archive: Archive, target: None
):
    order = cluster.apply(shop.replay(namespace, source={"kind": "Archive"}))
    end = {**dict.fromkeys(COUNTS, 0), "sent": 3, "handled": 1, "unconfirmed": 2, "matched": 7}
    archive.replays[order["metadata"]["uid"]] = {**end, "state": "failed", "reason": "the disk is full"}
    await operator(archive_url=archive.url, replay_poll=0.05)
    await until(lambda: phase(cluster, order, "Failed"), "it has failed")
    conditions = shop.conditions(cluster, order)
    assert "the disk is full" in conditions["Ready"]["message"]
    assert (conditions["Ready"]["status"], conditions["Stalled"]["status"]) == ("False", "True")
    assert shop.status(cluster, order)["handled"] == 1


@pytest.mark.parametrize("outcome", ["handled", "failed", "unread", ""])
async def test_a_letter_that_is_refused_is_skipped_and_the_rest_are_sent_a_single_time(
    cluster: Cluster, namespace: str, operator: Start, archive: Archive, target: None, outcome: str
):
    for number in range(1, 6):
        archive.letter(number)
    archive.refused, archive.unreadable, archive.outcome = frozenset({2}), frozenset({4}), outcome
    order = cluster.apply(shop.replay(namespace, filter={"until": "2026-01-01T00:00:00Z"}, confirmationTimeout="1s"))
    await operator(archive_url=archive.url, replay_poll=0.05)
    await until(lambda: phase(cluster, order, "Completed"), "it is done")
    status = shop.status(cluster, order)
    assert sorted(archive.released) == [1, 3, 5]
    assert (status["matched"], status["sent"], status["skipped"], status[outcome or "unconfirmed"]) == (5, 3, 2, 3)
    assert sorted(skipped_event.split(":")[0] for skipped_event in status["skippedEvents"]) == [
        "dead letter 2",
        "dead letter 4",
    ]
    assert any("it was shortened" in skipped_event for skipped_event in status["skippedEvents"])
    assert shop.conditions(cluster, order)["Sent"]["reason"] == "Skipped"


@pytest.mark.parametrize(
    ("expected", "reason", "field"),
    [
        ({"reason": "boom"}, "ReplayReason", "spec.filter.reason"),
        ({"match": [{"cel": "event.id == 'e1'"}]}, "ReplayCel", "spec.filter.match"),
        ({"versions": ["v1"]}, "ReplayVersions", "spec.filter.versions"),
    ],
)
async def test_a_filter_that_means_nothing_is_refused(
    cluster: Cluster,
    namespace: str,
    operator: Start,
    archive: Archive,
    target: None,
    expected: dict[str, Any],
    reason: str,
    field: str,
):
    order = cluster.apply(shop.replay(namespace, source={"kind": "Archive"}, filter=expected))
    await operator(archive_url=archive.url)
    await until(lambda: shop.conditions(cluster, order), "it is looked at")
    output = shop.conditions(cluster, order)["Ready"]
    assert output["reason"] == reason
    assert field in output["message"]
    assert not archive.orders
