"""The topology controller of a system's broker: streams and rights follow its EventTypes and EventSubscriptions.

A sidecar can use a topic only if JetStream has a stream for it and the pub/sub component's scopes allow it. RabbitMQ
keeps events that are published before an app first subscribes only if its queue exists. All of this follows from the
plan, so that new consumers need no manual steps. Sidecars apply a changed component without a restart: they close and
reopen it within some 10 ms.

It runs in the system's namespace (`python -m tidings_operator.topology`, charts/pizza), with permission to read both
kinds and to patch one Component; the operator itself needs no broker passwords. Its port serves the number of messages
that wait in JetStream for each consumer (`METRICS`), which a stopped service cannot report.

It plans in forks of this process, each with a limit on CPU time and memory (`judging`). An app that a first, short
attempt cannot plan keeps its rights, and the others get theirs. If a longer attempt fails, too, it keeps them until one
of the next attempts succeeds; the operator reports the subscription that is the reason.
"""

import asyncio
import json
import logging
import os
import socket
import time
import traceback
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import uvloop
from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from tidings.brokers.jetstream import StreamError
from tidings.brokers.kafka import DEFAULT_PARTITIONS, Address, TopicError
from tidings.brokers.rabbitmq import QueueError
from tidings.brokers.redis import GroupError
from tidings.brokers.watch import REFUSED, BrokerWatch
from tidings_operator import reading
from tidings_operator.client import COMPONENTS, OWN, Api, ApiError, Client
from tidings_operator.judging import QUICK, THOROUGH, Judge
from tidings_operator.planning import gathered, plan_apps
from tidings_operator.process import login
from tidings_operator.server import listener
from tidings_operator.watching import watch
from tidings_plan import AppPlan, Scopes, cel
from tidings_plan.channels import published
from tidings_plan.resources import EventType, Inventory, Key
from tidings_plan.resources.brokers import MOST_PARALLEL
from tidings_plan.types import grants

LOG = logging.getLogger(__name__)
MERGE = "application/merge-patch+json"
SETTLE = 0.3
"""Seconds to wait after a change, because `kubectl apply -f folder/` causes many."""
AGAIN, RESYNC = 2.0, 300.0
"""Seconds until the next try, and until everything is looked at again although nothing has changed."""
COUNT = 15.0
"""Seconds between counts of waiting messages."""
METRICS = CollectorRegistry()
PENDING = Gauge(
    "tidings_broker_pending",
    "Messages of a stream or topic that a consumer has not acknowledged yet (on RabbitMQ: not received yet)",
    ["stream", "consumer"],
    registry=METRICS,
)
LAG = Gauge("tidings_broker_lag", "Events that wait at the broker for an app of the plan", ["app"], registry=METRICS)
LOSSES = Counter(
    "tidings_broker_losses",
    "Streams, topics and queues that were deleted, or shortened before all was handled; the log names them",
    registry=METRICS,
)
UNREAD = Gauge(
    "tidings_broker_unread",
    "Consumers that no sidecar reads from: its app is away, or it must subscribe anew",
    registry=METRICS,
)
UNREAD_LETTERS = Gauge(
    "tidings_broker_dead_letters_unread",
    "Dead letters of a topic that no app has read: no list shows them, and the broker drops them with its retention",
    ["topic"],
    registry=METRICS,
)
FAILURES = Counter(
    "tidings_topology_failures", "Attempts that an error ended that nobody expects; see the log", registry=METRICS
)
REPAIRS = Counter("tidings_broker_repairs", "Times that sidecars were made to subscribe anew", registry=METRICS)
REOPENED = "tidingsReopened"
"""Setting of the component that Dapr ignores: sidecars reopen a component when any setting changes."""
RIGHTS = ("publish", "subscribe")

