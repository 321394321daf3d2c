"""List and watch children by label: kopf would fetch every ConfigMap of the cluster."""

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any, Protocol

from tidings_operator.client import Api, ApiError, Client

LOG = logging.getLogger(__name__)
SECONDS = 60
"""Duration of one watch: its end and the next one's beginning are a sign of life."""
PAUSE = (0.2, 10.0)
"""Shortest and longest wait after a failure, in seconds."""


class Sink(Protocol):
    """Receiver of listed and changed objects."""

    def listed(self, api: Api, namespace: str, items: list[Any]) -> None:
        """Replace all objects by the list, whose items `slim` has reduced; missing objects have been deleted."""

    def changed(self, api: Api, change: str, item: Any) -> None:
        """Handle a change: ADDED, MODIFIED or DELETED."""


async def watch(
    client: Client,
    api: Api,
    namespace: str,
    selector: str,
    sink: Sink,
    alive: Callable[[float], None],
    *,
    slim: Callable[[Api, Any], Any] = lambda _, item: item,
) -> None:
    """Keep a sink up to date, until cancelled.

    Args:
        client: The session with the API server.
        api: The kind.
        namespace: Namespace to watch; empty for all.
        selector: Label selector.
        sink: Receives lists and changes.
        alive: Called with the monotonic time of every sign of life.
        slim: Reduces a listed item, so that a page's bodies are freed before the next page is read.

    """
    version, pause = "", PAUSE[0]
    while True:
        try:
            if not version:
                items, version = await _listed(client, api, namespace, selector, slim)
                sink.listed(api, namespace, items)
                alive(time.monotonic())
            async for event in client.watch(api, namespace, selector=selector, version=version, seconds=SECONDS):
                alive(time.monotonic())
                version = _take(api, event, sink) or version
            alive(time.monotonic())
            pause = PAUSE[0]
        except ApiError as error:
            if error.status in (HTTPStatus.GONE, HTTPStatus.BAD_REQUEST):
                version = ""  # the resource version is too old: list again
            LOG.info("watching %s: %s; again in %.1f s", api.plural, error, pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, PAUSE[1])


async def _listed(
    client: Client, api: Api, namespace: str, selector: str, slim: Callable[[Api, Any], Any]
) -> tuple[list[Any], str]:
    items: list[Any] = []
    of_list = ""
    async for page, version in client.pages(api, namespace, selector=selector):
        items += [kept for item in page if (kept := _guarded(slim, api, item)) is not None]
        of_list = version
    return items, of_list


def _guarded(work: Callable[..., Any], *what: Any) -> Any:
    """Handle one object; an object that causes an exception is logged and ignored, without ending the watch."""
    try:
        return work(*what)
    except Exception:
        metadata = what[-1].get("metadata") or {}
        LOG.exception("%s/%s cannot be taken in", metadata.get("namespace"), metadata.get("name"))
        return None


def _take(api: Api, event: dict[str, Any], sink: Sink) -> str:
    """Handle an event of a watch; return the version to continue from, if it has one."""
    item = event["object"]
    if event["type"] == "ERROR":
        raise ApiError(int(item.get("code", 0)), str(item.get("message", "")), str(item.get("reason", "")))
    if event["type"] != "BOOKMARK":
        _guarded(partial(sink.changed, api, event["type"]), item)
    return str((item.get("metadata") or {}).get("resourceVersion") or "")
