"""The orders service: `uvicorn orders.main:app`."""

from __future__ import annotations

from fastapi import FastAPI

from orders.api import place_by_events, refused, router
from orders.coupled import Collaborators
from orders.domain import OrderError
from orders.handlers import handlers
from orders.settings import OrdersSettings
from tidings import Service
from tidings.fastapi import create_app


def application(service: Service, settings: OrdersSettings) -> FastAPI:
    """Put the service together in the mode that the settings ask for."""
    collaborators = Collaborators(settings, service.settings.app_api_token)
    coupled = settings.mode == "coupled"
    app = create_app(service, [router], lifespan=collaborators.opened if coupled else None)
    app.state.settings = settings
    app.state.place = collaborators.place if coupled else place_by_events
    app.add_exception_handler(OrderError, refused)
    return app


service = Service("orders", handlers)
app = application(service, OrdersSettings())
