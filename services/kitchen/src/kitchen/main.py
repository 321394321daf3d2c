"""The kitchen as an ASGI application: `uvicorn kitchen.main:app`."""

from __future__ import annotations

from kitchen.api import router
from kitchen.handlers import handlers
from kitchen.requests import open_kitchen
from kitchen.settings import settings
from tidings import Service
from tidings.fastapi import create_app

settings()  # what is set wrongly is told now, not at the first order
service = Service("kitchen", handlers, opening=open_kitchen)
app = create_app(service, [router], description=__doc__)
