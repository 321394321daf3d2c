"""Every failure of an event is logged with that event's ids, also if another event scheduled it."""

import json
from typing import Any

import msgspec
import pytest
from tests.conformance.support import poll

from tidings import DeadLetter, Drop, Event, Handlers, Service, StateContext, command, event
from tidings.messages.envelope import Envelope
from tidings.observability import logs
from tidings.testing import MemorySidecar, post

handlers = Handlers()


@event("shop.shopOpened", subject="shop")
class ShopOpened(Event):
    shop: str


@command("shop.sweepFloor", subject="shop")
class SweepFloor(Event):
    shop: str


@handlers.on(ShopOpened)
async def fail(opened: ShopOpened, context: StateContext) -> Drop | None:
    if opened.shop == "closed":
        return Drop("nobody wants it")
    if opened.shop == "broken":
        raise ValueError("no light")
    context.schedule(SweepFloor(shop=opened.shop))
    return None


@handlers.on(SweepFloor)
async def give_up(_command: SweepFloor, _context: StateContext) -> DeadLetter:
    return DeadLetter("no broom")


def opened(shop: str) -> bytes:
    return Envelope(
        id=f"id of {shop}",
        source="test",
        type="shop.shopOpened",
        specversion="1.0",
        version="1",
        correlationid=f"correlation of {shop}",
        data=msgspec.Raw(msgspec.json.encode({"shop": shop})),
    ).encode()


def output(captured: pytest.CaptureFixture[str], what: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in captured.readouterr().err.splitlines()]
    return [line for line in lines if line["event"] == what]


@pytest.mark.parametrize(("shop", "what"), [("broken", "event.failed"), ("closed", "event.dropped")])
async def test_a_delivered_event(capsys: pytest.CaptureFixture[str], shop: str, what: str):
    service = Service("shop", handlers, sidecar=MemorySidecar("shop"))
    logs.configure("shop", "json", "INFO")
    await service.start()
    await post(service.ingress, "/events/shop.shopOpened.v1", opened(shop))
    await service.stop()
    (line,) = output(capsys, what)
    assert (line["event_id"], line["correlation_id"]) == (f"id of {shop}", f"correlation of {shop}")
    assert line["event_type"] == "shop.shopOpened.v1"


async def test_a_scheduled_message(capsys: pytest.CaptureFixture[str]):
    sidecar = MemorySidecar("shop")
    service = Service("shop", handlers, sidecar=sidecar)
    logs.configure("shop", "json", "INFO")
    await service.start()
    await post(service.ingress, "/events/shop.shopOpened.v1", opened("fine"))
    await poll(lambda: not service.outbox.depth)
    await service.stop()
    (dead,) = sidecar.broker.events("deadletter.shop")
    (line,) = output(capsys, "event.dead_lettered")
    assert (line["event_id"], line["correlation_id"]) == (dead["originalid"], "correlation of fine")
    assert (line["event_type"], line["reason"]) == ("shop.sweepFloor.v1", "no broom")
