"""Exchange of changes between replicas, through one small document per polling interval instead of per event."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import structlog

from tidings import Service, StateContext
from tidings.background import restart_on_failure
from tidings.errors import SidecarError
from tracking.domain import Latest
from tracking.settings import settings
from tracking.use_cases import model
from tracking.use_cases.live import Live, live

log = structlog.get_logger(__name__)
_KEY = "all"


async def exchange(changes: dict[str, int], context: StateContext) -> dict[str, int]:
    """Add this replica's changes to the shared ones; return all of them."""
    latest = await context.load(Latest, _KEY) or Latest()
    if latest.note(changes, settings().latest):
        context.save(_KEY, latest, ttl=settings().keep)
    return latest.orders


async def share(service: Service, watched: Live) -> None:
    """Publish this replica's changes to the other replicas, and apply theirs.

    Raises:
        SidecarError: The state store is unavailable; the changes are kept for the next attempt.

    """
    unshared = watched.take_unshared()
    try:
        latest = await service.execute(exchange, unshared)
    except SidecarError:
        watched.restore_unshared(unshared)
        raise
    for order_id, changes in latest.items():
        if changes > watched.changes_of(order_id):
            order = await service.execute(model.find, order_id)
            if order is not None:
                watched.changed(order, shared=True)


@asynccontextmanager
async def sharing(service: Service) -> AsyncIterator[None]:
    """Share changes in the background. After a restart, this also restores the latest orders."""
    task = asyncio.create_task(restart_on_failure("tracking.sharing", partial(_share_periodically, service)))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _share_periodically(service: Service) -> None:
    while True:
        await asyncio.sleep(settings().poll)
        try:
            await share(service, live())
        except SidecarError as error:
            log.warning("tracking.sharing_failed", reason=str(error))