Rights = dict[str, dict[str, list[str]]]
"""By app: topics that it may `publish` and `subscribe` to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Settings of the controller."""

    namespace: str
    component: str
    granted: Rights
    """Additional rights, granted by the chart."""
    scopes: bool
    """True if the controller manages the component's scopes."""
    nats_url: str
    """URL of NATS; empty for other brokers, or if streams are managed elsewhere."""
    rabbitmq_url: str = ""
    """URL of RabbitMQ; empty for other brokers, or if queues are managed elsewhere."""
    kafka_url: str = ""
    """Address of Kafka; empty for other brokers, or if topics are managed elsewhere."""
    redis_url: str = ""
    """URL of Redis, where nothing is created; empty for other brokers."""
    partitions: int = DEFAULT_PARTITIONS
    """Number of partitions of created Kafka topics."""
    replicas: int
    ready: Path
    """File that is created once everything is reconciled; the one with the suffix `.alive` is touched by each check."""

    @property
    def kind(self) -> str:
        """Kind of the managed broker."""
        if self.redis_url:
            return "redis"
        return "nats" if self.nats_url else "kafka" if self.kafka_url else "rabbitmq"

    @property
    def address(self) -> str:
        """URL of the managed broker; empty for others."""
        return self.nats_url or self.rabbitmq_url or self.kafka_url or self.redis_url


def rights(apps: Iterable[AppPlan], component: str, *granted: Rights) -> Rights:
    """Return the rights of every app: those of the plan, and additionally granted ones."""
    by_app: dict[str, dict[str, set[str]]] = defaultdict(lambda: {what: set() for what in RIGHTS})
    for app, own in (entry for additional in granted for entry in additional.items()):
        for what in RIGHTS:
            by_app[app][what].update(own.get(what, ()))
    for planned in apps:
        by_app[planned.app]["publish"].update(planned.publishes.get(component, ()))
        by_app[planned.app]["subscribe"].update(planned.reads.get(component, ()))
    return {app: {what: sorted(own[what]) for what in RIGHTS} for app, own in sorted(by_app.items())}


def present(component: Mapping[str, Any], apps: Iterable[str]) -> Rights:
    """Return the current rights of some apps in a component."""
    result: Rights = defaultdict(lambda: {what: [] for what in RIGHTS})
    values = {item["name"]: str(item.get("value", "")) for item in component["spec"].get("metadata") or ()}
    for what, name in zip(RIGHTS, ("publishingScopes", "subscriptionScopes"), strict=True):
        for app, _, names in (part.partition("=") for part in values.get(name, "").split(";")):
            result[app][what] = [topic for topic in names.split(",") if topic]
    return {app: result[app] for app in apps if app in result}


def scoped(component: Mapping[str, Any], allowed: Rights) -> dict[str, Any] | None:
    """Return the patch that gives a component these rights, or None if it has them."""
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
    """Return all topics that need a stream."""
    return {topic for own in allowed.values() for names in own.values() for topic in names} | set(more)


def type_topics(event_type: EventType, inventory: Inventory, component: str) -> list[str]:
    """Return the topics of a type on a component; none for a type with an error."""
    channels = published(event_type) if grants(event_type, inventory) else ()
    return [channel.topic for channel in channels if channel.pubsub == component]


def subscribed(apps: Iterable[AppPlan], component: str) -> list[tuple[str, dict[str, Any]]]:
    """Return all Dapr Subscriptions to a component, with their apps."""
    return [
        (planned.app, subscription)
        for planned in apps
        for subscription in planned.subscriptions
        if subscription["spec"]["pubsubname"] == component
    ]


