"""The committed webhook configurations on the tests' API server: they lead to this process, for one namespace only."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx2
import pytest_asyncio
from tests.operator import shop
from tests.operator.cluster import Cluster, path_of
from tests.operator.conftest import Start, manifest, until

from tidings_cli.testing.programs import Ports
from tidings_operator.operating import Operator

Guarded = Callable[..., Awaitable[Operator]]
MALFORMED = [{"cel": "event.data.total >"}]


def configurations(namespace: str, port: int, name: str = "tidings", **how: Any) -> list[dict[str, Any]]:
    """Return both configurations of the manifest, by URL in place of a service."""
    result = [item for item in manifest("webhooks") if item["kind"].endswith("Configuration")]
    for entry in result:
        entry["metadata"]["name"] = name
        for webhook in entry["webhooks"]:
            path = webhook["name"].partition(".")[0]
            webhook["clientConfig"] = {"url": f"https://127.0.0.1:{port}/{path}"}
            webhook["namespaceSelector"] = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
            webhook.update(how)
    return result


@contextlib.asynccontextmanager
async def configured(cluster: Cluster, namespace: str, port: int, **how: Any) -> AsyncIterator[None]:
    """Yield both configurations, as long as they are needed."""
    made = [
        await asyncio.to_thread(cluster.apply, configuration)
        for configuration in configurations(namespace, port, **how)
    ]
    try:
        yield
    finally:
        for item in made:
            await asyncio.to_thread(cluster.delete, path_of(item))


async def asked(cluster: Cluster, resource: dict[str, Any], *, dry: bool = False) -> tuple[dict[str, Any], list[str]]:
    """Apply a resource as a person would, in a thread: the webhooks answer in this loop.

    Returns what the API server keeps, and its warnings; raises HTTPStatusError for a refusal.
    """
    return await asyncio.to_thread(_apply, cluster, resource, dry)


async def refusal(cluster: Cluster, resource: dict[str, Any], *, dry: bool = False) -> str:
    """Apply a resource that is refused, and return why."""
    try:
        await asked(cluster, resource, dry=dry)
    except httpx2.HTTPStatusError as error:
        return str(error.response.json()["message"])
    raise AssertionError(f"it was taken: {resource}")


async def watching(cluster: Cluster, namespace: str) -> None:
    """Wait until the API server asks the webhook, and believes its certificate."""
    probe = shop.subscription(namespace, "probe", filters=MALFORMED)

    def refuses() -> bool:
        try:
            _apply(cluster, probe, True)
        except httpx2.HTTPStatusError as error:
            return "validate.tidings.dev" in error.response.text and "denied" in error.response.text
        return False

    await until(refuses, "the webhook refuses")


def _apply(cluster: Cluster, resource: dict[str, Any], dry: bool) -> tuple[dict[str, Any], list[str]]:
    params = {"fieldManager": "person", "force": "true", **({"dryRun": "All"} if dry else {})}
    response = cluster.http.patch(
        path_of(resource),
        json=resource,
        params=params,
        headers={"Authorization": "Bearer admin-token", "Content-Type": "application/apply-patch+yaml"},
    )
    if response.is_error:
        raise httpx2.HTTPStatusError(response.text, request=response.request, response=response)
    return response.json(), response.headers.get_list("warning")


@pytest_asyncio.fixture
async def guarded(cluster: Cluster, namespace: str, operator: Start, ports: Ports) -> AsyncIterator[Guarded]:
    """Start an operator whose webhooks the API server asks: `await guarded()`."""
    port = ports.take()
    async with contextlib.AsyncExitStack() as stack:

        async def start(**how: Any) -> Operator:
            await stack.enter_async_context(configured(cluster, namespace, port, failurePolicy="Fail"))
            made = await operator(webhook_port=port, **how)
            await watching(cluster, namespace)
            return made

        yield start
