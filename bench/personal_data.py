"""CPU per event of a type without personal fields: with keys of persons in use, against an SDK without personal data.

The baseline has the same code with the functions of `tidings.messages.personal` replaced by ones that do nothing. A
unit of work reads an event, loads and saves a document, and publishes an event. Both sides run interleaved in one
process.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec
from rounds import Comparison, compare

from tidings import Event, Handlers, Service, StateContext, event
from tidings.fastapi import create_app
from tidings.messages import personal
from tidings.messages.envelope import Envelope
from tidings.subject_keys import KeyFile
from tidings.testing import MemorySidecar, lifespan, post

EVENTS = 1_000


@event("orders.orderConfirmed", version=2, subject="order_id")
class Confirmed(Event):
    order_id: str
    lines: list[str]
    total_cents: int


@event("kitchen.orderAccepted", subject="order_id")
class Accepted(Event):
    order_id: str
    lines: list[str]


class Ticket(msgspec.Struct):
    order_id: str
    lines: list[str]


def application() -> tuple[Service, Any]:
    """Return a service, and its application that loads, saves and publishes."""
    handlers = Handlers()

    @handlers.on(Confirmed)
    async def handle(confirmed: Confirmed, context: StateContext) -> None:
        await context.load(Ticket, confirmed.order_id)
        context.save(confirmed.order_id, Ticket(confirmed.order_id, confirmed.lines))
        context.publish(Accepted(order_id=confirmed.order_id, lines=confirmed.lines))

    service = Service("kitchen", handlers, sidecar=MemorySidecar("kitchen"))
    return service, create_app(service)


@contextmanager
def without_personal_data() -> Iterator[None]:
    """Replace what personal data adds to a unit of work by nothing."""
    nothing: dict[str, Any] = {
        "encrypt": lambda _model, data, _source, _id: (data, ""),
        "decrypt": lambda envelope: envelope.data,
        "encrypt_document": lambda _value, data, _name: data,
        "decrypt_document": lambda _model, data, _name: data,
        "remembering": nullcontext,
    }
    with mock.patch.multiple(personal, **nothing):
        yield


def body(number: int) -> bytes:
    """Return an event."""
    data = msgspec.json.encode(Confirmed(order_id=f"o-{number % 50}", lines=["a", "b", "c"], total_cents=5700))
    return Envelope(
        id=f"e-{number}", source="orders", type="orders.orderConfirmed", specversion="1.0", version="2",
        datacontenttype="application/json", time="2026-11-23T12:00:00Z", correlationid="c", data=msgspec.Raw(data),
    ).encode()  # fmt: skip


async def measure() -> float:
    """Return the CPU time per event in microseconds."""
    (service, app), bodies = application(), [body(number) for number in range(EVENTS)]
    headers = ((b"content-type", b"application/json"),)
    async with lifespan(app):
        while not await service.ready():  # noqa: ASYNC110 - a probe would ask, too
            await asyncio.sleep(0.005)
        started = time.process_time()
        for content in bodies:
            status, _ = await post(app, "/events/orders.orderConfirmed.v2", content, headers)
            assert status == 200
        return (time.process_time() - started) / EVENTS * 1e6


async def bare() -> float:
    """Measure the baseline."""
    with without_personal_data():
        return await measure()


async def run() -> list[Comparison]:
    """Measure both sides."""
    with tempfile.TemporaryDirectory() as folder:
        personal.use(KeyFile(Path(folder) / "keys.db"))
        try:
            comparison = await compare(
                "A unit of work of a type without personal fields",
                {"with keys": measure, "without personal data": bare},
                unit="µs of CPU per event",
                bar="no work for types without marks",
                settings=f"{EVENTS} events, in-memory sidecar, one process",
                less_is_better=True,
                rounds=15,
            )
        finally:
            personal.use(None)
    return [comparison]


if __name__ == "__main__":
    for result in asyncio.run(run()):
        print(result.row())
