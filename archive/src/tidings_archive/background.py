"""Work that the archive does beside its events and requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial

from tidings import Service
from tidings.background import restart_on_failure
from tidings_archive import retention
from tidings_archive.api import current_database
from tidings_archive.settings import settings


@asynccontextmanager
async def running(service: Service) -> AsyncIterator[None]:
    """Run it while the application is open."""
    work = partial(retention.run, current_database(service), settings().retention)
    task = asyncio.create_task(restart_on_failure("archive.retention", work))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
