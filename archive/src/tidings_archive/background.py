"""Work that the archive does beside its events and requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from tidings import Service
from tidings.background import restart_on_failure
from tidings_archive import forgetting, retention
from tidings_archive.api import current_database
from tidings_archive.settings import settings


@asynccontextmanager
async def running(service: Service) -> AsyncIterator[None]:
    """Run it while the application is open."""
    work = {
        "archive.retention": partial(retention.run, current_database(service), settings().retention),
        "archive.forgetting": partial(forgetting.run, service),
    }
    tasks = [asyncio.create_task(restart_on_failure(name, function)) for name, function in work.items()]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
