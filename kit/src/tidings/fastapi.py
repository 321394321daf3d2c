"""Tidings in a FastAPI application, and what `dapr.ext.fastapi` offers, under the same name and arguments."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from tidings.consume.ingress import PREFIX
from tidings.dapr.app import DaprApp
from tidings.errors import EventTooLarge, SidecarError, SidecarUnavailable, StateConflict
from tidings.observability import logs, tracing
from tidings.service import Service
from tidings.settings import Settings
from tidings.web import docs, metrics, problems
from tidings.web.guard import MAX_BODY, Admission, Guard, Limits
from tidings.web.streams import StreamLimit

log = structlog.get_logger(__name__)

__all__ = ["CurrentService", "DaprApp", "EventApp", "StreamPlace", "create_app", "current_service"]

MAX_DELIVERY = 64 * 1024 * 1024
"""Bytes of a delivery by the sidecar, which may hold many events; what is larger is dead-lettered by the sidecar."""


def create_app(
    service: Service | str,
    routers: Iterable[APIRouter] = (),
    *,
    lifespan: Any = None,
    settings: Settings | None = None,
    max_body: int = MAX_BODY,
    admit: Admission | None = None,
    **options: Any,
) -> EventApp:
    """Make the FastAPI application of a service: its API, its event ingress, its health endpoints and its bounds.

    Args:
        service: What handles events and requests; for an application without events, its name.
        routers: The API.
        lifespan: An async context manager function taking the service, for what else must be open meanwhile.
        settings: By default the service's, or from the environment.
        max_body: Bytes that a request's body may have.
        admit: Called with each request of the API before its body is read (FastAPI's dependencies come after that); it
            raises HTTPException for what is refused, such as a missing token.
        options: Passed on to FastAPI.

    """
    events = service if isinstance(service, Service) else None
    name = service.name if isinstance(service, Service) else service
    chosen = settings or (events.settings if events else Settings())

    @asynccontextmanager
    async def life(_app: FastAPI) -> AsyncIterator[None]:
        logs.configure(name, chosen.tidings_log, chosen.tidings_log_level)
        tracing.configure(name)
        async with AsyncExitStack() as stack:
            stack.enter_context(metrics.served(chosen.tidings_metrics_host, chosen.tidings_metrics_port))
            if lifespan is not None:
                more: AbstractAsyncContextManager[Any] = lifespan(service)
                await stack.enter_async_context(more)
            if events is not None:
                await events.start()
                stack.push_async_callback(events.stop)
            yield

    app = EventApp(name, events, chosen, Bounds(max_body, admit), lifespan=life, **options)
    app.include_router(_health(events))
    docs.install(app)
    for router in routers:
        app.include_router(router)
    problems.install(app)
    app.add_exception_handler(SidecarError, _unavailable)
    app.add_exception_handler(EventTooLarge, _too_large)
    return app


@dataclass(frozen=True, slots=True)
class Bounds:
    """What requests of the API may be, beside what holds for every service."""

    max_body: int = MAX_BODY
    admit: Admission | None = None


class EventApp(FastAPI):
    """A FastAPI application behind a guard; event deliveries go straight to the ingress, before any middleware."""

    def __init__(self, name: str, service: Service | None, settings: Settings, bounds: Bounds, **options: Any) -> None:
        super().__init__(title=name, docs_url=None, redoc_url=None, **options)
        self.state.tidings = service
        self.state.streams = StreamLimit(settings.tidings_streams, settings.tidings_streams_per_address)
        hosts = (name, *settings.hosts)
        self._api = Guard(super().__call__, Limits(hosts, bounds.max_body), bounds.admit)
        self._ingress = Guard(service.ingress, Limits(hosts, MAX_DELIVERY)) if service else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand deliveries to the ingress, all else to FastAPI; `GET /events/…` may be part of an API."""
        delivered = scope["type"] == "http" and scope["method"] == "POST" and scope["path"].startswith(PREFIX)
        await (self._ingress if delivered and self._ingress else self._api)(scope, receive, send)


def current_service(request: Request) -> Service:
    """The service behind a request."""
    found: Service = request.app.state.tidings
    return found


CurrentService = Annotated[Service, Depends(current_service)]


async def _place(request: Request) -> AsyncIterator[None]:
    # Asynchronous, because FastAPI never leaves a synchronous dependency whose request is cancelled.
    limit: StreamLimit = request.app.state.streams
    with limit.place(request.client.host if request.client else ""):
        yield


StreamPlace = Depends(_place)
"""A dependency of every route that answers with a stream: it holds one of the places that `TIDINGS_STREAMS` gives."""


def _health(service: Service | None) -> APIRouter:
    router = APIRouter(tags=["health"])

    @router.get("/healthz", summary="The process lives and takes deliveries")
    async def healthz() -> Response:
        healthy = service is None or service.healthy
        return JSONResponse({"status": "ok" if healthy else "stopping"}, 200 if healthy else 503)

    @router.get("/readyz", summary="Commands can be accepted")
    async def readyz() -> Response:
        ready = service is None or await service.ready()
        return JSONResponse({"status": "ready" if ready else "waiting for the sidecar"}, 200 if ready else 503)

    return router


async def _unavailable(request: Request, error: Exception) -> Response:
    status = 409 if isinstance(error, StateConflict) else 503
    log.warning("request.failed", path=request.url.path, reason=str(error))
    after = error.after if isinstance(error, SidecarUnavailable) else 1.0
    return problems.problem(status, str(error), headers={"Retry-After": str(math.ceil(after))})


async def _too_large(_request: Request, error: Exception) -> Response:
    return problems.problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, str(error))
