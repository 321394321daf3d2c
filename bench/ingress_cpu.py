"""CPU per event, from the request's bytes to the handler, against dapr-ext-fastapi with a pydantic model.

Both applications are called as uvicorn calls them (ASGI), in one process, interleaved; the handlers do nothing.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec
from dapr.ext.fastapi import DaprApp
from fastapi import FastAPI
from pydantic import BaseModel
from rounds import Comparison, Side, compare

from tidings import Event, Handlers, Service, StateContext, event
from tidings.fastapi import create_app
from tidings.messages.envelope import Envelope
from tidings.testing import MemorySidecar, post

EVENTS = 2_000


class Line(Event):
    sku: str
    name: str
    quantity: int
    unit_price_cents: int


@event("orders.orderConfirmed", version=2, subject="order_id")
class Confirmed(Event):
    order_id: str
    lines: list[Line]
    total_cents: int


class PydanticLine(BaseModel):
    sku: str
    name: str
    quantity: int
    unitPriceCents: int  # noqa: N815 - the wire's name


class PydanticData(BaseModel):
    orderId: str  # noqa: N815
    lines: list[PydanticLine]
    totalCents: int  # noqa: N815


class PydanticEvent(BaseModel):
    id: str
    source: str
    type: str
    data: PydanticData


def tidings_app() -> Any:
    handlers = Handlers()

    @handlers.on(Confirmed)
    async def handle(event: Confirmed, context: StateContext) -> None:
        pass

    service = Service("kitchen", handlers, sidecar=MemorySidecar("kitchen"))
    service.ingress.delayed.enabled = True  # as it is once the service has started: each attempt is timed
    return create_app(service)


def dapr_extension_app() -> Any:
    app = FastAPI()

    async def handle(event: PydanticEvent) -> None:
        pass

    DaprApp(app).subscribe("pubsub", "orders.orderConfirmed.v2", route="/events/orders.orderConfirmed.v2")(handle)

    return app


def body() -> bytes:
    lines = [Line(sku=f"p{n}", name="Margherita", quantity=n + 1, unit_price_cents=950) for n in range(3)]
    data = msgspec.json.encode(Confirmed(order_id="o-1", lines=lines, total_cents=5700))
    return Envelope(
        id="e-1", source="orders", type="orders.orderConfirmed", specversion="1.0", version="2",
        datacontenttype="application/json", pubsubname="pubsub", topic="orders.orderConfirmed.v2",
        time="2026-11-23T12:00:00Z", correlationid="c", data=msgspec.Raw(data),
    ).encode()  # fmt: skip


async def measure(app: Any, content: bytes) -> float:
    headers = ((b"content-type", b"application/json"),)
    started = time.process_time()
    for _ in range(EVENTS):
        status, _ = await post(app, "/events/orders.orderConfirmed.v2", content, headers)
        assert status == 200
        await asyncio.sleep(0)  # as a server does between events: without it, timers that were cancelled pile up
    return (time.process_time() - started) / EVENTS * 1e6


async def run() -> list[Comparison]:
    """Measure."""
    content = body()

    def side(app: Any) -> Side:
        return lambda: measure(app, content)

    return [
        await compare(
            "CPU per event, parse to handler",
            {"tidings": side(tidings_app()), "dapr-ext-fastapi": side(dapr_extension_app())},
            unit="µs",
            bar="at least 4x",
            target=4,
            less_is_better=True,
            settings="no broker, no store, no server: ASGI calls; CPU time",
        )
    ]


if __name__ == "__main__":
    for comparison in asyncio.run(run()):
        print(comparison.row())
