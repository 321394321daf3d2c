"""Client of the Kubernetes API over aiohttp, with only the requests that the operator needs.

The `kubernetes` package would use 60% of the operator's memory, and it blocks; aiohttp is installed with kopf.
"""

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, NamedTuple, Self

import aiohttp
import msgspec
from kopf import ConnectionInfo

from tidings_operator import reading

MANAGER = "tidings"
JSON = "application/json"
APPLY = "application/apply-patch+yaml"
LOG = logging.getLogger(__name__)

TIMEOUT = 30.0
"""Seconds that a request may take."""
PAGE = 20
"""Objects per page of a list, which are in memory at the same time."""
METADATA_PAGE = 500
METADATA = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
IN_FLIGHT = 16
"""Maximum concurrent requests: more would only queue in the API server, at the cost of a handshake per connection."""

Page = tuple[Sequence[Any], str]
"""Objects, and the resource version of the list that they are part of."""
Login = Callable[[], ConnectionInfo]


class ApiError(Exception):
    """The API server rejected the request, or is unavailable (`status` 0)."""

    def __init__(self, status: int, message: str, reason: str = "", retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.retry_after = retry_after

    @property
    def is_final(self) -> bool:
        """True if the API server would reject the same request again."""
        return self.status in (
            HTTPStatus.BAD_REQUEST,
            HTTPStatus.FORBIDDEN,
            HTTPStatus.UNPROCESSABLE_ENTITY,
            HTTPStatus.METHOD_NOT_ALLOWED,
        )

    @property
    def is_terminating(self) -> bool:
        """True if the namespace is terminating and accepts no new objects."""
        return self.status == HTTPStatus.FORBIDDEN and "because it is being terminated" in str(self)


@dataclass(frozen=True, slots=True)
class Api:
    """A kind as defined in the API server."""

    group_version: str
    plural: str
    kind: str

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """Return the path of the kind, or of one object of it."""
        root = f"/apis/{self.group_version}" if "/" in self.group_version else f"/api/{self.group_version}"
        inside = f"/namespaces/{namespace}" if namespace else ""
        return f"{root}{inside}/{self.plural}" + "".join(f"/{step}" for step in (name, subresource) if step)


class Known(NamedTuple):
    """The last known identity, generation and version of an object."""

    namespace: str
    name: str
    uid: str
    generation: int
    version: int


SUBSCRIPTIONS = Api("dapr.io/v2alpha1", "subscriptions", "Subscription")
RESILIENCIES = Api("dapr.io/v1alpha1", "resiliencies", "Resiliency")
CONFIG_MAPS = Api("v1", "configmaps", "ConfigMap")
COMPONENTS = Api("dapr.io/v1alpha1", "components", "Component")
EVENTS = Api("events.k8s.io/v1", "events", "Event")
LEASES = Api("coordination.k8s.io/v1", "leases", "Lease")
NAMESPACES = Api("v1", "namespaces", "Namespace")
PODS = Api("v1", "pods", "Pod")
VALIDATING_WEBHOOKS = Api(
    "admissionregistration.k8s.io/v1", "validatingwebhookconfigurations", "ValidatingWebhookConfiguration"
)
MUTATING_WEBHOOKS = Api(
    "admissionregistration.k8s.io/v1", "mutatingwebhookconfigurations", "MutatingWebhookConfiguration"
)
CHILDREN: Mapping[str, Api] = {api.kind: api for api in (SUBSCRIPTIONS, RESILIENCIES, CONFIG_MAPS)}
OWN: Mapping[str, Api] = {
    kind: Api("tidings.dev/v1alpha1", plural, kind)
    for kind, plural in (
        ("EventType", "eventtypes"),
        ("EventSubscription", "eventsubscriptions"),
        ("EventReplay", "eventreplays"),
    )
}


class Client:
    """A session with the API server. Rejected credentials are reloaded, because tokens are rotated."""

    def __init__(self, login: Login) -> None:
        self._login = login
        self._session: aiohttp.ClientSession | None = None
        self._server = ""
        self._slots = asyncio.Semaphore(IN_FLIGHT)

    async def __aenter__(self) -> Self:
        self._open()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session:
            await self._session.close()

    async def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        content_type: str = JSON,
        accept: str = JSON,
        params: Mapping[str, str] | None = None,
    ) -> Any:
        """Make a request and return its response; raise ApiError unless the status is 2xx."""
        data = None if body is None else msgspec.json.encode(body)
        for attempt in (1, 2):
            try:
                async with (
                    self._slots,
                    self._opened().request(
                        method,
                        self._server + path,
                        data=data,
                        params=params,
                        headers={"Content-Type": content_type, "Accept": accept},
                        timeout=aiohttp.ClientTimeout(total=TIMEOUT),
                    ) as response,
                ):
                    answer = await response.read()
                    if response.status == HTTPStatus.UNAUTHORIZED and attempt == 1:
                        await self._reopen()
                        continue
                    return _checked(response, answer)
            except (aiohttp.ClientError, TimeoutError) as error:
                if isinstance(error, aiohttp.ClientConnectorCertificateError) and attempt == 1:
                    await self._reopen()  # the CA of the API server may have been rotated
                    continue
                raise ApiError(0, f"{self._server} cannot be reached: {_reason(error)}") from error
        raise AssertionError("unreachable")

    async def get(self, api: Api, namespace: str, name: str) -> Any:
        """Return an object, or None if it does not exist."""
        try:
            return await self.request("GET", api.path(namespace, name))
        except ApiError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return None
            raise

    async def apply(self, manifest: Mapping[str, Any]) -> Any:
        """Apply an object server-side, taking over fields of other managers."""
        metadata = manifest["metadata"]
        path = CHILDREN[manifest["kind"]].path(metadata["namespace"], metadata["name"])
        params = {"fieldManager": MANAGER, "force": "true"}
        return await self.request("PATCH", path, manifest, content_type=APPLY, params=params)

    async def replace(self, manifest: Mapping[str, Any]) -> Any:
        """Replace an object completely."""
        metadata = manifest["metadata"]
        path = CHILDREN[manifest["kind"]].path(metadata["namespace"], metadata["name"])
        return await self.request("PUT", path, manifest, params={"fieldManager": MANAGER})

    async def delete(self, api: Api, namespace: str, name: str, uid: str) -> None:
        """Delete exactly this object; succeed if it has been deleted or recreated already."""
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}}
        try:
            await self.request("DELETE", api.path(namespace, name), options)
        except ApiError as error:
            if error.status not in (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT):
                raise

    async def write_status(self, api: Api, known: Known, status: Mapping[str, Any]) -> Any:
        """Replace an object's status completely; return None if the object has been recreated or its spec has changed.

        A PUT with the known version is used, because a patch costs the API server a fifth more. Changes that do not
        affect the spec (a label, a finalizer) do not prevent the write.
        """
        try:
            return await self._put_status(api, known, known.version, status)
        except ApiError as error:
            if error.status != HTTPStatus.CONFLICT:
                raise
        metadata = (await self.get(api, known.namespace, known.name) or {}).get("metadata")
        if not metadata or (metadata["uid"], metadata.get("generation", 0)) != (known.uid, known.generation):
            return None
        return await self._put_status(api, known, int(metadata["resourceVersion"]), status)

    async def _put_status(self, api: Api, known: Known, version: int, status: Mapping[str, Any]) -> Any:
        metadata = {"name": known.name, "namespace": known.namespace, "uid": known.uid, "resourceVersion": str(version)}
        body = {"apiVersion": api.group_version, "kind": api.kind, "metadata": metadata, "status": status}
        path = api.path(known.namespace, known.name, "status")
        return await self.request("PUT", path, body, params={"fieldManager": MANAGER})

    async def count(self, api: Api, namespace: str = "") -> int:
        """Return the number of objects of a kind without reading them."""
        page = await self.request("GET", api.path(namespace), params={"limit": "1"})
        return len(page["items"] or []) + int(page["metadata"].get("remainingItemCount") or 0)

    async def list(
        self, api: Api, namespace: str = "", *, selector: str = "", metadata_only: bool = False
    ) -> tuple[list[Any], str]:
        """Return all objects of a kind, and the resource version of the list."""
        pages = [page async for page in self.pages(api, namespace, selector=selector, metadata_only=metadata_only)]
        return [item for items, _ in pages for item in items], pages[-1][1]

    async def pages(
        self, api: Api, namespace: str = "", *, selector: str = "", metadata_only: bool = False
    ) -> AsyncIterator[Page]:
        """Yield all objects of a kind page by page, each with the resource version of the list."""
        accept = METADATA if metadata_only else JSON
        size = METADATA_PAGE if metadata_only else PAGE
        params = {"limit": str(size), **({"labelSelector": selector} if selector else {})}
        while True:
            page = await self.request("GET", api.path(namespace), accept=accept, params=params)
            yield (
                page["items"] or [],
                page["metadata"]["resourceVersion"],
            )  # Go writes an empty list of metadata as null
            if not page["metadata"].get("continue"):
                return
            params = {**params, "continue": page["metadata"]["continue"]}
            del page

    async def watch(
        self, api: Api, namespace: str, *, selector: str, version: str, seconds: int
    ) -> AsyncIterator[dict[str, Any]]:
        """Yield changes since a resource version, until the server ends the watch after the given seconds."""
        params = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(seconds),
            "labelSelector": selector,
        }
        # A server that is silent for longer than the watch may last is unreachable.
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=TIMEOUT, sock_read=seconds + TIMEOUT)
        try:
            async with self._opened().get(
                self._server + api.path(namespace), params=params, timeout=timeout
            ) as response:
                if response.status == HTTPStatus.UNAUTHORIZED:
                    await self._reopen()
                if response.status != HTTPStatus.OK:
                    _checked(response, await response.read())
                async for line in lines(response.content):
                    if reading.is_event(line):
                        yield reading.decode(line)
                    else:
                        LOG.warning("a line of a watch is no event and is left out: %.200r", line)
        except (aiohttp.ClientError, TimeoutError) as error:
            if isinstance(error, aiohttp.ClientConnectorCertificateError):
                await self._reopen()
            raise ApiError(0, f"the watch of {api.plural} broke: {_reason(error)}") from error

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("the client is used before it is entered")
        return self._session

    def _open(self) -> None:
        info = self._login()
        self._server = info.server.rstrip("/")
        secured: ssl.SSLContext | bool = info.as_ssl_context() if self._server.startswith("https") else False
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=secured, limit=0), headers=info.as_http_headers()
        )

    async def _reopen(self) -> None:
        """Load new credentials; requests in flight end with the old session."""
        old = self._session
        self._open()
        if old:
            await old.close()


def _reason(error: Exception) -> str:
    return str(error) or "no answer in time"


def _checked(response: aiohttp.ClientResponse, body: bytes) -> Any:
    if response.ok:
        return reading.decode(body)
    message, reason = body[:500].decode(errors="replace"), ""
    if response.content_type == JSON:
        answer = msgspec.json.decode(body)
        if isinstance(answer, dict):
            message, reason = str(answer.get("message", message)), str(answer.get("reason", ""))
    after = response.headers.get("Retry-After", "")
    raise ApiError(response.status, message, reason, float(after) if after.isdigit() else 0.0)


async def lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Split a stream into lines of any length: aiohttp rejects long ones, and a line holds a whole object."""
    rest = b""
    async for chunk in content.iter_any():
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            if line:
                yield line
