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


def application(service: Service, settings: OrdersSettings, collaborators: Collaborators | None = None) -> FastAPI:
    """Put the service together in the mode that the settings ask for; tests give their own collaborators."""
    if settings.mode == "coupled":
        others = collaborators or Collaborators(settings, service.settings.app_api_token)
        app = create_app(service, [router], lifespan=others.opened)
        app.state.place = others.place
    else:
        app = create_app(service, [router])
        app.state.place = place_by_events
    app.state.settings = settings
    app.add_exception_handler(OrderError, refused)
    return app


service = Service("orders", handlers)
app = application(service, OrdersSettings())
