"""Remembers in its state store which numbers have come."""

import os
from typing import Annotated, Any

import httpx2
from fastapi import FastAPI, Header, HTTPException

app = FastAPI()
STATE = f"http://127.0.0.1:{os.environ['DAPR_HTTP_PORT']}/v1.0/state/state"
TOKEN = {"dapr-api-token": os.environ["DAPR_API_TOKEN"]}


@app.get("/healthz")
async def healthz() -> str:
    return os.environ["TIDINGS_INSTANCE"]


@app.post("/events/ping.ballServed.v1")
async def returned(event: dict[str, Any], dapr_api_token: Annotated[str, Header()]) -> dict[str, str]:
    if dapr_api_token != os.environ["APP_API_TOKEN"]:
        raise HTTPException(401)
    number = event["data"]["number"]
    async with httpx2.AsyncClient(headers=TOKEN, timeout=60) as client:
        answer = await client.post(STATE, json=[{"key": f"number-{number}", "value": number}])
    answer.raise_for_status()
    return {"status": "SUCCESS"}


@app.get("/seen/{number}")
async def seen(number: int) -> bool:
    async with httpx2.AsyncClient(headers=TOKEN, timeout=60) as client:
        return (await client.get(f"{STATE}/number-{number}")).status_code == 200
