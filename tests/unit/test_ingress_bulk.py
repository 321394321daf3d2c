"""Many events in one delivery: each has its own outcome, and none is left without an answer."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from tidings import Context, Event, Handlers, Rejected, Retry, Service, event
from tidings.conventions import IGNORED_PATH
from tidings.testing import MemorySidecar

PATH = "/events/shop.itemSold.v1"


@event("shop.itemSold")
class Sold(Event):
    number: int


async def handle(sold: Sold, _context: Context) -> Any:
    if sold.number < 0:
        raise Rejected("less than nothing")
    return Retry("not yet") if sold.number == 13 else None


def entry(name: str, number: Any, **attributes: Any) -> dict[str, Any]:
    standard = {"id": name, "source": "t", "type": "shop.itemSold", "specversion": "1.0", "version": "1"}
    event = {**standard, "data": {"number": number}, **attributes}
    return {"entryId": name, "event": event, "contentType": "application/cloudevents+json", "metadata": None}


def delivery(*entries: dict[str, Any], **attributes: Any) -> bytes:
    around = {"id": "b", "metadata": {}, "pubsubname": "pubsub", "topic": "t", "type": "com.dapr.event.sent.bulk"}
    return json.dumps({"entries": entries, **around, **attributes}).encode()


def deep(name: str) -> dict[str, Any]:
    """Make an entry whose event is nested deeper than Python's own recursion limit."""
    nested: list[Any] = []
    for _ in range(400):
        nested = [nested]
    return entry(name, 1, nested=nested)


SEVERAL = "a SUCCESS b SUCCESS c SUCCESS d SUCCESS"
RAW = {"entryId": "raw", "event": base64.b64encode(b"17").decode(), "contentType": "application/octet-stream"}


@pytest.mark.parametrize(
    ("path", "body", "answers", "dead"),
    [
        (PATH, delivery(entry("a", 1), entry("b", 13), entry("c", -1)), "a SUCCESS b RETRY c SUCCESS", ["c"]),
        (
            PATH,
            delivery(entry("a", "one"), entry("b", 2, id=""), RAW),
            "a SUCCESS b SUCCESS raw SUCCESS",
            ["a", "malformed", "malformed"],
        ),
        (PATH, delivery(entry("a", 1), entry("a", 1)), "a SUCCESS a SUCCESS", []),
        (PATH, delivery(entry("a", 1), deep("b"), {"entryId": "c"}, entry("d", -1)), SEVERAL, ["b", "malformed", "d"]),
        (IGNORED_PATH, delivery(entry("a", 1), RAW), "a SUCCESS raw SUCCESS", ["malformed"]),
    ],
)
async def test_every_entry_is_answered_for_itself(path: str, body: bytes, answers: str, dead: list[str]) -> None:
    sidecar, handlers = MemorySidecar("shop"), Handlers()
    handlers.on(Sold)(handle)
    answer = json.loads(await Service("shop", handlers, sidecar=sidecar).ingress.deliver(path, body))
    assert " ".join(f"{status['entryId']} {status['status']}" for status in answer["statuses"]) == answers
    letters = sidecar.broker.events("deadletter.shop")
    assert [letter["originalid"].partition("-")[0] or "malformed" for letter in letters] == dead


@pytest.mark.parametrize(
    "body",
    [
        delivery(type="other"),
        delivery(),
        delivery(entries=None),
        delivery(entries=[{"event": 1}]),
        delivery(entry("a", 1), specversion="1.0"),
    ],
)
async def test_what_only_looks_like_many_is_one_that_cannot_be_read(body: bytes) -> None:
    sidecar = MemorySidecar("shop")
    assert await Service("shop", sidecar=sidecar).ingress.deliver(PATH, body) == b'{"status":"SUCCESS"}'
    [letter] = sidecar.broker.events("deadletter.shop")
    assert base64.b64decode(letter["data_base64"]) == body
