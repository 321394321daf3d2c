"""A drop-in replacement for `dapr.ext.fastapi.DaprApp` that rejects results which would be mistaken for success.

It is meant for services that migrate step by step: only the import changes. New code declares `Handlers`, which are
several times faster and deduplicate events.
"""

import functools
import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response
from starlette.concurrency import run_in_threadpool

from tidings import outcomes
from tidings.errors import UnknownOutcome

Endpoint = Callable[..., Any]
_STATUSES = {"SUCCESS", "RETRY", "DROP"}


class DaprApp:
    """Declares programmatic subscriptions of a FastAPI application.

    Args:
        app_instance: The application.
        router_tags: OpenAPI tags of the routes, or None.

    """

    def __init__(self, app_instance: FastAPI, router_tags: Sequence[str] | None = ("PubSub",)) -> None:
        self._app = app_instance
        self._tags: list[Any] | None = None if router_tags is None else list(router_tags)
        self._subscriptions: list[dict[str, object]] = []
        app_instance.add_api_route("/dapr/subscribe", lambda: self._subscriptions, methods=["GET"], tags=self._tags)

    def subscribe(
        self,
        pubsub: str,
        topic: str,
        metadata: dict[str, str] | None = None,
        route: str | None = None,
        dead_letter_topic: str | None = None,
    ) -> Callable[[Endpoint], Endpoint]:
        """Deliver a topic's events to a FastAPI endpoint.

        Args:
            pubsub: Name of the pub/sub component.
            topic: Name of the topic.
            metadata: Metadata of the subscription.
            route: Path of the endpoint, `/events/{pubsub}/{topic}` by default.
            dead_letter_topic: Topic for events that are dropped or exceed their retries.

        """
        path = route or f"/events/{pubsub}/{topic}"

        def decorate(function: Endpoint) -> Endpoint:
            self._app.add_api_route(path, _checked(function), methods=["POST"], tags=self._tags)
            more = {} if dead_letter_topic is None else {"deadLetterTopic": dead_letter_topic}
            subscription = {"pubsubname": pubsub, "topic": topic, "route": path, "metadata": metadata or {}}
            self._subscriptions.append({**subscription, **more})
            return function

        return decorate


def _checked(function: Endpoint) -> Callable[..., Awaitable[Any]]:
    """Wrap an endpoint so that it returns a valid response for the sidecar; FastAPI sees the same parameters."""

    @functools.wraps(function)
    async def endpoint(*args: Any, **kwargs: Any) -> Any:
        if inspect.iscoroutinefunction(function):
            return answer(await function(*args, **kwargs))
        return answer(await run_in_threadpool(function, *args, **kwargs))

    endpoint.__annotations__ = {**function.__annotations__, "return": Any}
    return endpoint


def answer(returned: object) -> object:
    """Convert a result to the response for the sidecar.

    Raises:
        UnknownOutcome: A `(body, status)` tuple, which FastAPI would send as HTTP 200, so that the event would be lost,
            or an unknown status. The sidecar receives HTTP 500 and redelivers.

    """
    match returned:
        case outcomes.Done():
            return {"status": "SUCCESS"}
        case outcomes.Retry():
            return {"status": "RETRY"}
        case outcomes.Drop() | outcomes.DeadLetter():
            return {"status": "DROP"}
        case Response():
            return returned
        case tuple():
            raise UnknownOutcome(f"return a Response or an outcome, not a tuple: {returned!r:.80}")
        case {"status": status} if status not in _STATUSES:
            raise UnknownOutcome(f"Dapr knows the statuses {sorted(_STATUSES)}, not {status!r}")
    return returned if returned is not None else JSONResponse({"status": "SUCCESS"})
