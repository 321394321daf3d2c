"""Calls into an ASGI app without a server between: what a sidecar does, and what a server does at start and stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

Message = MutableMapping[str, Any]
App = Callable[[Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]
Headers = Iterable[tuple[bytes, bytes]]


async def post(app: App, path: str, body: bytes, headers: Headers = ()) -> tuple[int, bytes]:
    """POST to a path; gives the status and the body of the answer."""
    asked, answered = [{"type": "http.request", "body": body, "more_body": False}], bytearray()
    status = 500  # an app that answers nothing has failed

    async def receive() -> Message:
        return asked.pop() if asked else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
        else:
            answered.extend(message.get("body", b""))

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
    return status, bytes(answered)


@asynccontextmanager
async def lifespan(app: App) -> AsyncIterator[None]:
    """Start an app as a server does, and shut it down at the end.

    Raises:
        RuntimeError: The app says that it failed to start or to stop.

    """
    asked: asyncio.Queue[Message] = asyncio.Queue()
    said: asyncio.Queue[Message] = asyncio.Queue()
    running = asyncio.ensure_future(
        app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, asked.get, said.put)
    )

    async def phase(name: str) -> None:
        await asked.put({"type": f"lifespan.{name}"})
        heard = asyncio.ensure_future(said.get())
        await asyncio.wait({heard, running}, return_when=asyncio.FIRST_COMPLETED)
        if not heard.done():
            heard.cancel()
            await running  # raises what the app raised
            return
        if heard.result()["type"] == f"lifespan.{name}.failed":
            await asyncio.gather(running, return_exceptions=True)
            raise RuntimeError(heard.result().get("message") or f"the app failed at {name}")

    await phase("startup")
    try:
        yield
    finally:
        if not running.done():
            await phase("shutdown")
            await running
