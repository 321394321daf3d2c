"""A service that stops finishes what is in flight, takes nothing more, and returns what it cannot finish."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2

from tidings import Event, Handlers, Service, Settings, StateContext, event
from tidings.fastapi import create_app
from tidings.testing import MemoryBroker, MemorySidecar, MemoryStore, lifespan, post

PATH = "/events/shop.itemWrapped.v1"
BODY = json.dumps(
    {
        "id": "e-1",
        "source": "t",
        "type": "shop.itemWrapped",
        "specversion": "1.0",
        "version": "1",
        "data": {"item": "a"},
    }
).encode()


@event("shop.itemWrapped", subject="item")
class Wrapped(Event):
    item: str


@event("shop.itemSent", subject="item")
class Sent(Event):
    item: str


class Shop:
    """A service whose handler waits until it is released."""

    def __init__(self, sidecar: MemorySidecar, drain: float = 5.0) -> None:
        self.sidecar, self.begun, self.go_on = sidecar, asyncio.Event(), asyncio.Event()
        handlers = Handlers()
        handlers.on(Wrapped)(self.send)
        self.service = Service("shop", handlers, sidecar=sidecar, settings=Settings(tidings_drain=drain))
        self.app = create_app(self.service)

    async def send(self, message: Wrapped, context: StateContext) -> None:
        self.begun.set()
        await self.go_on.wait()
        context.publish(Sent(item=message.item))

    @property
    def sent(self) -> list[dict[str, Any]]:
        return self.sidecar.broker.events("shop.itemSent.v1")


async def test_what_is_in_flight_is_finished_and_published_before_the_end() -> None:
    shop = Shop(MemorySidecar("shop"))
    async with lifespan(shop.app):
        delivery = asyncio.create_task(post(shop.app, PATH, BODY))
        await shop.begun.wait()
        stopping = asyncio.create_task(shop.service.stop())
        await asyncio.sleep(0.02)
        transport = httpx2.ASGITransport(shop.app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://shop") as client:
            assert (await client.get("/healthz")).status_code == 503, "the sidecar must bring nothing more"
        assert not stopping.done()
        shop.go_on.set()
        await stopping
        assert (await delivery)[1] == b'{"status":"SUCCESS"}'
    assert len(shop.sent) == 1


async def test_what_cannot_be_finished_in_time_is_left_to_the_broker() -> None:
    broker, store = MemoryBroker(), MemoryStore()
    shop = Shop(MemorySidecar("shop", broker, store), drain=0.05)
    async with lifespan(shop.app):
        delivery = asyncio.create_task(post(shop.app, PATH, BODY))
        await shop.begun.wait()
    delivery.cancel()
    assert shop.sent == []
    again = Shop(MemorySidecar("shop", broker, store))
    again.go_on.set()
    async with lifespan(again.app):
        assert (await post(again.app, PATH, BODY))[1] == b'{"status":"SUCCESS"}'
    assert len(again.sent) == 1


async def test_background_work_runs_between_start_and_stop() -> None:
    shop, results = Shop(MemorySidecar("shop")), list[str]()

    async def result(name: str, _context: StateContext) -> str:
        return name

    @asynccontextmanager
    async def background(service: Service) -> AsyncIterator[None]:
        results.append(await service.execute(result, "entered"))
        yield
        assert service.healthy
        results.append(await service.execute(result, "exited"))

    async with lifespan(create_app(shop.service, background=background)):
        assert results == ["entered"]
    assert results == ["entered", "exited"]


async def test_full_collections_skip_what_existed_at_the_start_until_the_end() -> None:
    shop = Shop(MemorySidecar("shop"))
    async with lifespan(shop.app):
        assert gc.get_freeze_count() > len(gc.get_objects())
    assert gc.get_freeze_count() == 0
