"""Replicas tell each other which orders changed: through one small document, once a second, not once an event."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from tidings import Service, StateContext
from tidings.errors import SidecarError
from tracking import model
from tracking.domain import Latest
from tracking.handlers import live
from tracking.live import Live
from tracking.settings import settings

log = structlog.get_logger(__name__)
_ALL = "all"


async def exchange(changes: dict[str, int], context: StateContext) -> dict[str, int]:
    """Add what changed here to what changed anywhere; answers all of it."""
    latest = await context.load(Latest, _ALL) or Latest()
    if latest.note(changes, settings().latest):
        context.save(_ALL, latest, ttl=settings().keep)
    return latest.orders


async def share(service: Service, watched: Live) -> None:
    """Tell the other replicas what changed here, and learn what changed there.

    Raises:
        SidecarError: The state store did not answer: what changed here is told next time.

    """
    unshared = watched.take_unshared()
    try:
        everywhere = await service.execute(exchange, unshared)
    except SidecarError:
        watched.give_back(unshared)
        raise
    for order_id, changes in everywhere.items():
        if changes > watched.changes_of(order_id):
            order = await service.execute(model.find, order_id)
            if order is not None:
                watched.changed(order, shared=True)


@asynccontextmanager
async def sharing(service: Service) -> AsyncIterator[None]:
    """Share for as long as this is open; also what brings the latest orders back after a restart."""
    task = asyncio.create_task(_share_on(service))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _share_on(service: Service) -> None:
    while True:
        await asyncio.sleep(settings().poll)
        try:
            await share(service, live())
        except SidecarError as error:
            log.warning("tracking.not_shared", reason=str(error))
