"""HTTP endpoints of the operator: liveness, readiness and metrics."""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from tidings_operator import metrics

HEAD_DEADLINE = 10.0
"""Seconds within which the first request of a connection must begin."""
Check = Callable[[], str]
"""Returns a problem, or an empty text."""


def application(alive: Check, ready: Check) -> web.Application:
    """Build the application."""
    app = web.Application()
    app.router.add_get("/healthz", _checked(alive))
    app.router.add_get("/readyz", _checked(ready))
    app.router.add_get("/metrics", _metrics)
    return app


class Runner(web.AppRunner):
    """Runs an application, and closes connections without a request in time.

    aiohttp has such a deadline only between two requests of a connection. Without one, a pod that opens idle
    connections exhausts the operator's file descriptors.
    """

    def __init__(self, app: web.Application) -> None:
        super().__init__(app, access_log=None, auto_decompress=False)
        self._silent: set[Any] = set()
        app.middlewares.insert(0, self._begun)

    @property
    def server(self) -> Any:
        """Return the factory of the protocol for new connections."""
        made = super().server
        return made and (lambda: self._watched(made))

    def _watched(self, make: Callable[[], Any]) -> Any:
        protocol = make()
        self._silent.add(protocol)
        asyncio.get_running_loop().call_later(HEAD_DEADLINE, self._close, protocol)
        return protocol

    def _close(self, protocol: Any) -> None:
        if protocol in self._silent:
            self._silent.discard(protocol)
            if protocol.transport:
                protocol.transport.abort()

    @web.middleware
    async def _begun(self, request: web.Request, handler: Callable[[web.Request], Awaitable[Any]]) -> Any:
        self._silent.discard(request.protocol)
        return await handler(request)


async def serve(
    app: web.Application, host: str, port: int, tls: ssl.SSLContext | None = None
) -> tuple[web.AppRunner, int]:
    """Start serving; return the runner, which must be cleaned up, and the port (a free one for 0)."""
    runner = Runner(app)
    await runner.setup()
    await web.SockSite(runner, listener(host, port), ssl_context=tls).start()
    return runner, int(runner.addresses[0][1])


def listener(host: str, port: int) -> socket.socket:
    """Listen at an address, or at all addresses for "": a cluster may have IPv4, IPv6, or both."""
    if host:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    try:
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    except (OSError, ValueError):  # this host has no IPv6, or it is disabled
        return socket.create_server(("", port))


def _checked(check: Check) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(_request: web.Request) -> web.Response:
        wrong = check()
        return web.Response(status=503 if wrong else 200, text=wrong or "ok")

    return answer


async def _metrics(_request: web.Request) -> web.Response:
    return web.Response(body=generate_latest(metrics.REGISTRY), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})
