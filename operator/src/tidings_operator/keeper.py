"""The keeper of a system's broker: streams and rights follow its EventTypes and EventSubscriptions as they come and go.

A sidecar can use a topic only where JetStream has a stream for it and the pub/sub component's scopes allow it; RabbitMQ
keeps what is told before an app first subscribes only where its queue is there. All of it follows from the plan, so
nobody has to be asked when a consumer is added. Sidecars take a changed component without a restart: they close it and
open it again, which costs them some 10 ms.

Runs in the system's namespace (`python -m tidings_operator.keeper`, charts/pizza), with the right to read both kinds
and to patch one Component; the operator itself needs no password of any broker. Its port says how many messages wait in
JetStream for each consumer (`METRICS`), which a service that is away cannot tell.
"""

import asyncio
import contextlib
import json
import logging
import os
import socket
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop
from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from tidings.brokerwatch import BrokerWatch
from tidings.plan import Plan, Scopes, plan
from tidings.queues import QueueError, ensure_queues
from tidings.resources import Inventory, parse_resource
from tidings.streams import StreamError, ensure_streams, pending, unread_dead_letters
from tidings_operator.client import COMPONENTS, OWN, Api, ApiError, Client
from tidings_operator.process import login
from tidings_operator.server import listener
from tidings_operator.watching import watch

LOG = logging.getLogger(__name__)
MERGE = "application/merge-patch+json"
SETTLE = 0.3
"""Seconds to wait after a change: `kubectl apply -f folder/` makes many."""
AGAIN, RESYNC = 2.0, 300.0
"""Seconds until the next try, and until everything is looked at again although nothing has changed."""
COUNT = 15.0
"""Seconds between two counts of what waits."""
METRICS = CollectorRegistry()
PENDING = Gauge(
    "tidings_broker_pending",
    "Messages of a stream that a consumer has not acknowledged yet, as JetStream counts them",
    ["stream", "consumer"],
    registry=METRICS,
)
LOST = Gauge(
    "tidings_broker_lost",
    "Streams or queues that the broker had lost at the last look; they are recreated then",
    registry=METRICS,
)
UNREAD = Gauge(
    "tidings_broker_unread",
    "Consumers that no sidecar reads from: its app is away, or it must subscribe anew",
    registry=METRICS,
)
UNREAD_LETTERS = Gauge(
    "tidings_broker_dead_letters_unread",
    "Dead letters of a topic that no app reads: no list shows them, and the broker drops them with its retention",
    ["topic"],
    registry=METRICS,
)
REPAIRS = Counter("tidings_broker_repairs", "Times that sidecars were made to subscribe anew", registry=METRICS)
REOPENED = "tidingsReopened"
"""Setting of the component that Dapr ignores: sidecars close and open a component again when any of it changes."""
RIGHTS = ("publish", "subscribe")

Rights = dict[str, dict[str, list[str]]]
"""By app: what it may `publish`, and to what it may `subscribe`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Settings of the controller."""

    namespace: str
    component: str
    granted: Rights
    """Rights that hold whatever the plan says: those of the chart."""
    scopes: bool
    """Whether the component's scopes are kept."""
    nats_url: str
    """Where streams are kept; empty: the broker is not NATS, or somebody else makes them."""
    rabbitmq_url: str = ""
    """Where queues are kept; empty: the broker is not RabbitMQ."""
    replicas: int
    ready: Path
    """Made once everything is as it should be; beside it, with the suffix `.alive`, what is touched at every look."""


def rights(whole: Plan, component: str, granted: Rights) -> Rights:
    """Return what every app may do: what the plan says, and what it has been granted beyond."""
    by_app: dict[str, dict[str, set[str]]] = {
        app: {what: set(grants.get(what, ())) for what in RIGHTS} for app, grants in granted.items()
    }
    for planned in whole.apps.values():
        own = by_app.setdefault(planned.app, {what: set() for what in RIGHTS})
        own["publish"].update(planned.publishes.get(component, ()))
        own["subscribe"].update(planned.reads.get(component, ()))
    return {app: {what: sorted(own[what]) for what in RIGHTS} for app, own in sorted(by_app.items())}


def scoped(component: Mapping[str, Any], allowed: Rights) -> dict[str, Any] | None:
    """Return the patch that gives a component these rights, or None where it has them."""
    publish, subscribe = ([(app, own[what]) for app, own in allowed.items()] for what in RIGHTS)
    written = Scopes.of(publish, subscribe).metadata
    names = {item["name"] for item in written}
    foreign = [item for item in component["spec"].get("metadata") or () if item["name"] not in names]
    metadata = [*foreign, *written]
    if component["spec"].get("metadata") == metadata and component.get("scopes") == list(allowed):
        return None
    version = {"resourceVersion": component["metadata"]["resourceVersion"]}
    return {"metadata": version, "spec": {"metadata": metadata}, "scopes": list(allowed)}


