"""Suspend and resume EventSubscriptions: of a local run through its folder, on a cluster through the API server.

A suspended subscription has no Dapr Subscription: its events wait at the broker.
"""

import asyncio
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any, Protocol
from urllib.parse import quote

import httpx2
import msgspec
from fastapi import Depends, HTTPException

from tidings_archive.attribution import MAP_ERRORS, Reader, read_subscriptions
from tidings_archive.settings import KUBERNETES, ArchiveSettings, settings

DEADLINE = 30.0
"""Seconds in which a local run applies a change."""
POLL_INTERVAL = 0.2
TIMEOUT = 10.0
"""Seconds that a request to the API server may take."""
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class SuspensionError(Exception):
    """A subscription cannot be suspended or resumed."""


class UnknownSubscription(SuspensionError):
    """There is no subscription of that name."""


class Unavailable(SuspensionError):
    """The local run or the API server does not carry it out at the moment.

    Attributes:
        after: Seconds to wait before retrying.

    """

    after = 5.0


class NotConfigured(SuspensionError):
    """The archive cannot suspend subscriptions, for a reason that its settings or rights have."""


class Suspensions(Protocol):
    """The suspended subscriptions."""

    async def names(self) -> set[str]:
        """Return the names of the suspended subscriptions.

        Raises:
            NotConfigured, Unavailable: They are not known, or not at the moment.

        """

    async def change(self, name: str, *, suspend: bool) -> None:
        """Suspend or resume a subscription.

        Raises:
            UnknownSubscription: There is no subscription of that name.
            NotConfigured, Unavailable: It cannot be changed, or not at the moment.
            SuspensionError: It must not be changed, for the reason in the message.

        """


class LocalRun:
    """Subscriptions of `tidings up`: it suspends those with a file in a folder, and then rewrites the system map."""

    def __init__(self, folder: Path, system_map: Path | None) -> None:
        self._folder, self._map = folder, system_map

    async def names(self) -> set[str]:
        """Return the names of the suspended subscriptions."""
        return {reader.name for reader in self._subscriptions() if reader.suspended}

    async def change(self, name: str, *, suspend: bool) -> None:
        """Suspend or resume a subscription, and wait until it is."""
        known = self._subscriptions()
        own = [reader for reader in known if reader.name == name]
        if not own:
            raise UnknownSubscription(f"the plan has no subscription {name!r}; `tidings lint` shows what it refuses")
        if sharing := sorted({other.name for other in known for reader in own if reader.shares_topic(other)}):
            raise SuspensionError(
                f"{name} shares a topic with {', '.join(sharing)}, and a topic is suspended as a whole: set "
                "spec.suspend of all of them, or use an app of its own for one"
            )
        file = self._folder / name
        if suspend:
            file.touch()
        else:
            file.unlink(missing_ok=True)
        try:
            async with asyncio.timeout(DEADLINE):
                while (name in await self.names()) is not suspend:  # noqa: ASYNC110 - another process writes the map
                    await asyncio.sleep(POLL_INTERVAL)
        except TimeoutError:
            raise Unavailable(f"`tidings up` has not applied it within {DEADLINE:g} s: see its output") from None

    def _subscriptions(self) -> tuple[Reader, ...]:
        if self._map is None:
            raise NotConfigured("ARCHIVE_MAP is not set: name the file that `tidings up` writes, ${map}")
        try:
            return read_subscriptions(self._map)
        except MAP_ERRORS as error:
            raise NotConfigured(f"ARCHIVE_MAP={self._map} cannot be read: {error}") from error


class Cluster:
    """Subscriptions of a namespace, with the rights of the pod's service account."""

    def __init__(self, namespace: str, server: str, account: Path = ACCOUNT) -> None:
        self._path = f"{server}/apis/tidings.dev/v1alpha1/namespaces/{quote(namespace)}/eventsubscriptions"
        self._account = account

    async def names(self) -> set[str]:
        """Return the names of the subscriptions with `spec.suspend`."""
        items = (await self._request("GET", self._path))["items"]
        return {item["metadata"]["name"] for item in items if item["spec"].get("suspend")}

    async def change(self, name: str, *, suspend: bool) -> None:
        """Set `spec.suspend`."""
        await self._request("PATCH", f"{self._path}/{quote(name, safe='')}", {"spec": {"suspend": suspend}})

    async def _request(self, method: str, url: str, body: Any = None) -> Any:
        try:
            async with self._client() as client:
                answer = await client.request(method, url, content=body and msgspec.json.encode(body))
                content = answer.json()
        except (httpx2.HTTPError, ValueError) as error:
            raise Unavailable(f"the API server does not answer: {error!r}") from error
        except OSError as error:
            raise NotConfigured(f"the pod's service account cannot be read: {error}") from error
        if answer.is_success:
            return content
        message = f"the API server: {content.get('message', answer.status_code)}"
        match answer.status_code:
            case HTTPStatus.NOT_FOUND:
                raise UnknownSubscription(message)
            case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN:
                raise NotConfigured(f"{message}; the chart grants it with archive.suspendSubscriptions=true")
            case status if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS:
                raise Unavailable(message)
        raise SuspensionError(message)

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[httpx2.AsyncClient]:
        # The token and the CA are read again for each request: the kubelet rotates them.
        headers = {
            "Authorization": f"Bearer {self._account.joinpath('token').read_text(encoding='ascii').strip()}",
            "Content-Type": "application/merge-patch+json",
        }
        trusted = ssl.create_default_context(cafile=str(self._account / "ca.crt"))
        async with httpx2.AsyncClient(headers=headers, verify=trusted, timeout=TIMEOUT, trust_env=False) as client:
            yield client


def suspensions(chosen: Annotated[ArchiveSettings, Depends(settings)]) -> Suspensions:
    """Return what `ARCHIVE_SUSPENSIONS` names; 404 where it is not set."""
    if not chosen.suspensions:
        raise HTTPException(
            HTTPStatus.NOT_FOUND,
            "ARCHIVE_SUSPENSIONS is not set: name the folder ${run}/suspended of a local run, or `kubernetes` on a "
            "cluster; or set spec.suspend of the EventSubscription yourself",
        )
    if chosen.suspensions != KUBERNETES:
        return LocalRun(Path(chosen.suspensions), chosen.map)
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST", ""), os.environ.get("KUBERNETES_SERVICE_PORT_HTTPS", "443")
    if not host:
        detail = "ARCHIVE_SUSPENSIONS=kubernetes works in a pod only: KUBERNETES_SERVICE_HOST is not set"
        raise HTTPException(HTTPStatus.NOT_FOUND, detail)
    return Cluster(chosen.namespace, f"https://{f'[{host}]' if ':' in host else host}:{port}")


CurrentSuspensions = Annotated[Suspensions, Depends(suspensions)]