class TopologyController:
    """Watches both kinds (a `watching.Sink`) and reconciles the broker."""

    def __init__(self, client: Client, settings: Settings) -> None:
        self._client = client
        self._settings = settings
        self._judge = Judge()
        self._seen: dict[Key, Any] = {}
        self._read: dict[Key, tuple[Any, reading.Read]] = {}
        self._listed: set[str] = set()
        self._changed = asyncio.Event()
        self._topics: set[str] = set()
        self._counted: set[tuple[str, str]] = set()
        self._broker: BrokerWatch | None = None

    def listed(self, api: Api, _namespace: str, items: list[Any]) -> None:
        """Replace all objects of a kind."""
        self._seen = {key: item for key, item in self._seen.items() if key[0] != api.kind}
        self._seen |= {(api.kind, item["metadata"]["name"]): item for item in items}
        self._listed.add(api.kind)
        self._changed.set()

    def changed(self, api: Api, change: str, item: Any) -> None:
        """Handle a change; status changes are ignored."""
        key = (api.kind, item["metadata"]["name"])
        before = self._seen.pop(key, None)
        if change != "DELETED":
            self._seen[key] = item
        if change == "DELETED" or not before or _generation(before) != _generation(item):
            self._changed.set()

    async def run(self) -> None:
        """Reconcile until cancelled."""
        cel.check("event.type == 'warm'")  # once here instead of once in each fork
        async with asyncio.TaskGroup() as group:
            for kind in ("EventType", "EventSubscription"):
                group.create_task(watch(self._client, OWN[kind], self._settings.namespace, "", self, lambda _: None))
            group.create_task(self._keep())
            if self._settings.address:
                group.create_task(self._count())
                group.create_task(self._watch())

    async def _watch(self) -> None:
        """Recreate lost streams and queues, and make sidecars resubscribe where nothing is read."""
        while True:
            await asyncio.sleep(COUNT)
            if self._broker is None:  # nothing is planned yet
                continue
            await self._guarded("the broker cannot be looked after", partial(self._look, self._broker))

    async def _look(self, watch: BrokerWatch) -> None:
        state = await watch.look()
        LOSSES.inc(len(state.lost) + len(state.gaps))
        UNREAD.set(len(state.unread))
        if state.problem:
            LOG.warning("the broker: %s", state.problem)
        apps = watch.to_reopen(state)
        # daprd itself consumes RabbitMQ's queues again once they exist.
        if apps and watch.kind in {"nats", "kafka"}:
            await self._reopen()
            REPAIRS.inc()
            LOG.warning("sidecars subscribe anew, because nothing was read for %s", ", ".join(sorted(apps)))

    async def _reopen(self) -> None:
        chosen = self._settings
        for component in await self._components():
            rest = [item for item in component["spec"].get("metadata") or () if item["name"] != REOPENED]
            metadata = [*rest, {"name": REOPENED, "value": str(time.time_ns())}]
            patch = {
                "metadata": {"resourceVersion": component["metadata"]["resourceVersion"]},
                "spec": {"metadata": metadata},
            }
            path = COMPONENTS.path(chosen.namespace, component["metadata"]["name"])
            await self._client.request("PATCH", path, patch, content_type=MERGE)

    async def _components(self) -> list[Mapping[str, Any]]:
        """Return the component, and those that deliver in parallel with it (`pubsub-1`, `pubsub-2` …).

        Raises:
            ApiError: The component does not exist.

        """
        chosen = self._settings
        component = await self._client.get(COMPONENTS, chosen.namespace, chosen.component)
        if component is None:
            raise ApiError(0, f"there is no Component {chosen.component}")
        components: list[Mapping[str, Any]] = [component]
        while len(components) < MOST_PARALLEL:
            following = await self._client.get(COMPONENTS, chosen.namespace, f"{chosen.component}-{len(components)}")
            if following is None:
                break
            components.append(following)
        return components

    async def _count(self) -> None:
        while True:
            if not await self._guarded("what waits cannot be counted", self._count_waiting):
                self._export_pending({})  # an outdated count would be misleading
                LAG.clear()
                self._count_unread({})
            await asyncio.sleep(COUNT)

    async def _count_waiting(self) -> None:
        if self._broker is None:  # nothing is planned yet
            return
        pending = await self._broker.pending()
        self._export_pending(pending)
        self._export_lag(self._broker.lag(pending), {app for app, _ in self._broker.readers})
        self._count_unread(await self._broker.unread_dead_letters(pending))

    async def _guarded(self, what: str, work: Callable[[], Awaitable[None]]) -> bool:
        """Return True if work succeeds; exceptions are logged."""
        try:
            await work()
        except (ApiError, StreamError, QueueError, TopicError, GroupError) as error:
            LOG.warning("%s: %s", what, self._hidden(str(error)))
            return False
        except Exception as error:  # noqa: BLE001 - one resource may be the cause, which must not affect others
            FAILURES.inc()
            LOG.error("%s: %s", what, self._hidden("".join(traceback.format_exception(error))))
            return False
        return True

    def _export_pending(self, waiting: Mapping[tuple[str, str], int]) -> None:
        for key, many in waiting.items():
            PENDING.labels(*key).set(many)
        for removed in self._counted - waiting.keys():
            PENDING.remove(*removed)
        self._counted = {*waiting}

    def _export_lag(self, lag: Mapping[str, int], apps: Iterable[str]) -> None:
        LAG.clear()
        for app in apps:
            LAG.labels(app).set(lag.get(app, 0))

    def _count_unread(self, letters: Mapping[str, int]) -> None:
        UNREAD_LETTERS.clear()
        for topic, many in letters.items():
            UNREAD_LETTERS.labels(topic).set(many)

    async def _keep(self) -> None:
        while True:
            self._settings.ready.with_suffix(".alive").touch()
            with suppress(TimeoutError):  # restores removed rights, and plans again what could not be planned
                await asyncio.wait_for(self._changed.wait(), RESYNC)
            await asyncio.sleep(SETTLE)
            self._changed.clear()
            if len(self._listed) < 2:  # noqa: PLR2004 - a partial view would remove rights
                continue
            if not await self._guarded("topics and rights cannot be kept", self._reconcile):
                await asyncio.sleep(AGAIN)
                self._changed.set()

    async def _reconcile(self) -> None:
        inventory, today = await self._inventory(), datetime.now(UTC).date()
        apps, undecided = await plan_apps(inventory.apps, inventory, self._judge, today, QUICK)
        channels = await self._channels(inventory)
        await self._enforce([*apps.values()], channels, undecided)
        plans = {**apps}
        for app in sorted(undecided):
            self._settings.ready.with_suffix(".alive").touch()
            longer, failed = await plan_apps([app], inventory, self._judge, today, THOROUGH)
            plans |= longer
            if failed:
                LOG.error("%s cannot be planned within the limits: it keeps its rights", app[1])
            if self._changed.is_set():
                return  # changes go first
        if plans.keys() != apps.keys():
            await self._enforce([*plans.values()], channels, undecided - plans.keys())

    async def _inventory(self) -> Inventory:
        """Return the inventory without resources that cannot be read."""
        self._read = {key: read for key, read in self._read.items() if key in self._seen}
        for (kind, name), item in [*self._seen.items()]:
            known = self._read.get((kind, name))
            if known is None or known[0] != _generation(item):
                body = {"apiVersion": OWN[kind].group_version, "kind": kind, **item}
                self._read[kind, name] = _generation(item), await reading.read(body, self._judge)
        return Inventory([resource for _, (resource, _) in self._read.values() if resource], ())

    async def _channels(self, inventory: Inventory) -> set[str]:
        """Return the topics of all types except those that cannot be evaluated."""
        component = self._settings.component
        work = {key: partial(type_topics, this, inventory, component) for key, this in inventory.types.items()}
        plans, failed = await gathered(self._judge, work, QUICK)
        if failed:
            longer, failed = await gathered(self._judge, {key: work[key] for key in failed}, THOROUGH)
            plans |= longer
        for _, name in sorted(failed):
            LOG.error("EventType %s cannot be planned within the limits: its topics are not created", name)
        return {topic for topics in plans.values() for topic in topics}

    async def _enforce(self, apps: list[AppPlan], channels: set[str], undecided: set[Key]) -> None:
        """Create missing topics and set the apps' rights; undecided apps keep theirs."""
        chosen = self._settings
        components = await self._components()
        component = components[0]
        # A right too few ends a sidecar: it reloads the component, and may not read what it has a Subscription to.
        allowed = rights(apps, chosen.component, chosen.granted, present(component, (name for _, name in undecided)))
        self._topics = topics(allowed, channels)
        broker = BrokerWatch(
            chosen.kind,
            chosen.address,
            self._topics,
            subscribed(apps, chosen.component),
            component,
            chosen.replicas,
            partitions=chosen.partitions,
        )
        try:
            if chosen.address:  # before the rights, because sidecars subscribe as soon as they may
                await broker.ensure()
        except REFUSED as error:  # those topics do not work, and the others need their rights
            LOG.error("%s", self._hidden(str(error)))
        if self._broker is not None:
            broker.resume(self._broker)
        self._broker = broker  # not before: what has yet to be created would count as lost
        changed = 0
        for item in components if chosen.scopes else ():
            if patch := scoped(item, allowed):
                path = COMPONENTS.path(chosen.namespace, item["metadata"]["name"])
                await self._client.request("PATCH", path, patch, content_type=MERGE)
                changed += 1
        LOG.info("%d apps have their rights%s", len(allowed), ", changed" if changed else "")
        chosen.ready.touch()

    def _hidden(self, text: str) -> str:
        """Remove the broker's address, which may hold a password."""
        for name in ("nats_url", "rabbitmq_url", "kafka_url", "redis_url"):
            if address := getattr(self._settings, name):
                text = text.replace(address, name.upper())
        return text


