"""HTTP API of tracking: the progress of orders, as a response or a stream of server-sent events."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from http import HTTPStatus
from typing import Annotated

import structlog
from fastapi import APIRouter, Depends, Header, HTTPException, Path, Query
from fastapi.sse import EventSourceResponse, ServerSentEvent

from tidings import Service
from tidings.errors import SidecarError
from tidings.fastapi import CamelModel, CurrentService, StreamPlace
from tracking.api import views
from tracking.api.views import Orders, OrderView, TotalsView
from tracking.domain import ReadModel, TrackedOrder
from tracking.settings import settings
from tracking.use_cases import model, rebuilding
from tracking.use_cases.live import Mailbox, live, number_of

log = structlog.get_logger(__name__)
router = APIRouter(tags=["tracking"])
OrderId = Annotated[str, Path(max_length=100, pattern=r"^[A-Za-z0-9._-]+$")]
LastEventId = Annotated[str | None, Header(description="Last event id, sent by a reconnecting browser")]
# Finished orders are polled this many times less often: an e-mail or points may still follow.
_FINISHED_POLL_FACTOR = 10


async def _watch_order(order_id: OrderId) -> AsyncIterator[asyncio.Event]:
    with live().watch(order_id) as changed:
        yield changed


async def _watch_all(last_event_id: LastEventId = None) -> AsyncIterator[Mailbox]:
    with live().watch_all(last_event_id) as mailbox:
        yield mailbox


# Dependencies end with the request. FastAPI does not close the generator of a stream that is cancelled while it sends:
# what that has open stays open until it is garbage collected.
OrderChanged = Annotated[asyncio.Event, Depends(_watch_order)]
AllChanges = Annotated[Mailbox, Depends(_watch_all)]


class RebuildView(CamelModel):
    """Generation of the read model that is shown, and state of its last rebuild."""

    generation: int
    building: int | None
    replay_id: str | None
    started_at: datetime | None
    completed_at: datetime | None
    replayed: int | None
    failed: str | None


@router.get("/track", summary="List the latest orders")
async def get_orders(limit: Annotated[int, Query(ge=1, le=500)] = 100) -> Orders:
    """Return the most recently changed orders, latest first."""
    return Orders(orders=[views.summary(order) for order in live().latest(limit)])


@router.get("/totals", summary="Get the totals of all orders")
async def get_totals(service: CurrentService) -> TotalsView:
    """Return the numbers of open, completed and cancelled orders and the revenue, over all orders."""
    return TotalsView.model_validate(await service.execute(model.totals, None))


@router.get("/track/{order_id}", summary="Get the progress of an order")
async def get_order(order_id: OrderId, service: CurrentService) -> OrderView:
    """Return stage, next step and timeline of an order; 404 while it is unknown."""
    order = await service.execute(model.find, order_id)
    if order is None:
        raise HTTPException(
            HTTPStatus.NOT_FOUND, f"order {order_id} is unknown; the events of a new order take a moment to arrive"
        )
    return views.order_view(order)


@router.get(
    "/track/{order_id}/stream",
    response_class=EventSourceResponse,
    summary="Stream the progress of an order",
    dependencies=[StreamPlace],
)
async def stream_order(
    order_id: OrderId, service: CurrentService, changed: OrderChanged, last_event_id: LastEventId = None
) -> AsyncIterator[ServerSentEvent]:
    """Send the order now and whenever its stage changes; wait for an order that is unknown so far.

    Other changes are sent as `event: timeline`, without the message. The event id is the number of the change, and the
    stage: a reconnecting client gets the order only if it has changed since. Invalid ids are ignored.
    """
    seen, stage = _position(last_event_id)
    while not live().closed:
        changed.clear()
        order = await _find(service, order_id)
        if order is not None and order.changes != seen:
            yield _change_event(order, stage if seen <= order.changes else None)
            seen, stage = order.changes, order.stage
        await _wait(changed, settings().poll * (_FINISHED_POLL_FACTOR if order and order.stage.finished else 1))


@router.get(
    "/stream",
    response_class=EventSourceResponse,
    summary="Stream all orders",
    dependencies=[StreamPlace],
)
async def stream_all(mailbox: AllChanges) -> AsyncIterator[ServerSentEvent]:
    """Send each changed order without its timeline. A reconnecting client gets the changes it has missed.

    With an id unknown to this replica, the stream starts from now: get the latest orders first.
    """
    while not live().closed:
        for number, order in await mailbox.take():
            yield _order_event(views.summary(order).model_dump_json(), live().change_id(number))


@router.post("/rebuild", status_code=202, summary="Rebuild the read model from the archive")
async def post_rebuild(service: CurrentService) -> RebuildView:
    """Start a new generation and request a replay from the archive. Readers see the former generation meanwhile."""
    return _rebuild_view(await service.execute(rebuilding.start, None))


@router.get("/rebuild", summary="Get the state of the rebuild")
async def get_rebuild(service: CurrentService) -> RebuildView:
    """Return the generation that is shown, and the one being built."""
    return _rebuild_view(await service.execute(lambda _, context: model.read_model(context), None))


def _position(last_event_id: str | None) -> tuple[int, str | None]:
    """Return the number of the change and the stage that a client has seen last; 0 and None if it has seen nothing."""
    number, _, stage = (last_event_id or "").partition("-")
    seen = number_of(number) or 0
    return seen, stage if seen else None


async def _find(service: Service, order_id: str) -> TrackedOrder | None:
    """Return an order, or None while the store is unavailable, so that streams stay open."""
    try:
        return await service.execute(model.find, order_id)
    except SidecarError as error:
        log.warning("tracking.read_failed", order_id=order_id, reason=str(error))
        return None


async def _wait(changed: asyncio.Event, patience: float) -> None:
    """Wait for a change recorded by this replica. Changes of other replicas are found by polling after `patience`."""
    try:
        async with asyncio.timeout(patience):
            await changed.wait()
    except TimeoutError:
        return


def _change_event(order: TrackedOrder, before: str | None) -> ServerSentEvent:
    view, identity = views.order_view(order), f"{order.changes}-{order.stage}"
    if order.stage != before:
        return _order_event(view.model_dump_json(), identity)
    data = view.model_dump_json(exclude={"message"})
    return ServerSentEvent(event="timeline", raw_data=data, id=identity)


def _order_event(data: str, identity: str) -> ServerSentEvent:
    return ServerSentEvent(event="order", raw_data=data, id=identity)


def _rebuild_view(current: ReadModel) -> RebuildView:
    return RebuildView(
        generation=current.generation,
        building=current.building,
        replay_id=current.replay_id or None,
        started_at=current.started_at,
        completed_at=current.completed_at,
        replayed=current.replayed,
        failed=current.failed or None,
    )
