"""Forwarding of requests to the services, and responses in case a service fails."""

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

from storefront.adapters.upstreams import Upstream
from storefront.settings import StorefrontSettings
from tidings.web.answers import PLAIN, AnswerTooLarge, read_bounded
from tidings.web.problems import problem

log = structlog.get_logger(__name__)

LARGEST = 64 * 1024
"""Limit of a request body in bytes; an order of 100 kinds of pizza has about 6,000."""
LARGEST_ANSWER = 4 * 1024 * 1024
"""Limit of a response body in bytes; 500 tracked orders have about 500,000."""
REQUEST_HEADERS = ("accept", "content-type", "idempotency-key", "last-event-id", "traceparent", "tracestate")
RESPONSE_HEADERS = ("content-type", "etag", "retry-after")
RETRY_AFTER = {"Retry-After": "2"}
# Services close idle connections after five seconds (uvicorn's default). Close them earlier here, so that no request
# is sent on a connection that is about to be closed.
IDLE = 2.0
POOL_PATIENCE = 1.0

_SECONDS = Histogram(
    "storefront_forwarded_seconds",
    "Time from forwarding a request to the start of its response, by service and status",
    ["service", "status"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0),
)


class Forwarder:
    """Forwards requests. Streams use a connection pool of their own, so that they cannot block orders."""

    def __init__(self, requests: httpx2.AsyncClient, streams: httpx2.AsyncClient) -> None:
        self._requests, self._streams = requests, streams

    @classmethod
    @asynccontextmanager
    async def opened(cls, settings: StorefrontSettings) -> AsyncIterator[Forwarder]:
        """Open the connection pools for the duration of the context."""
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
        """Forward a request and return the response."""
        outgoing = self._requests.build_request(
            request.method, to.url + path, params=query, headers=_request_headers(request), content=await request.body()
        )
        start = time.perf_counter()
        try:
            upstream_response = await self._requests.send(outgoing, stream=True)
            body = await read_bounded(upstream_response, LARGEST_ANSWER)
        except httpx2.TransportError as error:
            return _observed(_unavailable(to, error), to, start)
        except AnswerTooLarge as error:
            return _observed(_too_large(to, error), to, start)
        return _observed(_response(to, upstream_response, body), to, start)

    async def stream(self, request: Request, to: Upstream, path: str) -> Response:
        """Forward a stream of server-sent events until either side ends it."""
        outgoing = self._streams.build_request("GET", to.url + path, headers=_request_headers(request))
        start = time.perf_counter()
        try:
            upstream_response = await self._streams.send(outgoing, stream=True)
        except httpx2.TransportError as error:
            return _observed(_unavailable(to, error), to, start)
        if upstream_response.is_success:
            return _observed(_ForwardedStream(to, upstream_response), to, start)
        try:
            body = await read_bounded(upstream_response, LARGEST_ANSWER)
            return _observed(_response(to, upstream_response, body), to, start)
        except httpx2.TransportError as error:
            return _observed(_unavailable(to, error), to, start)
        except AnswerTooLarge as error:
            return _observed(_too_large(to, error), to, start)


class _ForwardedStream(StreamingResponse):
    """A stream that closes the upstream connection in every case, even if the browser leaves before it starts."""

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
        # The browser reconnects and sends the id of the last event it has seen.
        log.warning("stream.interrupted", upstream=to.name, reason=_describe(error))


def _request_headers(request: Request) -> list[tuple[bytes, bytes]]:
    """Return the headers to forward, as the bytes that were sent: the client would refuse a value beyond ASCII."""
    sent = request.headers
    return [(name.encode(), sent[name].encode("latin-1")) for name in REQUEST_HEADERS if name in sent]


def _response(to: Upstream, answer: httpx2.Response, body: bytes) -> Response:
    """Return a service's response, or a problem if the service failed without an error that customers understand."""
    if answer.is_server_error and "json" not in answer.headers.get("content-type", ""):
        log.warning("forward.failed", upstream=to.name, status=answer.status_code)
        return problem(HTTPStatus.BAD_GATEWAY, f"{to.name} failed. {to.absence}", service=to.name)
    headers = {name: answer.headers[name] for name in RESPONSE_HEADERS if name in answer.headers}
    if "location" in answer.headers:
        headers["location"] = f"/api{answer.headers['location']}"
    return Response(body, answer.status_code, headers=headers | {"Cache-Control": "no-store"})


def _too_large(to: Upstream, error: AnswerTooLarge) -> Response:
    log.warning("forward.failed", upstream=to.name, reason=str(error))
    detail = f"{to.name} sent a response that is too large. {to.absence}"
    return problem(HTTPStatus.BAD_GATEWAY, detail, headers=RETRY_AFTER, service=to.name)


def _unavailable(to: Upstream, error: httpx2.TransportError) -> Response:
    """Return 503 if the service was not reached, 502 if it may have handled the request."""
    log.warning("forward.failed", upstream=to.name, reason=_describe(error))
    if isinstance(error, httpx2.PoolTimeout):
        detail = f"Too many requests to {to.name} at once; try again in a moment."
        return problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers=RETRY_AFTER, service=to.name)
    if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
        detail = f"{to.name} cannot be reached. {to.absence}"
        return problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers=RETRY_AFTER, service=to.name)
    detail = (
        f"{to.name} did not answer in time. {to.absence} "
        "The request may have been carried out; retry it with the same Idempotency-Key."
    )
    return problem(HTTPStatus.BAD_GATEWAY, detail, headers=RETRY_AFTER, service=to.name)


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _observed(response: Response, to: Upstream, start: float) -> Response:
    _SECONDS.labels(to.name, str(response.status_code)).observe(time.perf_counter() - start)
    return response
