"""Dead letters: under an id of their own, bounded, and visible even where the broker refuses them."""

from __future__ import annotations

import base64
import json
from typing import Any
from unittest.mock import MagicMock

import pytest
from prometheus_client import REGISTRY

from tidings import Context, Done, Drop, Event, Handlers, Rejected, Retry, Service, Settings, event
from tidings.consume.policy import Policy, SubscriptionPolicy
from tidings.errors import PublishRefused, SidecarUnavailable, TopicMissing
from tidings.outbox.direct import DirectOutbox
from tidings.testing import MemorySidecar

SUCCESS, RETRY = b'{"status":"SUCCESS"}', b'{"status":"RETRY"}'
PATH = "/events/shop.itemSold.v1"


@event("shop.itemSold")
class Sold(Event):
    item: str


def body(**attributes: Any) -> bytes:
    standard = {"id": "e-1", "source": "test", "type": "shop.itemSold", "specversion": "1.0", "version": "1"}
    return json.dumps({**standard, "data": {"item": "pie"}, **attributes}).encode()


class Small(MemorySidecar):
    """A sidecar whose broker takes small events only."""

    def __init__(self, limit: int, forbidden: str = "") -> None:
        super().__init__("shop")
        self.limit, self.forbidden, self.sizes = limit, forbidden, list[int]()

    async def publish(self, topic: str, data: bytes, *, metadata: Any = None) -> None:
        self.sizes.append(len(data))
        if topic == self.forbidden:
            raise PublishRefused("the topic is forbidden")
        if len(data) > self.limit:
            raise PublishRefused("maximum payload exceeded")
        await super().publish(topic, data, metadata=metadata)


def shop(sidecar: MemorySidecar, outcome: Any = None, **options: Any) -> Service:
    handlers = Handlers()

    @handlers.on(Sold)
    async def handle(_sold: Sold, _context: Context) -> Any:
        if outcome is None:
            raise Rejected("no")
        return outcome

    policy = Policy("shop", (SubscriptionPolicy("sales", "shop.itemSold", PATH, topic="shop.itemSold.v1"),))
    return Service("shop", handlers, sidecar=sidecar, policy=policy, **options)


def letters(sidecar: MemorySidecar) -> list[dict[str, Any]]:
    return sidecar.broker.events("deadletter.shop")


def counted(result: str) -> float:
    labels = {"subscription": "sales", "result": result}
    return REGISTRY.get_sample_value("tidings_dead_letters_total", labels) or 0.0


async def test_the_same_failure_has_one_id_and_every_replay_another() -> None:
    sidecar = MemorySidecar("shop")
    service = shop(sidecar)
    for content in (body(), body(), body(source="other"), body(id="e-2")):
        await service.ingress.deliver(PATH, content)
    for replay in ("r-1", "r-2"):
        await service.ingress.deliver("/events/replay", body(replayto="sales", replayid=replay))
    ids = [letter["id"] for letter in letters(sidecar)]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 5
    assert [letter.get("replayid") for letter in letters(sidecar)] == [None] * 4 + ["r-1", "r-2"]
    assert all("replayto" not in letter for letter in letters(sidecar))


async def test_bytes_that_are_no_event_travel_as_they_are() -> None:
    sidecar = MemorySidecar("shop")
    for content in (b"\xff\0garbage", b"\xff\0garbage", body(version="x", traceid=5)):
        assert await shop(sidecar).ingress.deliver(PATH, content) == SUCCESS
    first, second, third = letters(sidecar)
    assert first["id"] != second["id"]
    assert (first["type"], first["source"]) == ("tidings.malformedEvent", "unknown")
    assert first["datacontenttype"] == "application/octet-stream"
    assert base64.b64decode(first["data_base64"]) == b"\xff\0garbage"
    assert (third["type"], third["source"], third["originalid"]) == ("shop.itemSold", "test", "e-1")
    assert base64.b64decode(third["data_base64"]) == body(version="x", traceid=5)
    assert third["failurereason"].startswith("not a CloudEvents envelope: version")
    assert third["failuresubscription"] == "sales"


@pytest.mark.parametrize("limit", [900_000, 100_000, 20_000])
@pytest.mark.parametrize("content", [body(data={"item": "é" * 500_000}), b"\xff" * 1_000_000], ids=["event", "bytes"])
async def test_oversized_events_are_shortened_and_marked(limit: int, content: bytes) -> None:
    sidecar = Small(limit)
    assert await shop(sidecar).ingress.deliver(PATH, content) == SUCCESS
    [letter] = letters(sidecar)
    assert letter["failureshortened"] == str(len(content))
    assert base64.b64decode(letter["data_base64"])[:100] in content
    assert letter["failurereason"]
    assert len(sidecar.sizes) <= 4


