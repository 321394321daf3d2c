"""What is open for as long as the service runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tidings import Service
from tracking.handlers import live
from tracking.sharing import sharing
from tracking.stopping import at_stop


@asynccontextmanager
async def life(service: Service) -> AsyncIterator[None]:
    """Share changes with other replicas, and let streams end when the process is asked to stop."""
    with at_stop(live().close):
        async with sharing(service):
            yield
