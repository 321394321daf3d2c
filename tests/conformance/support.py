"""Helpers of the suites and of custom tests: names, Dapr resources, a recording app."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from tidings.messages.envelope import Envelope, new_id

Check = Callable[[], object]
PATIENCE = 100.0  # seconds that something real may take on a busy machine
_numbers = itertools.count()


def unique(prefix: str) -> str:
    """Make a key or topic that no other test uses."""
    return f"{prefix}-{new_id()[-12:]}-{next(_numbers)}"


def retry_policy(retries: int, pubsub: str = "pubsub") -> dict[str, Any]:
    """Write a Dapr Resiliency that delivers again at once, up to so many times; -1 for ever."""
    return {
        "apiVersion": "dapr.io/v1alpha1",
        "kind": "Resiliency",
        "metadata": {"name": "again"},
        "spec": {
            "policies": {"retries": {"again": {"policy": "constant", "duration": "50ms", "maxRetries": retries}}},
            "targets": {"components": {pubsub: {"inbound": {"retry": "again"}}}},
        },
    }


def subscription(topic: str, routes: Mapping[str, Any] | str, dead_letters: str | None = None) -> dict[str, Any]:
    """Write a Dapr Subscription; `routes` is a path, or rules and a default as Dapr has them."""
    spec: dict[str, Any] = {
        "pubsubname": "pubsub",
        "topic": topic,
        "routes": {"default": routes} if isinstance(routes, str) else dict(routes),
    }
    if dead_letters:
        spec["deadLetterTopic"] = dead_letters
    return {
        "apiVersion": "dapr.io/v2alpha1",
        "kind": "Subscription",
        "metadata": {"name": topic.lower().replace(".", "-")},
        "spec": spec,
    }


class Recorder:
    """An app that keeps what it is sent and answers what the test says."""

    def __init__(self) -> None:
        self.received: list[tuple[str, dict[str, Any]]] = []
        self.headers: list[dict[str, str]] = []
        self.answers: dict[str, list[tuple[int, bytes]]] = {}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body = await _whole(receive)
        status, answer = 200, b""
        if scope["method"] == "POST":
            path = scope["path"]
            self.received.append((path, json.loads(body)))
            self.headers.append({name.decode(): value.decode() for name, value in scope["headers"]})
            waiting = self.answers.get(path, [])
            status, answer = waiting.pop(0) if len(waiting) > 1 else waiting[0] if waiting else (200, b"")
        headers = [(b"content-length", str(len(answer)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    def at(self, path: str) -> list[dict[str, Any]]:
        """Give the events received at a path."""
        return [event for result, event in self.received if result == path]

    def ids(self, path: str) -> list[str]:
        """Give their ids."""
        return [event["id"] for event in self.at(path)]


async def _whole(receive: Callable[[], Awaitable[Any]]) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += bytes(message.get("body", b""))
        if not message.get("more_body"):
            return body


def event(**more: Any) -> Envelope:
    """Make an event."""
    value = {"id": new_id(), "source": "orders", "type": "orders.orderConfirmed", "specversion": "1.0", "version": "2"}
    return Envelope(**{**value, **more})


async def poll(check: Check, patience: float = PATIENCE) -> None:
    """Wait until a check is true.

    Raises:
        AssertionError: It did not become true within `patience` seconds.

    """
    deadline = time.monotonic() + patience
    while not check():
        assert time.monotonic() < deadline, f"not within {patience} s"
        await asyncio.sleep(0.01)
