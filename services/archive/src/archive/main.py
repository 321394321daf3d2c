"""The archive service, wired: `uvicorn archive.main:app`."""

from __future__ import annotations

from archive import access, api, api_deadletters, api_replays, console
from archive.handlers import handlers
from archive.settings import settings
from archive.tables import metadata
from tidings import Service
from tidings.fastapi import create_app
from tidings.outbox.table import TableOutbox

service = Service("archive", handlers, outbox=TableOutbox.on(settings().database, tables=metadata))
app = create_app(service, [api.router, api_deadletters.router, api_replays.router], admit=access.admission(settings))
console.install(app)
