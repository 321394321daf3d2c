"""ASGI application of the delivery service: `uvicorn delivery.main:app`."""

from delivery.api import ERRORS, router
from delivery.handlers import handlers
from delivery.use_cases.rostering import open_roster
from tidings import Service
from tidings.fastapi import create_app

service = Service("delivery", handlers, startup_hook=open_roster)
app = create_app(service, [router], errors=ERRORS)
