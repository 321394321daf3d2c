"""ASGI application of the storefront service: `uvicorn storefront.main:app`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.middleware.gzip import GZipMiddleware

from storefront import api
from storefront.adapters import page
from storefront.adapters.forwarding import LARGEST, Forwarder
from storefront.adapters.upstreams import Upstreams
from storefront.settings import StorefrontSettings
from tidings.fastapi import EventApp, create_app
from tidings.settings import Settings
from tidings.web.pages import Assets


def application(settings: StorefrontSettings, kit_settings: Settings | None = None) -> EventApp:
    """Build the application. It is ready even if the services are not: the page shows which features are available."""

    @asynccontextmanager
    async def lifespan(_name: str) -> AsyncIterator[None]:
        async with Forwarder.opened(settings) as app.state.forwarder:
            yield

    app = create_app(
        "storefront", [api.router], lifespan=lifespan, settings=kit_settings, max_body=LARGEST, description=__doc__
    )
    app.state.settings, app.state.upstreams = settings, Upstreams.of(settings)
    app.mount("/assets", Assets(page.STATIC))
    app.include_router(page.router)
    app.add_middleware(GZipMiddleware, minimum_size=1000)
    return app


app = application(StorefrontSettings())
