"""Query sidecars periodically for their actual subscriptions."""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from tidings.conventions import TOKEN_HEADER
from tidings.messages.envelope import UNREADABLE
from tidings.web.answers import AnswerTooLarge, collect
from tidings_operator import metrics
from tidings_operator.cache import Cache
from tidings_operator.client import PODS, ApiError, Client
from tidings_operator.settings import Settings
from tidings_operator.statuses import Observation
from tidings_operator.untrusted import InvalidToken, open_session, read_token

LOG = logging.getLogger(__name__)
INJECTED = "dapr.io/sidecar-injected"
"""Label that Dapr's injector sets on each pod with a sidecar: other pods are not listed."""
TIMEOUT = 3.0
"""Timeout of a query in seconds."""
LARGEST = 1024 * 1024
"""Maximum size of a response in bytes; a sidecar with 1,000 subscriptions responds with 200 kB."""
AT_ONCE = 16
"""Maximum concurrent queries."""
SOON = 12
"""Apps with changed routes are queried after this fraction of the regular interval: 5 s of 60."""

App = tuple[str, str]
"""Namespace and app id."""
Routes = frozenset[tuple[str, str]]
"""Name and hash of each Dapr Subscription of an app."""


class Subscribed(msgspec.Struct):
    """One live subscription of a sidecar."""

    pubsubname: str
    topic: str


class Metadata(msgspec.Struct):
    """The relevant part of a sidecar's metadata (GET /v1.0/metadata)."""

    subscriptions: list[Subscribed] | None = None


class Unreachable(Exception):
    """A sidecar cannot be queried; the message contains the reason and the fix."""


class Observer:
    """Queries the sidecars of all subscribing apps and updates the cache."""

    def __init__(self, settings: Settings, cache: Cache, client: Client, may_write: Callable[[], bool]) -> None:
        self._settings = settings
        self._cache = cache
        self._client = client
        self._may_write = may_write
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def run(self, synced: asyncio.Event) -> None:
        """Query all sidecars every `observe` seconds, and those with changed routes earlier, until cancelled."""
        await synced.wait()
        async with open_session(TIMEOUT) as session:
            due = 0.0
            while True:
                is_due = time.monotonic() >= due
                apps = [
                    app
                    for app in self._cache.inventory.consuming_apps
                    if (state := self._cache.apps.get(app))
                    and state.is_planned
                    and (is_due or not state.observation or state.observation.routes != self._routes(app))
                ]
                # Only the leader queries; a new leader starts immediately.
                if apps and self._may_write():
                    await self._look(session, apps)
                    due = time.monotonic() + self._settings.observe if is_due else due
                await asyncio.sleep(self._settings.observe / SOON)

    def _routes(self, app: App) -> Routes:
        state = self._cache.apps.get(app)
        settled = state.settled.items() if state else ()
        return frozenset((name.name, written[0]) for name, written in settled if name.kind == "Subscription")

    async def _look(self, session: aiohttp.ClientSession, apps: Iterable[App]) -> None:
        try:
            pods = await self._pods()
        except ApiError as error:
            LOG.warning("the pods cannot be listed, so nobody is asked what it is subscribed to: %s", error)
            return
        await asyncio.gather(*(self._ask_app(session, app, pods.get(app, [])) for app in apps))
        observations = [state.observation for state in self._cache.apps.values() if state.observation]
        metrics.OBSERVED.set(
            sum(1 for observation in observations if observation.sidecars and not observation.unreachable)
        )

    async def _pods(self) -> dict[App, list[Any]]:
        """Return the ready pods with a sidecar, by app."""
        pods: dict[App, list[Any]] = defaultdict(list)
        for namespace in self._settings.namespaces or ("",):
            items, _ = await self._client.list(PODS, namespace, selector=f"{INJECTED}=true")
            for pod in filter(_is_ready, items):
                metadata = pod["metadata"]
                # A pod's app id is its annotation, otherwise the injector's label.
                annotated = (metadata.get("annotations") or {}).get("dapr.io/app-id")
                app_id = str(annotated or (metadata.get("labels") or {}).get("dapr.io/app-id", ""))
                pods[metadata["namespace"], app_id].append(pod)
        return pods

    async def _ask_app(self, session: aiohttp.ClientSession, app: App, pods: list[Any]) -> None:
        routes = self._routes(app)
        answers = await asyncio.gather(*(self._ask(session, pod) for pod in pods), return_exceptions=True)
        failed = [str(answer) for answer in answers if isinstance(answer, Unreachable)]
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, Unreachable):
                raise answer
        answered = [answer for answer in answers if isinstance(answer, frozenset)]
        common = frozenset.intersection(*answered) if answered else frozenset()
        some = frozenset[tuple[str, str]]().union(*answered)
        self._cache.observed(app, Observation(common, some, len(pods), min(failed, default=""), routes))

    async def _token(self, namespace: str) -> str:
        """Return the token of a namespace's sidecars. It is read each time, because Secrets are rotated.

        Raises:
            Unreachable: The token cannot be read, or cannot be sent in a header.

        """
        if not self._settings.sidecar_tokens:
            return ""
        try:
            return await read_token(Path(self._settings.sidecar_tokens, namespace))
        except InvalidToken as error:
            raise Unreachable(f"The API token of namespace {namespace} {error}.") from error

    async def _ask(self, session: aiohttp.ClientSession, pod: Mapping[str, Any]) -> frozenset[tuple[str, str]]:
        name, address = pod["metadata"]["name"], pod["status"]["podIP"]
        host, everywhere = (f"[{address}]", "[::]") if ":" in address else (address, "0.0.0.0")  # noqa: S104 - its own
        url = f"http://{host}:{self._settings.sidecar_port}/v1.0/metadata"
        token = await self._token(pod["metadata"]["namespace"])
        headers = {TOKEN_HEADER: token} if token else {}
        try:
            # A tenant may label any pod as a sidecar: it receives its own namespace's token only, without redirects.
            async with self._slots, session.get(url, headers=headers, allow_redirects=False) as response:
                body = await collect(response.content.iter_any(), LARGEST)
        except AnswerTooLarge as error:
            raise Unreachable(f"What answers at {url} is no sidecar: {error}.") from error
        except (aiohttp.ClientError, TimeoutError) as error:
            fix = f'Annotate its pods dapr.io/sidecar-listen-addresses: "{everywhere}", and let the operator in.'
            raise Unreachable(f"The sidecar of pod {name} cannot be reached at {url}. {fix}") from error
        if response.status == HTTPStatus.UNAUTHORIZED:
            fix = "Give the operator the API token of its namespace (TIDINGS_OPERATOR_SIDECAR_TOKENS)."
            raise Unreachable(f"The sidecar of pod {name} asks for a token. {fix}")
        if response.status != HTTPStatus.OK:
            raise Unreachable(f"The sidecar of pod {name} answers {response.status} at {url}.")
        try:
            metadata = msgspec.json.decode(body, type=Metadata)
        except UNREADABLE as error:
            raise Unreachable(f"What answers at {url} is no sidecar: {error}.") from error
        return frozenset((subscription.pubsubname, subscription.topic) for subscription in metadata.subscriptions or ())


def _is_ready(pod: Mapping[str, Any]) -> bool:
    """Return True if a pod is ready and can be queried."""
    status = pod.get("status") or {}
    conditions = status.get("conditions") or ()
    ready = any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)
    return ready and bool(status.get("podIP")) and not pod["metadata"].get("deletionTimestamp")