def topics(allowed: Rights, more: Iterable[str]) -> set[str]:
    """Return every topic that must have a stream."""
    return {topic for own in allowed.values() for names in own.values() for topic in names} | set(more)


def subscribed(whole: Plan, component: str) -> list[tuple[str, dict[str, Any]]]:
    """Return every Dapr Subscription to a component, with its app."""
    return [
        (planned.app, subscription)
        for planned in whole.apps.values()
        for subscription in planned.subscriptions
        if subscription["spec"]["pubsubname"] == component
    ]


class Keeper:
    """Sees both kinds (a `watching.Sink`) and keeps the broker."""

    def __init__(self, client: Client, settings: Settings) -> None:
        self._client = client
        self._settings = settings
        self._seen: dict[tuple[str, str], Any] = {}
        self._listed: set[str] = set()
        self._changed = asyncio.Event()
        self._topics: set[str] = set()
        self._counted: set[tuple[str, str]] = set()
        self._broker: BrokerWatch | None = None

    def listed(self, api: Api, _namespace: str, items: list[Any]) -> None:
        """Take everything of a kind."""
        self._seen = {key: item for key, item in self._seen.items() if key[0] != api.kind}
        self._seen |= {(api.kind, item["metadata"]["name"]): item for item in items}
        self._listed.add(api.kind)
        self._changed.set()

    def changed(self, api: Api, change: str, item: Any) -> None:
        """Take one change; that of a status changes nothing here."""
        key = (api.kind, item["metadata"]["name"])
        before = self._seen.pop(key, None)
        if change != "DELETED":
            self._seen[key] = item
        if change == "DELETED" or not before or _generation(before) != _generation(item):
            self._changed.set()

    async def run(self) -> None:
        """Keep, for ever."""
        async with asyncio.TaskGroup() as group:
            for kind in ("EventType", "EventSubscription"):
                group.create_task(watch(self._client, OWN[kind], self._settings.namespace, "", self, lambda _: None))
            group.create_task(self._keep())
            if self._settings.nats_url:
                group.create_task(self._count())
            if self._settings.nats_url or self._settings.rabbitmq_url:
                group.create_task(self._watch())

    async def _watch(self) -> None:
        """Recreate what the broker has lost, and let sidecars subscribe anew where nothing is read."""
        while True:
            await asyncio.sleep(COUNT)
            if self._broker is None:  # nothing is planned yet
                continue
            try:
                await self._look(self._broker)
            except (ApiError, StreamError, QueueError) as error:
                LOG.warning("the broker cannot be looked after: %s", self._hidden(str(error)))

    async def _look(self, watch: BrokerWatch) -> None:
        state = await watch.look()
        LOST.set(len(state.lost))
        UNREAD.set(len(state.unread))
        if state.problem:
            LOG.warning("the broker: %s", state.problem)
        apps = watch.to_reopen(state)
        # RabbitMQ's queues are read again by daprd itself, once they are there.
        if apps and watch.kind == "nats":
            await self._reopen()
            REPAIRS.inc()
            LOG.warning("sidecars subscribe anew, because nothing was read for %s", ", ".join(sorted(apps)))

    async def _reopen(self) -> None:
        chosen = self._settings
        component = await self._client.get(COMPONENTS, chosen.namespace, chosen.component)
        if component is None:
            raise ApiError(0, f"there is no Component {chosen.component}")
        foreign = [entry for entry in component["spec"].get("metadata") or () if entry["name"] != REOPENED]
        metadata = [*foreign, {"name": REOPENED, "value": str(time.time_ns())}]
        patch = {
            "metadata": {"resourceVersion": component["metadata"]["resourceVersion"]},
            "spec": {"metadata": metadata},
        }
        path = COMPONENTS.path(chosen.namespace, chosen.component)
        await self._client.request("PATCH", path, patch, content_type=MERGE)

    async def _count(self) -> None:
        while True:
            try:
                self._export_pending(await pending(self._settings.nats_url, self._topics))
                self._count_unread(await unread_dead_letters(self._settings.nats_url, self._topics))
            except StreamError as error:
                LOG.warning("what waits cannot be counted: %s", self._hidden(str(error)))
                self._export_pending({})  # an old count would be taken for the present one
                self._count_unread({})
            await asyncio.sleep(COUNT)

    def _export_pending(self, waiting: Mapping[tuple[str, str], int]) -> None:
        for key, many in waiting.items():
            PENDING.labels(*key).set(many)
        for removed in self._counted - waiting.keys():
            PENDING.remove(*removed)
        self._counted = {*waiting}

    def _count_unread(self, letters: Mapping[str, int]) -> None:
        UNREAD_LETTERS.clear()
        for topic, many in letters.items():
            UNREAD_LETTERS.labels(topic).set(many)

    async def _keep(self) -> None:
        while True:
            self._settings.ready.with_suffix(".alive").touch()
            with contextlib.suppress(TimeoutError):  # what somebody else has taken away is put back
                await asyncio.wait_for(self._changed.wait(), RESYNC)
            await asyncio.sleep(SETTLE)
            self._changed.clear()
            if len(self._listed) < 2:  # noqa: PLR2004 - half the truth would take rights away
                continue
            try:
                await self._once()
            except (ApiError, StreamError, QueueError) as error:
                LOG.warning("%s; again in %.0f s", self._hidden(str(error)), AGAIN)
                await asyncio.sleep(AGAIN)
                self._changed.set()

    async def _once(self) -> None:
        chosen = self._settings
        parsed = [
            parse_resource({"apiVersion": OWN[kind].group_version, "kind": kind, **item})
            for (kind, _), item in self._seen.items()
        ]
        whole = plan(Inventory((resource for resource, _ in parsed if resource), ()))
        allowed = rights(whole, chosen.component, chosen.granted)
        component = await self._client.get(COMPONENTS, chosen.namespace, chosen.component)
        if component is None:
            raise ApiError(0, f"there is no Component {chosen.component}")
        self._topics = topics(allowed, whole.channels.get(chosen.component, ()))
        if chosen.nats_url:  # first, or a sidecar would try to read what is not there
            await ensure_streams(chosen.nats_url, self._topics, component=component, replicas=chosen.replicas)
        self._watch_for(whole, component)
        if chosen.rabbitmq_url:
            await asyncio.to_thread(ensure_queues, chosen.rabbitmq_url, subscribed(whole, chosen.component))
        patch = scoped(component, allowed) if chosen.scopes else None
        if patch:
            path = COMPONENTS.path(chosen.namespace, chosen.component)
            await self._client.request("PATCH", path, patch, content_type=MERGE)
        LOG.info("%d apps have their rights%s", len(allowed), ", changed" if patch else "")
        chosen.ready.touch()

    def _watch_for(self, whole: Plan, component: Mapping[str, Any]) -> None:
        """Look after what is planned now; how long something has been unread stays known."""
        chosen, before = self._settings, self._broker
        kind = "nats" if chosen.nats_url else "rabbitmq"
        readers = subscribed(whole, chosen.component)
        self._broker = BrokerWatch(
            kind, chosen.nats_url or chosen.rabbitmq_url, self._topics, readers, component, chosen.replicas
        )
        if before is not None:
            self._broker.resume(before)

    def _hidden(self, text: str) -> str:
        """Leave out the address, which holds a password."""
        for name in ("nats_url", "rabbitmq_url"):
            if address := getattr(self._settings, name):
                text = text.replace(address, name.upper())
        return text


