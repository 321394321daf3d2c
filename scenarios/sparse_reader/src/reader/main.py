"""A reader of `orders.orderConfirmed` that works from the fat event, or calls orders back for the sparse one."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import httpx2
from fastapi import APIRouter
from pydantic import BaseModel, Field

from tidings import Event, Handlers, Retry, Service, StateContext, event
from tidings.fastapi import create_app

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

NAME = os.environ["READER_NAME"]
ORDERS = httpx2.AsyncClient(
    base_url=os.environ["READER_ORDERS_URL"],
    headers={"dapr-api-token": os.environ.get("APP_API_TOKEN", "")},
    timeout=5,
    trust_env=False,
)
router = APIRouter()
handlers = Handlers()


class Round(BaseModel):
    """Mode of the current round, and its results. Readers that are idle acknowledge everything at once."""

    mode: Literal["idle", "fat", "sparse"] = "idle"
    hold: bool = False
    """True to postpone all work, so that events pile up."""
    calls: int = 0
    seconds: dict[str, float] = Field(default_factory=dict)
    """By order id, the time from the confirmation until the reader has the order's content."""


class State:
    """Holder of the current round."""

    round = Round()


@event("orders.orderConfirmed", version=1, subject="order_id")
class Sparse(Event):
    """The order's id alone."""

    order_id: str


@event("orders.orderConfirmed", version=2, subject="order_id")
class Fat(Event):
    """The order's content."""

    order_id: str
    customer: dict[str, Any]
    lines: list[dict[str, Any]]


@handlers.on(Sparse, deduplicate=False)
async def on_sparse(message: Sparse, context: StateContext) -> Retry | None:
    """Call orders back for the content."""
    current = State.round
    if current.mode != "sparse":
        return None
    if current.hold:
        return Retry("held", after=0.2)
    current.calls += 1
    answer = await ORDERS.get(f"/orders/{message.order_id}")
    answer.raise_for_status()
    _done(message.order_id, answer.json()["customer"], context)
    return None


@handlers.on(Fat, deduplicate=False)
async def on_fat(message: Fat, context: StateContext) -> Retry | None:
    """Work from the event."""
    if State.round.mode != "fat":
        return None
    if State.round.hold:
        return Retry("held", after=0.2)
    _done(message.order_id, message.customer, context)
    return None


def _done(order_id: str, customer: dict[str, Any], context: StateContext) -> None:
    if not customer["email"]:
        raise ValueError(f"order {order_id} came without its customer")
    State.round.seconds[order_id] = (datetime.now(UTC) - context.time).total_seconds()


@router.put("/round")
async def begin(new: Round) -> Round:
    """Begin a round."""
    State.round = new
    return new


@router.post("/release")
async def release() -> Round:
    """End the postponement."""
    State.round.hold = False
    return State.round


@router.get("/round")
async def get_round() -> Round:
    """Return the results so far."""
    return State.round


@asynccontextmanager
async def _closing(_service: Service) -> AsyncIterator[None]:
    async with ORDERS:
        yield


service = Service(NAME, handlers)
app = create_app(service, [router], lifespan=_closing)
