"""FastAPI applications with event ingress. Also provides `DaprApp`, compatible with `dapr.ext.fastapi`."""

from __future__ import annotations

import gc
import math
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel
from starlette.types import Receive, Scope, Send

from tidings.conventions import EVENTS_PATH
from tidings.dapr.app import DaprApp
from tidings.errors import EventTooLarge, MalformedEvent, NotFound, SidecarError, SidecarUnavailable, StateConflict
from tidings.observability import logs, tracing
from tidings.service import Service
from tidings.settings import Settings
from tidings.web import docs, metrics, problems
from tidings.web.guard import MAX_BODY, Admission, Guard, Limits
from tidings.web.streams import StreamLimit

log = structlog.get_logger(__name__)

__all__ = [
    "CamelModel",
    "ClosedCamelModel",
    "CurrentService",
    "DaprApp",
    "EventApp",
    "StreamPlace",
    "create_app",
    "current_service",
]

MAX_DELIVERY = 64 * 1024 * 1024
"""Maximum bytes of a delivery, which may hold several events; the sidecar dead-letters larger ones."""
_STATUSES: dict[type[Exception], HTTPStatus] = {
    NotFound: HTTPStatus.NOT_FOUND,
    EventTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    MalformedEvent: HTTPStatus.UNPROCESSABLE_ENTITY,
}


def create_app(
    service: Service | str,
    routers: Iterable[APIRouter] = (),
    *,
    lifespan: Any = None,
    background: Any = None,
    settings: Settings | None = None,
    max_body: int = MAX_BODY,
    admit: Admission | None = None,
    errors: Mapping[type[Exception], HTTPStatus] | None = None,
    **options: Any,
) -> EventApp:
    """Create the FastAPI application of a service: API, event ingress, health endpoints and request limits.

    Args:
        service: The service, or the name of an application without events.
        routers: Routers of the API.
        lifespan: Async context manager function that takes the service, for resources that handlers and the API use: it
            is entered before the service starts, and exited after it has stopped.
        background: Async context manager function that takes the service, for work that uses the service: it is entered
            after the service's start has begun, and exited before it stops.
        settings: Defaults to the service's settings, or to the environment.
        max_body: Maximum size of a request body in bytes.
        admit: Called for each API request before its body is read, and thus before FastAPI's dependencies. It rejects a
            request, for example without a token, by raising HTTPException.
        errors: HTTP status of the application's exceptions and of their subclasses. The response is a problem with the
            exception's text. With status 503, `Retry-After` is the exception's attribute `after`, or 1 second.
        options: Passed to FastAPI.

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
                resources: AbstractAsyncContextManager[Any] = lifespan(service)
                await stack.enter_async_context(resources)
            if events is not None:
                await events.start()
                stack.push_async_callback(events.stop)
            if background is not None:
                work: AbstractAsyncContextManager[Any] = background(service)
                await stack.enter_async_context(work)
            stack.enter_context(_frozen())
            yield

    app = EventApp(name, events, chosen, Bounds(max_body, admit), lifespan=life, **options)
    app.include_router(_health(events))
    docs.install(app)
    for router in routers:
        app.include_router(router)
    problems.install(app)
    app.add_exception_handler(SidecarError, _unavailable)
    for kind, status in {**_STATUSES, **(errors or {})}.items():
        app.add_exception_handler(kind, partial(_failed, status))
    return app


class CamelModel(BaseModel):
    """Base of request and response bodies: camelCase in JSON, and created from objects with the same attributes."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, serialize_by_alias=True, from_attributes=True
    )


class ClosedCamelModel(CamelModel):
    """`CamelModel` that rejects unknown fields."""

    model_config = ConfigDict(extra="forbid")


@contextmanager
def _frozen() -> Iterator[None]:
    """Exclude the objects that exist now, such as modules, from garbage collection.

    Otherwise each full collection visits all of them, which delays every request of that moment by 100 ms and more.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@dataclass(frozen=True, slots=True)
class Bounds:
    """Limits of API requests, in addition to those of every service."""

    max_body: int = MAX_BODY
    admit: Admission | None = None


class EventApp(FastAPI):
    """A FastAPI application behind a guard. Event deliveries bypass the middleware and go directly to the ingress."""

    def __init__(self, name: str, service: Service | None, settings: Settings, bounds: Bounds, **options: Any) -> None:
        super().__init__(title=name, docs_url=None, redoc_url=None, **options)
        self.state.tidings = service
        self.state.streams = StreamLimit(settings.tidings_streams, settings.tidings_streams_per_address)
        hosts = (name, *settings.hosts)
        self._api = Guard(super().__call__, Limits(hosts, bounds.max_body), bounds.admit)
        self._ingress = Guard(service.ingress, Limits(hosts, MAX_DELIVERY)) if service else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Route deliveries to the ingress and everything else to FastAPI. `GET /events/…` may belong to an API."""
        delivered = scope["type"] == "http" and scope["method"] == "POST" and scope["path"].startswith(EVENTS_PATH)
        await (self._ingress if delivered and self._ingress else self._api)(scope, receive, send)


def current_service(request: Request) -> Service:
    """Return the service that handles a request."""
    service: Service = request.app.state.tidings
    return service


CurrentService = Annotated[Service, Depends(current_service)]


async def _place(request: Request) -> AsyncIterator[None]:
    # Asynchronous, because FastAPI never exits a synchronous dependency whose request is cancelled.
    limit: StreamLimit = request.app.state.streams
    with limit.place(request.client.host if request.client else ""):
        yield


StreamPlace = Depends(_place)
"""Dependency of every route that returns a stream: limits concurrent streams to `TIDINGS_STREAMS`."""


def _health(service: Service | None) -> APIRouter:
    router = APIRouter(tags=["health"])

    @router.get("/healthz", summary="Liveness: the process accepts deliveries")
    async def healthz() -> Response:
        healthy = service is None or service.healthy
        return JSONResponse({"status": "ok" if healthy else "stopping"}, 200 if healthy else 503)

    @router.get("/readyz", summary="Readiness: the service accepts commands")
    async def readyz() -> Response:
        ready = service is None or await service.ready()
        return JSONResponse({"status": "ready" if ready else "waiting for the sidecar"}, 200 if ready else 503)

    return router


async def _unavailable(request: Request, error: Exception) -> Response:
    status = 409 if isinstance(error, StateConflict) else 503
    log.warning("request.failed", path=request.url.path, reason=str(error))
    after = error.after if isinstance(error, SidecarUnavailable) else 1.0
    return problems.problem(status, str(error), headers={"Retry-After": str(math.ceil(after))})


async def _failed(status: HTTPStatus, _request: Request, error: Exception) -> Response:
    after = {"Retry-After": str(math.ceil(getattr(error, "after", 1.0)))}
    return problems.problem(status, str(error), headers=after if status is HTTPStatus.SERVICE_UNAVAILABLE else None)
