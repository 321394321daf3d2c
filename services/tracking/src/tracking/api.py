"""Where is my pizza: asked once, or told as it changes (server-sent events)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from http import HTTPStatus
from typing import Annotated

import structlog
from fastapi import APIRouter, Header, HTTPException, Path, Query
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from tidings import Service
from tidings.errors import SidecarError
from tidings.fastapi import CurrentService, StreamPlace
from tracking import model, rebuilding, views
from tracking.domain import ReadModel, Stage, TrackedOrder
from tracking.handlers import live
from tracking.live import number_of
from tracking.settings import settings
from tracking.views import Orders, OrderView, TotalsView

log = structlog.get_logger(__name__)
router = APIRouter(tags=["tracking"])
OrderId = Annotated[str, Path(max_length=100, pattern=r"^[A-Za-z0-9._-]+$")]
LastEventId = Annotated[str | None, Header(description="What a browser sends when it comes back")]
_SLOWLY = 10  # times slower are orders looked at again that are finished: an e-mail or points may still follow


class RebuildView(BaseModel):
    """Which generation of the read model is shown, and how its last rebuild went."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    generation: int
    building: int | None
    replay_id: str | None
    started_at: datetime | None
    completed_at: datetime | None
    replayed: int | None


@router.get("/track", summary="The latest orders")
async def get_orders(limit: Annotated[int, Query(ge=1, le=500)] = 100) -> Orders:
    """Answer the orders that changed last, the latest first."""
    return Orders(orders=[views.summary(order) for order in live().latest(limit)])


@router.get("/totals", summary="How many orders there are")
async def get_totals(service: CurrentService) -> TotalsView:
    """Answer how many orders are on the way, done and cancelled, and what was earned: of all, not only the latest."""
    return TotalsView.model_validate(await service.execute(model.totals, None), from_attributes=True)


@router.get("/track/{order_id}", summary="Where an order is")
async def get_order(order_id: OrderId, service: CurrentService) -> OrderView:
    """Answer the stage, what happens next and all that happened; 404 while nothing is known of it."""
    order = await service.execute(model.find, order_id)
    if order is None:
        raise HTTPException(
            HTTPStatus.NOT_FOUND, f"nothing is known of order {order_id} yet: a new one takes a moment to get here"
        )
    return views.whole(order)


@router.get(
    "/track/{order_id}/stream",
    response_class=EventSourceResponse,
    summary="An order, as it changes",
    dependencies=[StreamPlace],
)
async def stream_order(
    order_id: OrderId, service: CurrentService, last_event_id: LastEventId = None
) -> AsyncIterator[ServerSentEvent]:
    """Send the order now and whenever its stage changes; an order that is not known yet is waited for.

    What else happens is sent as `event: timeline`, which repeats no message. The id is the number of the change. Who
    comes back with one is sent the order only if it has changed since; an id that cannot be right counts for nothing.
    """
    seen, stage = number_of(last_event_id or "") or 0, None
    with live().watch(order_id) as changed:
        while not live().closed:
            changed.clear()
            order = await _find(service, order_id)
            if order is not None and order.changes != seen:
                yield _changed(order, stage)
                seen, stage = order.changes, order.stage
            await _wait(changed, settings().poll * (_SLOWLY if order and order.stage.finished else 1))


@router.get(
    "/stream", response_class=EventSourceResponse, summary="Every order, as it changes", dependencies=[StreamPlace]
)
async def stream_all(last_event_id: LastEventId = None) -> AsyncIterator[ServerSentEvent]:
    """Send each order that changes, without its timeline; who comes back is sent what changed meanwhile.

    An id that this replica does not know starts from the present: ask for the latest orders, then.
    """
    with live().watch_all(last_event_id) as mailbox:
        while not live().closed:
            for number, order in await mailbox.take():
                yield _sent(views.summary(order).model_dump_json(by_alias=True), live().change_id(number))


@router.post("/rebuild", status_code=202, summary="Build the read model anew from the archive")
async def post_rebuild(service: CurrentService) -> RebuildView:
    """Begin a new generation and ask the archive for a replay; meanwhile the former one is still shown."""
    return _rebuild(await service.execute(rebuilding.begin, None))


@router.get("/rebuild", summary="How the rebuild goes")
async def get_rebuild(service: CurrentService) -> RebuildView:
    """Answer which generation is shown and whether a newer one is being built."""
    return _rebuild(await service.execute(rebuilding.look, None))


async def _find(service: Service, order_id: str) -> TrackedOrder | None:
    """Look for an order; while the store is away a stream stays open and sends nothing."""
    try:
        return await service.execute(model.find, order_id)
    except SidecarError as error:
        log.warning("tracking.stream_waits", order_id=order_id, reason=str(error))
        return None


async def _wait(changed: asyncio.Event, patience: float) -> None:
    """Wait for a change that this replica notes; another replica's is found by looking again after `patience`."""
    try:
        async with asyncio.timeout(patience):
            await changed.wait()
    except TimeoutError:
        return


def _changed(order: TrackedOrder, before: Stage | None) -> ServerSentEvent:
    view, identity = views.whole(order), str(order.changes)
    if order.stage is not before:
        return _sent(view.model_dump_json(by_alias=True), identity)
    data = view.model_dump_json(by_alias=True, exclude={"message"})
    return ServerSentEvent(event="timeline", raw_data=data, id=identity)


def _sent(data: str, identity: str) -> ServerSentEvent:
    return ServerSentEvent(event="order", raw_data=data, id=identity)


def _rebuild(current: ReadModel) -> RebuildView:
    return RebuildView(
        generation=current.generation,
        building=current.building,
        replay_id=current.replay_id or None,
        started_at=current.started_at,
        completed_at=current.completed_at,
        replayed=current.replayed,
    )
