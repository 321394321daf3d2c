"""kopf as the source of events: its configuration, with adaptations that reduce its overhead."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import kopf
import msgspec

from tidings_operator import reading
from tidings_operator.client import OWN, lines
from tidings_plan.resources.model import GROUP

LOG = logging.getLogger(__name__)

FINALIZER = f"{GROUP}/kopf"
"""Never set on any object.

kopf removes its finalizer from objects that do not need it, and its default name is shared by all kopf operators.
Removing another operator's finalizer is neither intended nor permitted: kopf would retry for about a minute and delay
the object's events.
"""
GRACE = 5.0
"""Seconds that kopf may take to end."""
CHUNK = 20
"""Objects per page of a list: kopf holds one page and its workers' objects in memory."""
LINGER = 0.5
"""Seconds that kopf's worker of an object waits for a further event; 5 by default."""

GONE = 410
"""The only error of a watch after which kopf restarts it; any other would end the operator."""

EventHandler = Callable[..., Awaitable[None]]
Login = Callable[[], kopf.ConnectionInfo]


class Stopped(Exception):
    """The process was asked to stop."""


class NoDifferences(kopf.DiffBaseStorage):
    """Saves kopf a deep copy of each object per event, which only change handlers need."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        """Return nothing."""
        return kopf.BodyEssence()

    def fetch(self, **_: Any) -> None:
        """Return nothing."""

    def store(self, **_: Any) -> None:
        """Store nothing."""


def settings() -> kopf.OperatorSettings:
    """Return kopf's settings, with unused features disabled."""
    configured = kopf.OperatorSettings()
    configured.posting.enabled = False  # kopf posts an event for every log line of a handler by default
    configured.watching.chunk_size = CHUNK
    configured.queueing.idle_timeout = LINGER
    configured.persistence.diffbase_storage = NoDifferences()
    configured.persistence.finalizer = FINALIZER
    return configured


def registry(
    log_in: Callable[..., Awaitable[kopf.AiohttpSession]], handle_event: EventHandler
) -> kopf.OperatorRegistry:
    """Return kopf's registry: pass on every event about our kinds, without finalizers, indices or patches."""
    made = kopf.OperatorRegistry()
    kopf.on.login(registry=made)(log_in)
    for api in OWN.values():
        kopf.on.event(GROUP, api.group_version.partition("/")[2], api.plural, registry=made)(handle_event)
    return made


class _Content:
    """The content of a response, read line by line for a watch."""

    def __init__(self, content: aiohttp.StreamReader) -> None:
        self._content = content

    def __getattr__(self, name: str) -> Any:
        return getattr(self._content, name)

    async def iter_chunked(self, _: int) -> AsyncIterator[bytes]:
        """Yield lines that kopf's JSON reader can read."""
        async for line in lines(self._content):
            if not reading.is_event(line):
                LOG.warning("a line of a watch is no event and is left out: %.200r", line)
                continue
            yield _restartable(reading.line(line)) + b"\n"


class ReadableResponse(aiohttp.ClientResponse):
    """A response of the API server whose objects are within the limits of size and depth."""

    async def start(self, connection: Any) -> aiohttp.ClientResponse:
        """Begin the response.

        Raises:
            ClientPayloadError: A page of a list has expired, because reading the list took minutes. kopf lists our
                kinds again after this error, and `feed` starts kopf again if it was the list of namespaces; the API
                server's own error (410) would end the operator.

        """
        await super().start(connection)
        if self.status == GONE and "continue" in self.url.query:
            raise aiohttp.ClientPayloadError(f"{self.url.path} is listed again: a page has expired")
        self.content = _Content(self.content)  # type: ignore[assignment]
        return self

    async def json(self, **how: Any) -> Any:
        """Decode the response."""
        return reading.decode(await self.read()) if self.ok else await super().json(**how)


def session(info: kopf.ConnectionInfo) -> kopf.AiohttpSession:
    """Return a session like kopf's own, with readable responses."""
    secured = info.as_ssl_context() if info.server.startswith("https") else False
    made = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=secured),
        headers=info.as_http_headers(),
        response_class=ReadableResponse,
    )
    return kopf.AiohttpSession(
        server=info.server, default_namespace=info.default_namespace, aiohttp_session=made, priority=info.priority
    )


def _restartable(line: bytes) -> bytes:
    """Make kopf restart a watch after any error reported by the API server."""
    if not line.startswith(b'{"type":"ERROR"'):
        return line
    event = msgspec.json.decode(line)
    LOG.info("a watch ends with an error and begins anew: %s", event["object"].get("message"))
    return msgspec.json.encode({**event, "object": {**event["object"], "code": GONE}})


async def feed(login: Login, handle_event: EventHandler, namespaces: tuple[str, ...]) -> None:
    """Run kopf until it ends; raise Stopped if the process was asked to stop."""
    while True:
        try:
            await _run_kopf(login, handle_event, namespaces)
        except aiohttp.ClientPayloadError as error:
            LOG.warning("kopf is started again: %s", error)


async def _run_kopf(login: Login, handle_event: EventHandler, namespaces: tuple[str, ...]) -> None:
    sessions: list[kopf.AiohttpSession] = []

    async def log_in(**_: Any) -> kopf.AiohttpSession:
        sessions.append(session(login()))
        return sessions[-1]

    tasks = await kopf.spawn_tasks(
        registry=registry(log_in, handle_event),
        settings=settings(),
        standalone=True,
        clusterwide=not namespaces,
        namespaces=namespaces,
    )
    # Not kopf.operator(), which waits for all tasks of the loop at the end, including ours, which wait for it.
    try:
        ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in ended:
            task.result()
        raise Stopped  # kopf has replaced the signal handlers of the process
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=GRACE)
        # A watch that begins anew at this moment ignores the cancellation. It ends when it can make no further request.
        for opened in sessions:
            await opened.aiohttp_session.close()
        await asyncio.wait(tasks, timeout=GRACE)
