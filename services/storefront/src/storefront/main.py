"""The storefront as an ASGI application: `uvicorn storefront.main:app`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import prometheus_client
from fastapi import APIRouter, FastAPI, Response
from starlette.middleware.gzip import GZipMiddleware

from storefront import api, page
from storefront.forwarding import Forwarder
from storefront.settings import StorefrontSettings
from storefront.upstreams import Upstreams
from tidings import logs, problems
from tidings.settings import Settings

health = APIRouter(tags=["health"])


@health.get("/healthz", summary="The process lives")
async def healthz() -> dict[str, str]:
    """Answer, whatever the services do."""
    return {"status": "ok"}


@health.get("/readyz", summary="The page can be served")
async def readyz() -> dict[str, str]:
    """Answer, whatever the services do: without one of them the page tells what still works, and is needed most."""
    return {"status": "ready"}


@health.get("/metrics", summary="Prometheus metrics")
async def metrics() -> Response:
    """Answer what was passed on, and how long it took."""
    return Response(prometheus_client.generate_latest(), media_type=prometheus_client.CONTENT_TYPE_LATEST)


def application(settings: StorefrontSettings) -> FastAPI:
    """Put the storefront together."""

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        surroundings = Settings()
        logs.configure("storefront", surroundings.tidings_log, surroundings.tidings_log_level)
        async with Forwarder.opened(settings) as app.state.forwarder:
            yield

    # FastAPI's own pages about the API come from a CDN, which the page's policy forbids: /openapi.json has it all.
    app = FastAPI(title="storefront", description=__doc__, docs_url=None, redoc_url=None, lifespan=life)
    app.state.settings, app.state.upstreams = settings, Upstreams.of(settings)
    for router in (health, api.router):
        app.include_router(router)
    app.mount("/assets", page.Assets())
    app.include_router(page.router)
    problems.install(app)
    app.add_middleware(GZipMiddleware, minimum_size=1000)
    app.add_middleware(page.SecurityHeaders)
    return app


app = application(StorefrontSettings())
