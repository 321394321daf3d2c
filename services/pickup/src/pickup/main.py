"""ASGI application of the pickup service: `uvicorn pickup.main:app`."""

from pickup.api import ERRORS, router
from pickup.handlers import handlers
from tidings import Service
from tidings.fastapi import create_app

service = Service("pickup", handlers)
app = create_app(service, [router], errors=ERRORS)
