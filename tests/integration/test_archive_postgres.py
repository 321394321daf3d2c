"""Two replicas of the archive on a real PostgreSQL: each thing is kept once, and what one leaves the other ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx2
import pytest
from tests.support.postgres import own_database

from tidings import Service, Settings
from tidings.consume.policy import Policy, SubscriptionPolicy
from tidings.fastapi import create_app
from tidings.outbox.table import TableOutbox
from tidings.testing import MemoryBroker, MemorySidecar
from tidings_archive import api, api_deadletters, api_replays, consumers, replays
from tidings_archive.handlers import handlers
from tidings_archive.migrations import upgrade
from tidings_archive.responses import ERRORS
from tidings_archive.settings import ArchiveSettings

pytestmark = pytest.mark.real
PLACED = "orders.orderPlaced.v1"
PATIENCE = 60.0


def entry(name: str, topic: str) -> SubscriptionPolicy:
    return SubscriptionPolicy(name=name, type="*", path=f"/events/{topic}", topic=topic)


OUTCOME = "archive.recordReplayOutcome.v1"
POLICY = Policy(
    "archive",
    (
        entry("archive-everything", PLACED),
        entry("archive-dead-letters", "deadletter.pickup"),
        SubscriptionPolicy(
            name="archive-record-replay-outcome",
            type="archive.recordReplayOutcome",
            path=f"/events/{OUTCOME}",
            topic=OUTCOME,
        ),
    ),
)


class Replica:
    """One replica, by what its sidecar brings it and by HTTP."""

    def __init__(self, url: str, broker: MemoryBroker, name: str) -> None:
        outbox = TableOutbox.on(url, tables=upgrade)
        self.sidecar, settings = MemorySidecar("archive", broker), Settings(tidings_instance=name)
        self.service = Service(
            "archive", handlers, settings=settings, sidecar=self.sidecar, outbox=outbox, policy=POLICY
        )
        app = create_app(self.service, [api.router, api_deadletters.router, api_replays.router], errors=ERRORS)
        self.http = httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://archive")

    async def receive(self, topic: str, body: bytes) -> bytes:
        return await self.service.ingress.deliver(f"/events/{topic}", body)

    async def get(self, path: str, **query: Any) -> Any:
        return (await self.http.get(path, params=query)).json()


@pytest.fixture
async def replicas(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Replica, Replica, MemoryBroker]]:
    monkeypatch.setattr(replays, "settings", lambda: ArchiveSettings(replay_settle=0.0, replay_rate=1000))
    monkeypatch.setattr(consumers, "known_consumers", frozenset[str])
    broker = MemoryBroker()
    async with own_database(postgres) as url:
        one, two = Replica(url, broker, "one"), Replica(url, broker, "two")
        for item in (one, two):
            await item.service.start()
            await eventually(item.service.ready)
        yield one, two, broker
        for item in (one, two):
            await item.http.aclose()
            await item.service.stop()


def fact(identity: str, **attributes: Any) -> bytes:
    standard = {"id": identity, "source": "orders", "type": "orders.orderPlaced", "specversion": "1.0", "version": "1"}
    data = {"orderId": identity, "name": "Zoë", "odd": "\0"}
    return json.dumps(
        {**standard, "time": "2026-03-14T12:00:00Z", "data": data, **attributes}, ensure_ascii=False
    ).encode()


async def test_an_event_delivered_to_both_replicas_is_stored_a_single_time(
    replicas: tuple[Replica, Replica, MemoryBroker],
) -> None:
    one, two, _ = replicas
    events = [fact(f"e-{number}", subject=f"o-{number % 7}") for number in range(100)]
    answers = await asyncio.gather(*(item.receive(PLACED, event) for event in events for item in (one, two)))
    assert set(answers) == {b'{"status":"SUCCESS"}'}
    assert await two.get("/counts") == {PLACED: 100}
    assert len((await one.get("/events", subject="o-3", type="orders.*", q="zoë"))["events"]) == 14
    page = await one.get("/events", limit=30)
    assert len((await two.get("/events", limit=100, cursor=page["next"]))["events"]) == 70


async def test_a_dead_letter_delivered_to_both_replicas_gets_one_decision(
    replicas: tuple[Replica, Replica, MemoryBroker],
) -> None:
    one, two, broker = replicas
    failure = {"failuresubscription": "pickup-x", "failurereason": "odd"}
    for last in ("2026-03-14T12:00:00Z", "2026-03-14T12:01:00Z"):
        letter = fact("e-1", **failure, failurelast=last)
        await asyncio.gather(*(item.receive("deadletter.pickup", letter) for item in (one, two)))
    [result] = (await one.get("/deadletters"))["deadLetters"]
    assert result["failures"] == 2
    asked = [item.http.post(f"/deadletters/{result['number']}/discard", json={"reason": "x"}) for item in (one, two)]
    asked.append(one.http.post(f"/deadletters/{result['number']}/replay", json={}))
    statuses = sorted(answer.status_code for answer in await asyncio.gather(*asked))
    # A letter that is discarded first is not sent again; one that is sent first may still be discarded.
    assert statuses in ([200, 200, 409], [200, 200, 202])
    expected = statuses.count(202)
    await eventually(lambda: sent(broker, expected))
    assert len(broker.events("replay.pickup")) == expected


async def test_a_replay_that_one_began_is_ended_by_the_other(replicas: tuple[Replica, Replica, MemoryBroker]) -> None:
    one, two, broker = replicas
    for number in range(60):
        await one.receive(PLACED, fact(f"e-{number:02}"))
    await one.http.post("/replays", json={"replayId": "r-1", "consumer": "pickup", "ratePerSecond": 40})
    await eventually(lambda: sent(broker, 10))
    await one.service.stop()

    async def ended() -> bool:
        return bool((await two.get("/replays/r-1"))["state"] == "completed")

    await eventually(ended)
    await eventually(lambda: sent(broker, 60))
    ids = [event["id"] for event in broker.events("replay.pickup")]
    assert sorted(set(ids)) == [f"e-{number:02}" for number in range(60)]
    assert len(ids) == 60


async def eventually(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await holds():  # noqa: ASYNC110 - asked, as by a probe
            await asyncio.sleep(0.01)


async def sent(broker: MemoryBroker, number: int) -> bool:
    return len(broker.events("replay.pickup")) >= number


async def test_a_letter_that_both_are_asked_to_replay_as_one_batch_is_sent_a_single_time_and_counted_as_confirmed(
    replicas: tuple[Replica, Replica, MemoryBroker],
) -> None:
    """As two operators of which one does not know yet that it has lost its lease."""
    one, two, broker = replicas
    failure = {"failuresubscription": "pickup-x", "failurereason": "odd"}
    for number in range(20):
        await one.receive("deadletter.pickup", fact(f"e-{number}", **failure))
    body = {"batch": "uid-1"}
    answers = await asyncio.gather(
        *(item.http.post(f"/deadletters/{n}/replay", json=body) for n in range(1, 21) for item in (one, two))
    )
    assert sorted(answer.status_code for answer in answers) == [202] * 40
    await eventually(lambda: sent(broker, 20))
    ids = [event["id"] for event in broker.events("replay.pickup")]
    assert sorted(ids) == sorted(f"e-{number}" for number in range(20))
    outcomes = await two.get("/deadletters/outcomes", batch="uid-1")
    assert (outcomes["sent"], outcomes["unconfirmed"], outcomes["handled"]) == (20, 20, 0)

    events = broker.events("replay.pickup")
    for count, event in enumerate(events[:5]):
        await (one, two)[count % 2].receive(OUTCOME, confirmation(event, "handled"))
        await (two, one)[count % 2].receive(OUTCOME, confirmation(event, "handled"))  # delivered twice
    outcomes = await one.get("/deadletters/outcomes", batch="uid-1")
    assert (outcomes["sent"], outcomes["unconfirmed"], outcomes["handled"]) == (20, 15, 5)
    states = [dead_letter["state"] for dead_letter in (await one.get("/deadletters", state="any"))["deadLetters"]]
    assert (states.count("handled"), states.count("sent")) == (5, 15)


async def test_redrives_of_both_that_overlap_send_each_letter_once_and_leave_none(
    replicas: tuple[Replica, Replica, MemoryBroker],
) -> None:
    one, two, broker = replicas
    for number in range(40):
        failure = {"failuresubscription": "pickup-x", "failurereason": "No shelf" if number < 20 else "odd"}
        await one.receive("deadletter.pickup", fact(f"e-{number}", **failure))
    narrow = {"reason": "NO SHELF", "ratePerSecond": 40}
    answers = await asyncio.gather(
        one.http.post("/deadletters/redrive", json=narrow),
        two.http.post("/deadletters/redrive", json={"app": "pickup", "ratePerSecond": 80}),
    )
    assert [answer.status_code for answer in answers] == [202, 202]
    await eventually(lambda: sent(broker, 40))
    ids = [event["id"] for event in broker.events("replay.pickup")]
    assert sorted(ids) == sorted(f"e-{number}" for number in range(40))

    async def ended() -> bool:
        states = [element["state"] for element in (await one.get("/replays"))["replays"]]
        return states == ["completed", "completed"]

    await eventually(ended)
    assert sum(element["sent"] for element in (await two.get("/replays"))["replays"]) == 40


async def test_a_letter_whose_replica_dies_before_it_is_sent_is_sent_by_the_other(
    replicas: tuple[Replica, Replica, MemoryBroker],
) -> None:
    one, two, broker = replicas
    await one.receive("deadletter.pickup", fact("e-1", failuresubscription="pickup-x", failurereason="odd"))
    for item in (one, two):
        item.sidecar.down = True
    answer = await one.http.post("/deadletters/1/replay", json={})
    assert answer.status_code == 202
    await one.service.stop()
    assert (await two.get("/deadletters/1"))["state"] == "sent"
    assert broker.events("replay.pickup") == []
    two.sidecar.down = False
    await eventually(lambda: sent(broker, 1))
    assert (await two.get("/deadletters/1"))["replay"]["outcome"] == "unconfirmed"
    await two.receive(OUTCOME, confirmation(broker.events("replay.pickup")[0], "handled"))
    assert (await two.get("/deadletters/1"))["state"] == "handled"
    assert len(broker.events("replay.pickup")) == 1


def confirmation(event: dict[str, Any], outcome: str) -> bytes:
    """Write what a consumer's SDK confirms."""
    data = {"replayId": event["replayid"], "eventId": event["id"], "source": event["source"],
            "subscription": event["replayto"], "outcome": outcome, "reason": ""}  # fmt: skip
    attributes = {"type": "archive.recordReplayOutcome", "source": "pickup", "data": data}
    return fact(f"c-{event['id']}-{outcome}", **attributes)