def _generation(item: Mapping[str, Any]) -> Any:
    return item["metadata"].get("uid"), item["metadata"].get("generation")


def read(environment: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings: TOPOLOGY_<FIELD>, NATS_URL, RABBITMQ_URL, KAFKA_*, REDIS_*.

    TOPOLOGY_GRANTED names a JSON file.

    Raises KeyError for a missing one.
    """
    host, password = environment.get("REDIS_HOST", ""), environment.get("REDIS_PASSWORD", "")
    brokers, tls = environment.get("KAFKA_BROKERS", ""), environment.get("KAFKA_DISABLE_TLS", "true") == "false"
    address = Address(brokers, environment.get("KAFKA_USER", ""), environment.get("KAFKA_PASSWORD", ""), tls)
    return Settings(
        namespace=environment["TOPOLOGY_NAMESPACE"],
        component=environment["TOPOLOGY_COMPONENT"],
        granted=json.loads(Path(environment["TOPOLOGY_GRANTED"]).read_text()),
        scopes=environment.get("TOPOLOGY_SCOPES", "true") == "true",
        nats_url=environment.get("NATS_URL", ""),
        rabbitmq_url=environment.get("RABBITMQ_URL", ""),
        kafka_url=address.url if brokers else "",
        redis_url=f"redis://:{quote(password, safe='')}@{host}" if host else "",
        partitions=int(environment.get("TOPOLOGY_PARTITIONS", DEFAULT_PARTITIONS)),
        replicas=int(environment.get("TOPOLOGY_REPLICAS", "1")),
        ready=Path(environment.get("TOPOLOGY_READY", "/tmp/topology-ready")),  # noqa: S108 - a pod's own volume
    )


async def run() -> None:
    """Reconcile the broker of one namespace."""
    with listener("", 0) as probe:  # address families of this pod
        everywhere = "::" if probe.family == socket.AF_INET6 else "0.0.0.0"  # noqa: S104 - Prometheus is elsewhere
    start_http_server(int(os.environ.get("TOPOLOGY_PORT", "8080")), everywhere, registry=METRICS)
    async with Client(login) as client:
        await TopologyController(client, read()).run()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    uvloop.run(run())