def _generation(item: Mapping[str, Any]) -> Any:
    return item["metadata"].get("generation")


def read(environment: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings: KEEPER_<FIELD>, NATS_URL, RABBITMQ_URL; KEEPER_GRANTED names a JSON file.

    Raises KeyError for a missing one.
    """
    return Settings(
        namespace=environment["KEEPER_NAMESPACE"],
        component=environment["KEEPER_COMPONENT"],
        granted=json.loads(Path(environment["KEEPER_GRANTED"]).read_text()),
        scopes=environment.get("KEEPER_SCOPES", "true") == "true",
        nats_url=environment.get("NATS_URL", ""),
        rabbitmq_url=environment.get("RABBITMQ_URL", ""),
        replicas=int(environment.get("KEEPER_REPLICAS", "1")),
        ready=Path(environment.get("KEEPER_READY", "/tmp/kept")),  # noqa: S108 - a pod's own volume
    )


async def run() -> None:
    """Keep the broker of one namespace."""
    with listener("", 0) as probe:  # in which family this pod listens
        everywhere = "::" if probe.family == socket.AF_INET6 else "0.0.0.0"  # noqa: S104 - Prometheus is elsewhere
    start_http_server(int(os.environ.get("KEEPER_PORT", "8080")), everywhere, registry=METRICS)
    async with Client(login) as client:
        await Keeper(client, read()).run()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    uvloop.run(run())
