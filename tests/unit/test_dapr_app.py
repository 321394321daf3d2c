"""`tidings.fastapi.DaprApp` replaces `dapr.ext.fastapi.DaprApp`, without its silent successes."""

from __future__ import annotations

from typing import Any

import dapr.ext.fastapi
import httpx2
import pytest
from fastapi import Body, FastAPI
from fastapi.routing import APIRoute
from pydantic import BaseModel

import tidings.fastapi
from tidings import Done, Drop, Retry


class CloudEvent(BaseModel):
    """An event as the subscriber of Dapr's quickstart declares it."""

    id: str
    source: str
    type: str
    data: dict[str, int]


def client(app: FastAPI) -> httpx2.AsyncClient:
    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    return httpx2.AsyncClient(transport=transport, base_url="http://app")


def build(kind: Any) -> httpx2.AsyncClient:
    app = FastAPI()
    dapr_app = kind(app)

    @dapr_app.subscribe(pubsub="pubsub", topic="a", metadata={"rawPayload": "true"})
    def first(event: dict[str, Any] = Body()) -> dict[str, Any]:  # noqa: B008 - as users of DaprApp write
        return {"success": event["id"]}

    @dapr_app.subscribe("pubsub", "b", route="/b", dead_letter_topic="dead")
    async def second(event: dict[str, Any]) -> None:
        assert event["id"]

    return client(app)


async def test_it_declares_and_answers_as_dapr_does() -> None:
    own, theirs = build(tidings.fastapi.DaprApp), build(dapr.ext.fastapi.DaprApp)
    assert (await own.get("/dapr/subscribe")).json() == (await theirs.get("/dapr/subscribe")).json()
    for path in ("/events/pubsub/a", "/b"):
        for item in (own, theirs):
            assert (await item.post(path, json={"id": "1"})).status_code == 200
            assert (await item.post(path, content=b"[")).status_code == 422


@pytest.mark.parametrize(
    ("returned", "status", "answer"),
    [
        (Done(), 200, {"status": "SUCCESS"}),
        (Retry("later"), 200, {"status": "RETRY"}),
        (Drop("unwanted"), 200, {"status": "DROP"}),
        ({"status": "RETRY"}, 200, {"status": "RETRY"}),
        (None, 200, {"status": "SUCCESS"}),
        (({"error": "x"}, 500), 500, None),
        ({"status": "FAILED"}, 500, None),
    ],
)
async def test_a_result_is_an_outcome_or_an_error(returned: Any, status: int, answer: Any) -> None:
    app = FastAPI()

    @tidings.fastapi.DaprApp(app).subscribe("pubsub", "a")
    async def handler(event: dict[str, Any]) -> Any:
        return returned

    response = await client(app).post("/events/pubsub/a", json={})
    assert response.status_code == status
    assert answer is None or response.json() == answer


@pytest.mark.parametrize(
    "provided", [{}, {"router_tags": None}, {"router_tags": []}, {"router_tags": ["Mine", "PubSub"]}]
)
def test_routes_have_the_tags_that_dapr_gives_them(provided: dict[str, Any]) -> None:
    def tags(kind: Any) -> dict[str, Any]:
        app = FastAPI()
        kind(app, **provided).subscribe(pubsub="pubsub", topic="a")(lambda: None)
        return {route.path: route.tags for route in app.routes if isinstance(route, APIRoute)}

    assert tags(tidings.fastapi.DaprApp) == tags(dapr.ext.fastapi.DaprApp)


async def test_the_order_processor_of_daprs_quickstart_works_with_a_changed_import() -> None:
    app, seen = FastAPI(), []
    dapr_app = tidings.fastapi.DaprApp(app)

    @dapr_app.subscribe(pubsub="orderpubsub", topic="orders")
    def orders_subscriber(event: CloudEvent) -> dict[str, bool]:
        seen.append(event.data["orderId"])
        return {"success": True}

    event = {"id": "1", "source": "checkout", "type": "order", "specversion": "1.0", "data": {"orderId": 7}}
    async with client(app) as http:
        answer = await http.post("/events/orderpubsub/orders", json=event)
    assert (answer.status_code, answer.json(), seen) == (200, {"success": True}, [7])
