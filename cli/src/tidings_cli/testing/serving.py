"""Serves an ASGI app over HTTP in the same process and event loop."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from tidings.testing.asgi import App
from tidings.web.protocol import BoundedProtocol
from tidings_cli.up.ports import HOST


class Served:
    """A server that a test may stop and start again on the same port."""

    def __init__(self, app: App, port: int) -> None:
        self.port = port
        self._app = app
        self._server: uvicorn.Server | None = None
        self._running: asyncio.Task[Any] | None = None

    @property
    def url(self) -> str:
        """The server's address."""
        return f"http://{HOST}:{self.port}"

    @property
    def connections(self) -> int:
        """Number of connected clients."""
        return len(self._server.server_state.connections) if self._server else 0

    async def start(self) -> None:
        """Listen, and run the app's lifespan if it has one."""
        config = uvicorn.Config(
            self._app,
            host=HOST,
            port=self.port,
            log_config=None,
            ws="none",
            access_log=False,
            http=BoundedProtocol,
            proxy_headers=False,
            timeout_graceful_shutdown=5,  # as services are run; without it, a handler that hangs would prevent the end
        )
        self._server = _Server(config)
        self._running = asyncio.ensure_future(self._server.serve())
        while not self._server.started:
            if self._running.done():
                self._running.result()
                raise RuntimeError(f"the app did not start on port {self.port}")
            await asyncio.sleep(0.005)

    async def stop(self) -> None:
        """Stop listening, as a process does that ends."""
        if self._server is None or self._running is None:
            return
        self._server.should_exit = True
        await self._running
        self._server = self._running = None


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are pytest's."""
        yield
