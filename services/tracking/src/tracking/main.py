"""ASGI application of the tracking service: `uvicorn tracking.main:app`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tidings import Service
from tidings.fastapi import create_app
from tracking.adapters.stopping import at_stop
from tracking.api import router
from tracking.handlers import handlers
from tracking.use_cases.live import live
from tracking.use_cases.sharing import sharing


@asynccontextmanager
async def life(service: Service) -> AsyncIterator[None]:
    """Share changes with other replicas, and close streams when the process receives a stop signal."""
    with at_stop(live().close):
        async with sharing(service):
            yield


service = Service("tracking", handlers)
app = create_app(service, [router], background=life)
