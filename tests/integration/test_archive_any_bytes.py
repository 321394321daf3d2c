"""The archive stores, lists, finds, shows and replays events of any bytes, on SQLite and PostgreSQL."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio
from tests.support.postgres import own_database
from tests.unit.test_archive_service import OUTCOME, PLACED, Archive, confirm, dead, fact, patience, running

__all__ = ["patience"]
pytestmark = pytest.mark.real
DEAD = "deadletter.pickup"
LONG = "i" * 9_000


@dataclass(frozen=True)
class Odd:
    """Bytes of an event; whether they can be sent again, or why a replay skips them."""

    name: str
    body: bytes
    can_be_sent: bool = True


def odd(name: str, /, *, sent: bool = True, **attributes: Any) -> Odd:
    return Odd(name, json.dumps({**fact(PLACED, f"e-{name}"), **attributes}).encode(), sent)


def written(name: str, data: bytes, *, sent: bool = True) -> Odd:
    """Return an event whose data is exactly these bytes."""
    whole = json.dumps({**fact(PLACED, f"e-{name}"), "data": "DATA"}).encode()
    return Odd(name, whole.replace(b'"DATA"', data), sent)


def raw(name: str, body: bytes) -> Odd:
    return Odd(name, body, can_be_sent=False)


EVENTS = [
    odd("nul-in-data", data={"a\0b": "\0"}),
    odd("nul-in-subject", subject="a\0b", sent=False),
    odd("surrogate-in-data", data="\ud800", sent=False),
    odd("surrogate-in-source", source="\udfff", sent=False),
    odd("long-subject", subject="s" * 9_000),
    odd("long-correlation", correlationid="c" * 9_000),
    odd("longer-subject", subject="s" * 20_000, sent=False),
    odd("version-5000-digits", version="9" * 5_000, sent=False),
    odd("version-20-digits", version="9" * 20, sent=False),
    odd("year-9999", time="9999-12-31T23:59:59.999999Z"),
    odd("after-9999", time="9999-12-31T23:59:59.999999-23:59", sent=False),
    odd("before-1", time="0001-01-01T00:00:00+23:59", sent=False),
    odd("year-99999", time="99999-01-01T00:00:00Z", sent=False),
    odd("leap-second", time="2026-12-31T23:59:60Z"),
    odd("bidi", data="\u202eabc\x1b[31m<script>alert(1)</script>"),
    odd("escape-in-subject", subject="\x1b[31m", sent=False),
    odd("integer-and-boolean-attributes", subject=7, correlationid=True, causationid=-5),
    odd("patterns", subject="%_%\\", source="'; drop table events; --"),
    odd("picture", data=None, data_base64="iVBORw0KGgoA", datacontenttype="image/png"),
    odd("names", data={"__proto__": {"x": 1}, "": 0, "a.b": 2, "k" * 100_000: 1}),
    odd("one-long-word", data="w" * 900_000),
    written("exponents", b"[1e-400, -1e-131073, 1e131073, 0e999999999999]"),
    written("repeated-keys", b'{"a": 1, "a": {"b": 2}}'),
    written("number-20-digits", b"[18446744073709551616, 99999999999999999999, 1e400, -0]"),
    written("number-4000-digits", b"9" * 4_000),
    written("nested-40", b"[" * 40 + b"]" * 40),
    written("nested-900", b"[" * 900 + b"]" * 900, sent=False),
    written("nested-90000", b"[" * 90_000 + b"]" * 90_000, sent=False),
    Odd("long-id", json.dumps(fact(PLACED, LONG)).encode()),
    raw("no-json", b"\xff\xfe\x00needle\x00"),
    raw("invalid-utf8-in-json", json.dumps(fact(PLACED, "e-u", data="DATA")).encode().replace(b"DATA", b"\xc3\x28")),
    raw("empty", b""),
    raw("nul", b"\0"),
    raw("null", b"null"),
    raw("number", b"9" * 5_000),
    raw("list", b"[1, 2]"),
    raw("list-of-events", json.dumps([fact(PLACED, "e-x")]).encode()),
    raw("byte-order-mark", b"\xef\xbb\xbf{}"),
    raw("gzip", b"\x1f\x8b\x08\x00" + bytes(range(256)) * 20),
    raw("id-is-an-object", b'{"id": {}, "source": 7, "type": null, "specversion": 1.0, "version": [1], "time": {}}'),
]
SENT = [event.name for event in EVENTS if event.can_be_sent]


@pytest_asyncio.fixture(params=["sqlite", "postgresql"])
async def archive(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Archive]:
    """Yield the service on one of its databases, which is empty."""
    if request.param == "sqlite":
        async with running(tmp_path) as made:
            yield made
        return
    async with own_database(request.getfixturevalue("postgres")) as url, running(tmp_path, url=url) as made:
        yield made


async def deliver(archive: Archive, topic: str, body: bytes) -> None:
    answer = await archive.service.ingress.deliver(f"/events/{topic}", body)
    assert answer == b'{"status":"SUCCESS"}'


async def test_events_of_any_bytes_are_stored_listed_shown_and_replayed_or_skipped(archive: Archive) -> None:
    for event in EVENTS:
        await deliver(archive, PLACED, event.body)
        await deliver(archive, PLACED, event.body)  # a second time is the same one
    page = await archive.get("/events", limit=1000)
    kept = len(page["events"])
    assert kept == sum((await archive.get("/counts")).values())
    assert archive.broker.events("deadletter.archive") == []
    for event in page["events"]:
        if isinstance(event.get("id"), str) and "/" not in event["id"]:
            path = f"/events/{quote(event['id'], safe='', errors='replace')}"
            assert (await archive.http.get(path)).status_code in (200, 404, 422)
    for query in ({"q": "needle"}, {"source": "\ufffd"}, {"since": "0001-01-01T00:00:00Z"},
                  {"until": "9999-12-31T23:59:59Z"}, {"type": "orders.*"}, {"q": "i" * 200}):  # fmt: skip
        await archive.get("/events", **query)
    assert len((await archive.get("/events", q="NEEDLE"))["events"]) == 1
    assert (await archive.http.get("/console/live")).status_code == 200

    asked = await archive.http.post("/replays", json={"consumer": "loyalty", "replayId": "r-1"})
    assert asked.status_code == 202, asked.text
    ended = await archive.ended("r-1")
    assert (ended["state"], ended["reason"]) == ("completed", None)
    assert ended["sent"] + ended["skipped"] == ended["matched"]
    await archive.until(lambda: len(archive.sent("loyalty")) == ended["sent"])
    assert {item["id"].removeprefix("e-")[:30] for item in archive.sent("loyalty")} == {
        "i" * 30 if name == "long-id" else name for name in SENT
    }
    shown = (await archive.get("/replays/r-1"))["skippedEvents"]
    assert len(shown) == ended["skipped"]
    assert max(map(len, shown)) <= 2_000


async def test_dead_letters_of_any_bytes_are_listed_shown_and_replayed_or_refused(archive: Archive) -> None:
    """Such as the sidecar moves there by itself: the event as it came."""
    for event in EVENTS:
        before = len((await archive.get("/deadletters", limit=1000, state="any"))["deadLetters"])
        await deliver(archive, DEAD, event.body)
        listed = (await archive.get("/deadletters", limit=1000, state="any"))["deadLetters"]
        number = listed[0]["number"]
        assert len(listed) >= before, event.name
        shown = await archive.get(f"/deadletters/{number}")
        assert shown["reason"], event.name
        body = {"subscription": "pickup-pizza-boxed", "batch": "b"}
        answer = await archive.http.post(f"/deadletters/{number}/replay", json=body)
        assert answer.status_code == (202 if event.can_be_sent else 409), f"{event.name}: {answer.text[:300]}"
        waiting = (await archive.get("/deadletters", notBatch="b", limit=1000, state="any"))["deadLetters"]
        assert (number in [item["number"] for item in waiting]) != event.can_be_sent, event.name
        discarded = await archive.http.post(f"/deadletters/{number}/discard", json={"reason": "odd"})
        assert discarded.status_code == 200, event.name
    await archive.until(lambda: len(archive.sent("pickup")) == len(SENT))
    assert (await archive.get("/audit"))["entries"]


ODD_TEXTS = ("a\0b", "\ud800", LONG, "\u202e\x1b[31m", "99999999999999999999")


async def test_a_failure_may_contain_anything(archive: Archive) -> None:
    names = ("failurereason", "failureclass", "failuresubscription", "failuretopic", "failurefirst", "failurelast",
             "failureattempts", "originalid", "failureshortened", "subject", "correlationid", "replayid")  # fmt: skip
    for count, (name, text) in enumerate(itertools.product(names, ODD_TEXTS)):
        value = dead(f"d-{count}", **{"originalid": f"o-{count}", name: text})
        await deliver(archive, DEAD, json.dumps(value).encode())
        [letter, *_] = (await archive.get("/deadletters"))["deadLetters"]
        assert (await archive.get(f"/deadletters/{letter['number']}"))["event"]
        answer = await archive.http.post(f"/deadletters/{letter['number']}/replay", json={"subscription": "pickup-x"})
        assert answer.status_code in (202, 409), answer.text
    assert archive.broker.events("deadletter.archive") == []


async def test_a_confirmation_may_contain_anything(archive: Archive) -> None:
    await archive.receive(DEAD, dead("e-1"))
    replay_id = (await archive.http.post("/deadletters/1/replay", json={})).json()["replay"]["replayId"]
    for text, name in itertools.product(ODD_TEXTS, ("replayId", "eventId", "source", "subscription", "reason")):
        data = {"replayId": replay_id, "eventId": "e-2", "source": "orders", "subscription": "s", "outcome": "failed"}
        event = fact(OUTCOME, source="pickup", data={**data, name: text})
        await deliver(archive, OUTCOME, json.dumps(event).encode())
        assert (await archive.http.get("/deadletters")).status_code == 200
    assert (await archive.get("/deadletters/1"))["state"] == "sent"
    await confirm(archive, replay_id, "failed", reason="a\0b")
    assert (await archive.get("/deadletters/1"))["replay"]["reason"] == "a\ufffdb"
