"""Publishes numbers through its sidecar."""

import json
import os

import httpx2
from fastapi import FastAPI

app = FastAPI()
SIDECAR = f"http://127.0.0.1:{os.environ['DAPR_HTTP_PORT']}"
TOKEN = {"dapr-api-token": os.environ["DAPR_API_TOKEN"]}


@app.get("/healthz")
async def healthz() -> dict[str, str]:
    return {"pong": os.environ["PONG"]}


@app.post("/send/{number}")
async def send(number: int) -> int:
    event = {
        "specversion": "1.0",
        "id": f"ping-{number}",
        "source": "ping",
        "type": "ping.ballServed",
        "version": "1",
        "data": {"number": number},
    }
    async with httpx2.AsyncClient(timeout=60) as client:
        answer = await client.post(
            f"{SIDECAR}/v1.0/publish/pubsub/ping.ballServed.v1",
            content=json.dumps(event),
            headers={"content-type": "application/cloudevents+json", **TOKEN},
        )
    answer.raise_for_status()
    print(json.dumps({"level": "info", "event": "served", "number": number, "correlation_id": event["id"]}))  # noqa: T201
    return number
