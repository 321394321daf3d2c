"""Calls an ASGI app without a server: requests of a sidecar, and the lifespan protocol."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

Message = MutableMapping[str, Any]
App = Callable[[Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]
Headers = Iterable[tuple[bytes, bytes]]


async def post(app: App, path: str, body: bytes, headers: Headers = ()) -> tuple[int, bytes]:
    """POST to a path and return the status and body of the response."""
    requests, response = [{"type": "http.request", "body": body, "more_body": False}], bytearray()
    status = 500  # an app without a response has failed

    async def receive() -> Message:
        return requests.pop() if requests else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
        else:
            response.extend(message.get("body", b""))

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"127.0.0.1"), (b"content-length", str(len(body)).encode()), *headers],
        "client": ("127.0.0.1", 0),
        "server": ("127.0.0.1", 80),
    }
    await app(scope, receive, send)
    return status, bytes(response)


@asynccontextmanager
async def lifespan(app: App) -> AsyncIterator[None]:
    """Start an app as a server does, and shut it down at the end.

    Raises:
        RuntimeError: The app reports that it failed to start or to stop.

    """
    requests: asyncio.Queue[Message] = asyncio.Queue()
    responses: asyncio.Queue[Message] = asyncio.Queue()
    running = asyncio.ensure_future(
        app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, requests.get, responses.put)
    )

    async def phase(name: str) -> None:
        await requests.put({"type": f"lifespan.{name}"})
        response = asyncio.ensure_future(responses.get())
        await asyncio.wait({response, running}, return_when=asyncio.FIRST_COMPLETED)
        if not response.done():
            response.cancel()
            await running  # raises what the app raised
            return
        if response.result()["type"] == f"lifespan.{name}.failed":
            await asyncio.gather(running, return_exceptions=True)
            raise RuntimeError(response.result().get("message") or f"the app failed at {name}")

    await phase("startup")
    try:
        yield
    finally:
        if not running.done():
            await phase("shutdown")
            await running
