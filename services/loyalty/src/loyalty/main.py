"""ASGI application of the loyalty service: `uvicorn loyalty.main:app`."""

from fastapi import FastAPI

from loyalty.adapters.saas import Saas
from loyalty.api import router
from loyalty.handlers import handlers, queue
from loyalty.settings import settings
from tidings import Service
from tidings.fastapi import create_app


def application(service: Service, saas: Saas) -> FastAPI:
    """Build the application around a SaaS adapter; tests pass their own."""
    app = create_app(service, [router], lifespan=saas.opened, description=__doc__)
    app.state.provider = saas
    return app


_saas = Saas(settings())
service = Service("loyalty", [*handlers, *queue(_saas, settings().concurrency)])
app = application(service, _saas)
