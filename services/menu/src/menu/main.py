"""ASGI application of the menu service: `uvicorn menu.main:app`."""

from menu.api import ERRORS, router
from menu.handlers import handlers
from menu.use_cases import open_menu
from tidings import Service
from tidings.fastapi import create_app

service = Service("menu", handlers, startup_hook=open_menu)
app = create_app(service, [router], errors=ERRORS, description=__doc__)
