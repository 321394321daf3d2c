"""Serves an application that a test runs in this process over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2

from tidings.testing.asgi import App
from tidings_cli.testing.serving import Served


@asynccontextmanager
async def serving(client: httpx2.AsyncClient, port: int) -> AsyncIterator[Served]:
    """Serve the application that a client of `httpx2.ASGITransport` calls, which has been started already."""
    app: App = client._transport.app  # type: ignore[attr-defined]

    async def without_lifespan(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await app(scope, receive, send)
            return
        for done in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{done}.complete"})

    server = Served(without_lifespan, port)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
