"""`tidings.fastapi.DaprApp` stands in for `dapr.ext.fastapi.DaprApp`, without its silent successes."""

from __future__ import annotations

from typing import Any

import dapr.ext.fastapi
import httpx2
import pytest
from fastapi import Body, FastAPI

import tidings.fastapi
from tidings import Done, Drop, Retry


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
    ours, theirs = build(tidings.fastapi.DaprApp), build(dapr.ext.fastapi.DaprApp)
    assert (await ours.get("/dapr/subscribe")).json() == (await theirs.get("/dapr/subscribe")).json()
    for path in ("/events/pubsub/a", "/b"):
        for each in (ours, theirs):
            assert (await each.post(path, json={"id": "1"})).status_code == 200
            assert (await each.post(path, content=b"[")).status_code == 422


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
