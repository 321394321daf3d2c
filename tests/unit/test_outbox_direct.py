"""The direct strategy: a caller's response while the broker is away, and the events that delivery publishes with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
import pytest
from fastapi import APIRouter
from tests.conformance.shop import TOPIC, Changed

from delivery.api import router as drivers
from delivery.handlers import handlers as delivering
from tidings import Context, Service
from tidings.errors import PublishRefused, SidecarUnavailable
from tidings.fastapi import CurrentService, create_app
from tidings.outbox.direct import DirectOutbox, PublishingPaused
from tidings.testing import MemoryBroker, MemorySidecar, lifespan

router = APIRouter()


@router.post("/tell")
async def publish_change(service: CurrentService) -> str:
    async def run(_: object, context: Context) -> str:
        return context.publish(Changed(item="apple", total=1))

    return await service.execute(run, None)


def outbox(sidecar: MemorySidecar, **how: float) -> DirectOutbox:
    return DirectOutbox(sidecar, **{"attempts": 2, "failures": 4, "pause": 60.0, **how})  # type: ignore[arg-type]


@asynccontextmanager
async def api(service: Service, router: APIRouter = router) -> AsyncIterator[httpx2.AsyncClient]:
    app = create_app(service, [router])
    async with (
        lifespan(app),
        httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://localhost") as http,
    ):
        yield http


async def test_callers_receive_retry_after_while_the_breaker_is_open() -> None:
    sidecar = MemorySidecar("shop")
    direct = outbox(sidecar)
    async with api(Service("shop", sidecar=sidecar, outbox=direct)) as http:
        sidecar.fail("publish", times=4)
        tried = [await http.post("/tell") for _ in range(2)]
        calls = len(sidecar.calls)
        refused = await http.post("/tell")
    assert [item.status_code for item in [*tried, refused]] == [503, 503, 503]
    assert [item.headers["retry-after"] for item in tried] == ["1", "1"]
    assert (calls, len(sidecar.calls)) == (4, 4), "each was tried twice, the last not at all"
    assert 60 <= int(refused.headers["retry-after"]) <= 91
    assert refused.headers["content-type"] == "application/problem+json"
    assert "publishing is paused, retry in" in refused.json()["detail"]
    assert direct.breaker.state == "open"


async def test_one_fact_keeps_its_id_over_its_tries_and_the_breaker_closes_again() -> None:
    sidecar = MemorySidecar("shop")
    async with api(Service("shop", sidecar=sidecar, outbox=outbox(sidecar, attempts=6, failures=2, pause=0.0))) as http:
        sidecar.fail("publish", times=2, when="after")
        response = await http.post("/tell")
    assert response.status_code == 200
    assert [event["id"] for event in sidecar.broker.events(TOPIC)] == [response.json()] * 3


async def test_a_call_without_an_answer_ends_at_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(*_: object, **__: object) -> None:
        await asyncio.sleep(60)

    sidecar = MemorySidecar("shop")
    monkeypatch.setattr(sidecar, "publish", hang)
    async with api(Service("shop", sidecar=sidecar, outbox=outbox(sidecar, deadline=0.02))) as http:
        assert "no answer within 0.02 s" in (await http.post("/tell")).json()["detail"]


async def test_what_is_refused_is_not_tried_again_and_does_not_open_the_breaker() -> None:
    sidecar = MemorySidecar("shop")
    direct = outbox(sidecar, failures=1)
    service = Service("shop", sidecar=sidecar, outbox=direct)
    await service.start()
    sidecar.fail("publish", error=PublishRefused("no stream"))

    async def run(_: object, context: Context) -> None:
        context.publish(Changed(item="apple", total=1))

    with pytest.raises(PublishRefused):
        await service.execute(run, None)
    assert (sidecar.calls, direct.breaker.state) == (["publish"], "closed")
    await service.stop()


def test_being_paused_is_being_unavailable() -> None:
    assert issubclass(PublishingPaused, SidecarUnavailable)


async def test_an_unpublished_arrival_of_a_driver_is_published_on_the_next_request() -> None:
    broker = MemoryBroker()
    sidecar = MemorySidecar("delivery", broker)
    service = Service("delivery", delivering, sidecar=sidecar)
    async with api(service, drivers) as http:
        sidecar.fail("publish", times=3)
        answers = [await http.post("/drivers/dan/on-duty", json={"name": "Dan"}) for _ in range(3)]
        existing = (await http.get("/drivers")).json()["drivers"]
    assert [answer.status_code for answer in answers] == [503, 200, 200]
    assert [item["driverId"] for item in existing] == ["dan"]
    events = broker.events("delivery.driverCameOnDuty.v1")
    assert len(events) == 2
    assert len({item["id"] for item in events}) == 1, "told again, it is the same fact"
