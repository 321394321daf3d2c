"""kopf as the source of events: what it is told to watch, and how it is kept from spending more than that takes."""

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
"""Stands on no object. kopf takes its finalizer off whatever carries it without need, and the name that it has by
default is every kopf operator's. Taking another one's off is not ours, nor have we the right to: kopf would try for
about a minute, and keep back the object's events meanwhile."""
GRACE = 5.0
"""Seconds that kopf gets to end."""
CHUNK = 20
"""Objects in one page of a list: kopf has one page, and what its workers hold of it, in memory at a time."""
LINGER = 0.5
"""Seconds that kopf's worker of an object waits for a further event, holding the last one: by default 5."""

GONE = 410
"""The one error of a watch after which kopf begins anew; of any other it would end the operator."""

EventHandler = Callable[..., Awaitable[None]]
Login = Callable[[], kopf.ConnectionInfo]


class Stopped(Exception):
    """The process was asked to end."""


class NoDifferences(kopf.DiffBaseStorage):
    """Keeps kopf from a deep copy of each object at each event: only its change handlers need one, and we have none."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        """Return nothing to compare."""
        return kopf.BodyEssence()

    def fetch(self, **_: Any) -> None:
        """Return nothing to compare with."""

    def store(self, **_: Any) -> None:
        """Store nothing."""


def settings() -> kopf.OperatorSettings:
    """Return kopf's settings: those that cost nothing for what is not used."""
    configured = kopf.OperatorSettings()
    configured.posting.enabled = False  # kopf would post an event for every log line of a handler
    configured.watching.chunk_size = CHUNK
    configured.queueing.idle_timeout = LINGER
    configured.persistence.diffbase_storage = NoDifferences()
    configured.persistence.finalizer = FINALIZER
    return configured


def registry(login: Login, handle_event: EventHandler) -> kopf.OperatorRegistry:
    """Return what kopf is to do: hand over every event about our kinds. No finalizer, no index, no patch."""

    async def logged_in(**_: Any) -> kopf.AiohttpSession:
        return session(login())

    made = kopf.OperatorRegistry()
    kopf.on.login(registry=made)(logged_in)
    for api in OWN.values():
        kopf.on.event(GROUP, api.group_version.partition("/")[2], api.plural, registry=made)(handle_event)
    return made


class _Content:
    """The content of an answer, read line by line where kopf reads a watch."""

    def __init__(self, content: aiohttp.StreamReader) -> None:
        self._content = content

    def __getattr__(self, name: str) -> Any:
        return getattr(self._content, name)

    async def iter_chunked(self, _: int) -> AsyncIterator[bytes]:
        """Yield lines that kopf's JSON reader can read."""
        async for line in lines(self._content):
            yield _restartable(reading.line(line)) + b"\n"


class ReadableResponse(aiohttp.ClientResponse):
    """An answer of the API server in which no object is larger or deeper than can be read."""

    async def start(self, connection: Any) -> aiohttp.ClientResponse:
        """Begin the answer."""
        await super().start(connection)
        self.content = _Content(self.content)  # type: ignore[assignment]
        return self

    async def json(self, **how: Any) -> Any:
        """Decode it."""
        return reading.decode(await self.read()) if self.ok else await super().json(**how)


def session(info: kopf.ConnectionInfo) -> kopf.AiohttpSession:
    """Return a session for kopf, as kopf would make it, but for what it answers."""
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
    """Let kopf begin a watch anew after any error that the API server tells of in it."""
    if not line.startswith(b'{"type":"ERROR"'):
        return line
    event = msgspec.json.decode(line)
    LOG.info("a watch ends with an error and begins anew: %s", event["object"].get("message"))
    return msgspec.json.encode({**event, "object": {**event["object"], "code": GONE}})


async def feed(login: Login, handle_event: EventHandler, namespaces: tuple[str, ...]) -> None:
    """Run kopf until it ends; raise Stopped when the process was asked to."""
    tasks = await kopf.spawn_tasks(
        registry=registry(login, handle_event),
        settings=settings(),
        standalone=True,
        clusterwide=not namespaces,
        namespaces=namespaces,
    )
    # Not kopf.operator(): on its way out it waits for every task of the loop, and so for ours, which wait for it.
    try:
        ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in ended:
            task.result()
        raise Stopped  # kopf has taken the signals of the process to itself
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=GRACE)
