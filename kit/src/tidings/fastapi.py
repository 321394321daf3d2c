"""Tidings in a FastAPI application, and what `dapr.ext.fastapi` offers, under the same name and arguments."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from http import HTTPStatus
from typing import Annotated, Any

import prometheus_client
import structlog
from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from tidings import logs, problems, tracing
from tidings.daprapp import DaprApp
from tidings.errors import EventTooLarge, SidecarError, SidecarUnavailable, StateConflict
from tidings.ingress import PREFIX
from tidings.service import Service

log = structlog.get_logger(__name__)

__all__ = ["CurrentService", "DaprApp", "EventApp", "create_app", "current_service"]


def create_app(
    service: Service,
    routers: Iterable[APIRouter] = (),
    *,
    lifespan: Any = None,
    **options: Any,
) -> EventApp:
    """Make the FastAPI application of a service: its API, its event ingress and its health endpoints.

    Args:
        service: What handles events and requests.
        routers: The API.
        lifespan: An async context manager function taking the service, for what else must be open meanwhile.
        options: Passed on to FastAPI.

    """

    @asynccontextmanager
    async def life(_app: FastAPI) -> AsyncIterator[None]:
        logs.configure(service.name, service.settings.tidings_log, service.settings.tidings_log_level)
        tracing.configure(service.name)
        async with AsyncExitStack() as stack:
            if lifespan is not None:
                more: AbstractAsyncContextManager[Any] = lifespan(service)
                await stack.enter_async_context(more)
            await service.start()
            stack.push_async_callback(service.stop)
            yield

    app = EventApp(service, lifespan=life, **options)
    app.include_router(_health())
    for router in routers:
        app.include_router(router)
    problems.install(app)
    app.add_exception_handler(SidecarError, _unavailable)
    app.add_exception_handler(EventTooLarge, _too_large)
    return app


class EventApp(FastAPI):
    """A FastAPI application whose event deliveries go straight to the ingress, before any middleware."""

    def __init__(self, service: Service, **options: Any) -> None:
        super().__init__(title=service.name, **options)
        self.state.tidings = service
        self._ingress = service.ingress

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand deliveries to the ingress, all else to FastAPI; `GET /events/…` may be part of an API."""
        if scope["type"] == "http" and scope["method"] == "POST" and scope["path"].startswith(PREFIX):
            await self._ingress(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def current_service(request: Request) -> Service:
    """The service behind a request."""
    found: Service = request.app.state.tidings
    return found


CurrentService = Annotated[Service, Depends(current_service)]


def _health() -> APIRouter:
    router = APIRouter(tags=["health"])

    @router.get("/healthz", summary="The process lives and takes deliveries")
    async def healthz(service: CurrentService) -> Response:
        return JSONResponse({"status": "ok" if service.healthy else "stopping"}, 200 if service.healthy else 503)

    @router.get("/readyz", summary="Commands can be accepted")
    async def readyz(service: CurrentService) -> Response:
        ready = await service.ready()
        return JSONResponse({"status": "ready" if ready else "waiting for the sidecar"}, 200 if ready else 503)

    @router.get("/metrics", summary="Prometheus metrics")
    async def metrics() -> Response:
        return Response(prometheus_client.generate_latest(), media_type=prometheus_client.CONTENT_TYPE_LATEST)

    return router


async def _unavailable(request: Request, error: Exception) -> Response:
    status = 409 if isinstance(error, StateConflict) else 503
    log.warning("request.failed", path=request.url.path, reason=str(error))
    after = error.after if isinstance(error, SidecarUnavailable) else 1.0
    return problems.problem(status, str(error), headers={"Retry-After": str(math.ceil(after))})


async def _too_large(_request: Request, error: Exception) -> Response:
    return problems.problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, str(error))