async def test_what_the_broker_takes_is_not_shortened() -> None:
    sidecar = MemorySidecar("shop")
    service = shop(sidecar, settings=Settings(tidings_max_event=1_000))
    await service.ingress.deliver(PATH, body(data={"item": "x" * 5_000}))
    assert letters(sidecar)[0]["data"] == {"item": "x" * 5_000}


@pytest.mark.parametrize(
    "refusal", [PublishRefused("forbidden"), TopicMissing("no stream"), PublishRefused("too large")]
)
@pytest.mark.parametrize("content", [body(), b"\xff"], ids=["event", "bytes"])
async def test_a_dead_letter_that_is_refused_waits_in_the_outbox(
    refusal: PublishRefused, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidings.outbox.lanes._FIRST_PAUSE", 0.001)
    sidecar = MemorySidecar("shop")
    service = shop(sidecar)
    await service.start()
    sidecar.fail("publish", times=3, error=refusal)
    assert await service.ingress.deliver(PATH, content) == SUCCESS
    assert service.outbox.depth == 1
    await service.stop()
    [letter] = letters(sidecar)
    assert letter["failuresubscription"] == "sales"


async def test_where_nothing_takes_it_the_log_has_it_and_a_metric_counts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    sidecar = Small(1_000_000, forbidden="deadletter.shop")
    service = shop(sidecar, outbox=DirectOutbox(sidecar))
    before = counted("logged")
    log = MagicMock()
    monkeypatch.setattr("tidings.consume.deadletters.log", log)
    assert await service.ingress.deliver(PATH, body()) == SUCCESS
    assert letters(sidecar) == []
    assert counted("logged") == before + 1
    log.critical.assert_called_once()
    assert base64.b64decode(log.critical.call_args.kwargs["body_base64"]) == body()


async def test_while_the_sidecar_is_away_the_event_stays() -> None:
    sidecar = MemorySidecar("shop")
    service = shop(sidecar)
    sidecar.fail("publish", times=3, error=SidecarUnavailable("away"))
    assert [await service.ingress.deliver(PATH, body()) for _ in range(4)] == [RETRY] * 3 + [SUCCESS]
    assert len(letters(sidecar)) == 1


@pytest.mark.parametrize(
    ("outcome", "attributes", "confirmed"),
    [
        ("done", {}, "handled"),
        (None, {}, "failed"),
        ("drop", {}, "dropped"),
        ("done", {"type": "shop.unknown"}, "unread"),
        ("done", {"replayto": "elsewhere"}, "unread"),
        ("done", {"version": "7"}, "unread"),
    ],
)
async def test_a_replayed_event_is_confirmed_to_the_archive(
    outcome: str | None, attributes: dict[str, str], confirmed: str
) -> None:
    sidecar = MemorySidecar("shop")
    results = {"done": Done(), "drop": Drop("late"), None: None}
    service = shop(sidecar, results[outcome])
    content = body(**{"replayto": "sales", "replayid": "r-1", **attributes})
    for _ in range(2):
        assert await service.ingress.deliver("/events/replay", content) == SUCCESS
    reports = sidecar.broker.events("archive.recordReplayOutcome.v1")
    assert len({report["id"] for report in reports}) == 1
    report = reports[0]
    assert (report["type"], report["source"]) == ("archive.recordReplayOutcome", "shop")
    data = report["data"]
    assert (data["replayId"], data["eventId"], data["source"], data["outcome"]) == ("r-1", "e-1", "test", confirmed)
    assert data["subscription"] == ("sales" if confirmed != "unread" or "replayto" not in attributes else "replay")


async def test_an_attempt_is_no_outcome_of_a_replay() -> None:
    sidecar = MemorySidecar("shop")
    content = body(replayto="sales", replayid="r-1")
    assert await shop(sidecar, Retry("not now")).ingress.deliver("/events/replay", content) == RETRY
    assert sidecar.broker.events("archive.recordReplayOutcome.v1") == []


async def test_a_report_that_cannot_be_sent_comes_with_the_next_delivery_and_a_refused_one_holds_nothing_up() -> None:
    sidecar = MemorySidecar("shop")
    service = shop(sidecar, Done())
    content = body(replayto="sales", replayid="r-1")
    sidecar.fail("publish", times=1, error=SidecarUnavailable("away"))
    assert [await service.ingress.deliver("/events/replay", content) for _ in range(2)] == [RETRY, SUCCESS]
    sidecar.fail("publish", times=1, error=TopicMissing("no archive"))
    assert await service.ingress.deliver("/events/replay", body(id="e-2", replayto="sales", replayid="r-1")) == SUCCESS
