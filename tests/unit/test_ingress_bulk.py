"""Many events in one delivery: each has its own outcome, and none is left without an answer."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from tidings import Context, Event, Handlers, Rejected, Retry, Service, event
from tidings.plan.conventions import IGNORED_PATH
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


RAW = {"entryId": "raw", "event": base64.b64encode(b"17").decode(), "contentType": "application/octet-stream"}


@pytest.mark.parametrize(
    ("path", "body", "answers", "dead"),
    [
        (PATH, delivery(entry("a", 1), entry("b", 13), entry("c", -1)), "a SUCCESS b RETRY c SUCCESS", ["c"]),
        (PATH, delivery(entry("a", "one"), entry("b", 2, id=""), RAW), "a SUCCESS b DROP raw DROP", ["a"]),
        (PATH, delivery(entry("a", 1), entry("a", 1)), "a SUCCESS a SUCCESS", []),
        (PATH, delivery(), "", []),
        (IGNORED_PATH, delivery(entry("a", 1), RAW), "a SUCCESS raw SUCCESS", []),
    ],
)
async def test_each_entry_is_answered_for_itself(path: str, body: bytes, answers: str, dead: list[str]) -> None:
    sidecar, handlers = MemorySidecar("shop"), Handlers()
    handlers.on(Sold)(handle)
    answer = json.loads(await Service("shop", handlers, sidecar=sidecar).ingress.deliver(path, body))
    assert " ".join(f"{each['entryId']} {each['status']}" for each in answer["statuses"]) == answers
    assert [each["id"] for each in sidecar.broker.events("deadletter.shop")] == dead


@pytest.mark.parametrize("body", [delivery(type="other"), delivery(entries=None), delivery(entries=[{"event": 1}])])
async def test_what_only_looks_like_many_is_one_that_cannot_be_read(body: bytes) -> None:
    assert await Service("shop", sidecar=MemorySidecar("shop")).ingress.deliver(PATH, body) == b'{"status":"DROP"}'
