"""Lifespan of the service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tidings import Service
from tracking.handlers import live
from tracking.sharing import sharing
from tracking.stopping import at_stop


@asynccontextmanager
async def life(service: Service) -> AsyncIterator[None]:
    """Share changes with other replicas, and close streams when the process receives a stop signal."""
    with at_stop(live().close):
        async with sharing(service):
            yield
