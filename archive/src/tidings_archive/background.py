"""Background tasks of the archive."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

from tidings import Service
from tidings.background import restart_on_failure
from tidings_archive import forgetting, notices, retention, webhook
from tidings_archive.api import current_database
from tidings_archive.settings import settings


@asynccontextmanager
async def running(service: Service) -> AsyncIterator[None]:
    """Run the background tasks from the end of the service's start, which creates the tables, until it stops."""
    database, chosen = current_database(service), settings()
    parts: dict[str, Callable[[], Awaitable[None]]] = {
        "archive.retention": partial(retention.run, database, chosen.retention),
        "archive.forgetting": partial(forgetting.run, service),
        "archive.dead_letter_notices": partial(notices.watch_dead_letters, service, database),
        "archive.webhook": partial(webhook.run, database, chosen),
    }

    async def run(name: str, work: Callable[[], Awaitable[None]]) -> None:
        await service.started()
        await restart_on_failure(name, work)

    tasks = [asyncio.create_task(run(name, work)) for name, work in parts.items()]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
