"""The tracking service, wired: `uvicorn tracking.main:app`."""

from __future__ import annotations

from tidings import Service
from tidings.fastapi import create_app
from tracking.api import router
from tracking.handlers import handlers
from tracking.sharing import sharing

service = Service("tracking", handlers)
app = create_app(service, [router], lifespan=sharing)
