"""ASGI application of the orders service: `uvicorn orders.main:app`."""

from fastapi import FastAPI

from orders.api import ERRORS, place_by_events, router
from orders.handlers import handlers
from orders.settings import OrdersSettings
from orders.use_cases.coupled import Collaborators
from tidings import Service
from tidings.fastapi import create_app


def application(service: Service, settings: OrdersSettings, collaborators: Collaborators | None = None) -> FastAPI:
    """Build the application in the configured mode; tests pass their own collaborators."""
    if settings.mode == "coupled":
        collaborators = collaborators or Collaborators(settings, service.settings.app_api_token)
        app = create_app(service, [router], errors=ERRORS, lifespan=collaborators.opened)
        app.state.place = collaborators.place
    else:
        app = create_app(service, [router], errors=ERRORS)
        app.state.place = place_by_events
    app.state.settings = settings
    return app


service = Service("orders", handlers)
app = application(service, OrdersSettings())
