"""ASGI application of the tracking service: `uvicorn tracking.main:app`."""

from __future__ import annotations

from tidings import Service
from tidings.fastapi import create_app
from tracking.api import router
from tracking.handlers import handlers
from tracking.life import life

service = Service("tracking", handlers)
app = create_app(service, [router], lifespan=life)
