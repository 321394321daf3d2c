"""Requests passed on to the services, and what is answered when one of them does not answer."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

import httpx2
import structlog
from fastapi import Request, Response
from fastapi.responses import StreamingResponse
from prometheus_client import Histogram
from starlette.types import Receive, Scope, Send

from storefront.settings import StorefrontSettings
from storefront.upstreams import Upstream
from tidings.problems import problem
from tidings.web.answers import PLAIN, AnswerTooLarge, read_bounded

log = structlog.get_logger(__name__)

LARGEST = 64 * 1024
"""Bytes of a request's body: an order of 100 kinds of pizza has some 6,000."""
LARGEST_ANSWER = 4 * 1024 * 1024
"""Bytes of a service's answer: 500 tracked orders have some 500,000."""
ASKED = ("accept", "content-type", "idempotency-key", "last-event-id", "traceparent", "tracestate")
ANSWERED = ("content-type", "etag", "retry-after")
RETRY_AFTER = {"Retry-After": "2"}
# A service closes idle connections after five seconds (uvicorn's default): never send on one that is about to go.
IDLE = 2.0
POOL_PATIENCE = 1.0

_SECONDS = Histogram(
    "storefront_forwarded_seconds",
    "From a request passed on to the first of its answer, by service and status",
    ["service", "status"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0),
)


class Forwarder:
    """Passes requests on. Streams have connections of their own: those who watch never keep others from ordering."""

    def __init__(self, requests: httpx2.AsyncClient, streams: httpx2.AsyncClient) -> None:
        self._requests, self._streams = requests, streams

    @classmethod
    @asynccontextmanager
    async def opened(cls, settings: StorefrontSettings) -> AsyncIterator[Forwarder]:
        """Hold the connections as long as the context lasts."""
        calls = httpx2.Timeout(settings.patience, pool=POOL_PATIENCE)
        silence = httpx2.Timeout(settings.patience, read=settings.silence, pool=POOL_PATIENCE)
        kept = httpx2.Limits(keepalive_expiry=IDLE)
        watched = httpx2.Limits(max_connections=settings.watchers, max_keepalive_connections=0)
        async with (
            httpx2.AsyncClient(timeout=calls, limits=kept, trust_env=False, headers=PLAIN) as requests,
            httpx2.AsyncClient(timeout=silence, limits=watched, trust_env=False, headers=PLAIN) as streams,
        ):
            yield cls(requests, streams)

    async def forward(self, request: Request, to: Upstream, path: str, **query: Any) -> Response:
        """Pass a request on and its answer back."""
        asked = self._requests.build_request(
            request.method, to.url + path, params=query, headers=_asked(request), content=await request.body()
        )
        began = time.perf_counter()
        try:
            answer = await self._requests.send(asked, stream=True)
            body = await read_bounded(answer, LARGEST_ANSWER)
        except httpx2.TransportError as error:
            return _observed(_absent(to, error), to, began)
        except AnswerTooLarge as error:
            return _observed(_senseless(to, error), to, began)
        return _observed(_answered(to, answer, body), to, began)

    async def stream(self, request: Request, to: Upstream, path: str) -> Response:
        """Pass a stream of server-sent events through, frame by frame, until either side ends it."""
        asked = self._streams.build_request("GET", to.url + path, headers=_asked(request))
        began = time.perf_counter()
        try:
            answer = await self._streams.send(asked, stream=True)
        except httpx2.TransportError as error:
            return _observed(_absent(to, error), to, began)
        if answer.is_success:
            return _observed(_Passing(to, answer), to, began)
        try:
            return _observed(_answered(to, answer, await read_bounded(answer, LARGEST_ANSWER)), to, began)
        except httpx2.TransportError as error:
            return _observed(_absent(to, error), to, began)
        except AnswerTooLarge as error:
            return _observed(_senseless(to, error), to, began)


class _Passing(StreamingResponse):
    """A stream that lets go of the service however it ends, also when the browser goes away before it begins."""

    def __init__(self, to: Upstream, answer: httpx2.Response) -> None:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(_chunks(to, answer), media_type="text/event-stream", headers=headers)
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._answer.aclose()


async def _chunks(to: Upstream, answer: httpx2.Response) -> AsyncIterator[bytes]:
    try:
        async for chunk in answer.aiter_raw():
            yield chunk
    except httpx2.TransportError as error:
        # The browser sees the stream end, asks again, and says what it has seen last.
        log.warning("stream.broken", upstream=to.name, reason=_named(error))


def _asked(request: Request) -> dict[str, str]:
    return {name: request.headers[name] for name in ASKED if name in request.headers}


def _answered(to: Upstream, answer: httpx2.Response, body: bytes) -> Response:
    """Pass on what a service says, unless it failed without a word that a customer could use."""
    if answer.is_server_error and "json" not in answer.headers.get("content-type", ""):
        log.warning("forward.failed", upstream=to.name, status=answer.status_code)
        return problem(HTTPStatus.BAD_GATEWAY, f"{to.name} has failed. {to.absence}", service=to.name)
    headers = {name: answer.headers[name] for name in ANSWERED if name in answer.headers}
    if "location" in answer.headers:
        headers["location"] = f"/api{answer.headers['location']}"
    return Response(body, answer.status_code, headers=headers | {"Cache-Control": "no-store"})


def _senseless(to: Upstream, error: AnswerTooLarge) -> Response:
    log.warning("forward.failed", upstream=to.name, reason=str(error))
    detail = f"{to.name} answered what cannot be passed on. {to.absence}"
    return problem(HTTPStatus.BAD_GATEWAY, detail, headers=RETRY_AFTER, service=to.name)


def _absent(to: Upstream, error: httpx2.TransportError) -> Response:
    """Say what it means that a service does not answer: 503 if it was never reached, 502 if it may have acted."""
    log.warning("forward.failed", upstream=to.name, reason=_named(error))
    if isinstance(error, httpx2.PoolTimeout):
        detail = f"Too many are asking {to.name} at once; try again in a moment."
        return problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers=RETRY_AFTER, service=to.name)
    if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
        detail = f"{to.name} cannot be reached. {to.absence}"
        return problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers=RETRY_AFTER, service=to.name)
    detail = (
        f"{to.name} did not answer in time. {to.absence} "
        "What was asked may have been done: the same Idempotency-Key makes it safe to ask again."
    )
    return problem(HTTPStatus.BAD_GATEWAY, detail, headers=RETRY_AFTER, service=to.name)


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _observed(response: Response, to: Upstream, began: float) -> Response:
    _SECONDS.labels(to.name, str(response.status_code)).observe(time.perf_counter() - began)
    return response
