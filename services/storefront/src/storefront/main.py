"""ASGI application of the storefront service: `uvicorn storefront.main:app`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.middleware.gzip import GZipMiddleware

from storefront import api, page
from storefront.forwarding import LARGEST, Forwarder
from storefront.settings import StorefrontSettings
from storefront.upstreams import Upstreams
from tidings.fastapi import EventApp, create_app
from tidings.settings import Settings


def application(settings: StorefrontSettings, surroundings: Settings | None = None) -> EventApp:
    """Put the storefront together. It is ready whatever the services do: its page says what still works."""

    @asynccontextmanager
    async def life(_name: str) -> AsyncIterator[None]:
        async with Forwarder.opened(settings) as app.state.forwarder:
            yield

    app = create_app(
        "storefront", [api.router], lifespan=life, settings=surroundings, max_body=LARGEST, description=__doc__
    )
    app.state.settings, app.state.upstreams = settings, Upstreams.of(settings)
    app.mount("/assets", page.Assets())
    app.include_router(page.router)
    app.add_middleware(GZipMiddleware, minimum_size=1000)
    return app


app = application(StorefrontSettings())
