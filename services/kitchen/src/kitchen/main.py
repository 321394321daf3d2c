"""ASGI application of the kitchen service: `uvicorn kitchen.main:app`."""

from kitchen.api import ERRORS, router
from kitchen.handlers import handlers
from kitchen.settings import settings
from kitchen.use_cases import open_kitchen
from tidings import Service
from tidings.fastapi import create_app

settings()  # fail on invalid settings at startup instead of at the first order
service = Service("kitchen", handlers, startup_hook=open_kitchen)
app = create_app(service, [router], errors=ERRORS, description=__doc__)
