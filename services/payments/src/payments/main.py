"""ASGI application of the payments service: `uvicorn payments.main:app`."""

from payments.adapters.tables import metadata
from payments.api import router
from payments.handlers import handlers
from payments.settings import settings
from tidings import Service
from tidings.fastapi import create_app
from tidings.outbox.cdc import CdcOutbox
from tidings.outbox.table import TableOutbox

_STRATEGIES = {"table": TableOutbox, "cdc": CdcOutbox}

strategy = _STRATEGIES[settings().outbox]
service = Service("payments", handlers, outbox=strategy.on(settings().database, tables=metadata))
app = create_app(service, [router], description=__doc__)
