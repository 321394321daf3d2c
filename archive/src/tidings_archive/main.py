"""The archive service, wired: `uvicorn tidings_archive.main:app`."""

from tidings import Service
from tidings.fastapi import create_app
from tidings.outbox.table import TableOutbox
from tidings_archive import (
    access,
    api,
    api_deadletters,
    api_forgetting,
    api_notices,
    api_replays,
    api_subscriptions,
    background,
    console,
    responses,
)
from tidings_archive.handlers import handlers
from tidings_archive.migrations import upgrade
from tidings_archive.settings import settings

service = Service("archive", handlers, outbox=TableOutbox.on(settings().database, tables=upgrade))
app = create_app(
    service,
    [
        api.router,
        api_deadletters.router,
        api_replays.router,
        api_subscriptions.router,
        api_forgetting.router,
        api_notices.router,
    ],
    admit=access.admission(settings),
    background=background.running,
    errors=responses.ERRORS,
)
console.install(app)
