"""The operator's peer: the same decisions and the same writes, on kopf's documented index + event + daemon pattern.

`@kopf.index` keeps types, subscriptions and children; `@kopf.on.event` notices a change; a `@kopf.daemon` for each
subscription, woken by it, decides. The plan core, the builders of children and statuses and the client are the
operator's own, so that what differs is the pattern alone. (kopf gives each object with a daemon a finalizer.)
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import kopf
import msgspec
import uvloop

from tidings_operator import children, metrics, server, statuses
from tidings_operator.children import SELECTOR, Live
from tidings_operator.client import CHILDREN, OWN, Client, Known
from tidings_operator.process import login
from tidings_operator.statuses import Outcome
from tidings_plan import plan_app
from tidings_plan.resources import EventSubscription, Inventory, parse_resource
from tidings_plan.resources.model import GROUP

VERSION = "v1alpha1"
OURS = dict([SELECTOR.split("=")])
App = tuple[str, str]

registry = kopf.OperatorRegistry()
alarms: defaultdict[App, dict[str, asyncio.Event]] = defaultdict(dict)
"""By app and subscription: wakes its daemon."""
waiting: set[App] = set()
"""Subscriptions whose daemon has something to do."""
client = Client(login)


def parsed(body: Any) -> Any:
    resource, _ = parse_resource(msgspec.json.decode(msgspec.json.encode(dict(body))))
    return resource


@kopf.index(GROUP, VERSION, "eventtypes", registry=registry)
def types(body: kopf.Body, namespace: Any, **_: Any) -> dict[App, Any]:
    return {(namespace, body["spec"]["type"]): parsed(body)}


@kopf.index(GROUP, VERSION, "eventsubscriptions", registry=registry)
def subscriptions_by_app(body: kopf.Body, namespace: Any, **_: Any) -> dict[App, Any]:
    return {(namespace, body["spec"]["consumer"]["appId"]): (parsed(body), body["metadata"]["uid"])}


def child(body: kopf.Body, **_: Any) -> dict[App, Live]:
    live = children.live(dict(body))
    return {(live.namespace, live.app): live}


for api in CHILDREN.values():
    *group, version = api.group_version.split("/")
    kopf.index("".join(group), version, api.plural, id="child", labels=OURS, registry=registry)(child)


@kopf.on.event(GROUP, VERSION, "eventsubscriptions", registry=registry)
async def noticed(event: kopf.RawEvent, namespace: Any, spec: kopf.Spec, **_: Any) -> None:
    metadata: Any = event["object"]["metadata"]
    status: Any = event["object"].get("status") or {}
    if event["type"] == "DELETED" or status.get("observedGeneration") != metadata["generation"]:
        for name, alarm in alarms[namespace, spec["consumer"]["appId"]].items():
            waiting.add((namespace, name))
            alarm.set()


@kopf.daemon(GROUP, VERSION, "eventsubscriptions", cancellation_timeout=1.0, registry=registry)
async def keep(namespace: Any, name: str, body: kopf.Body, stopped: kopf.DaemonStopped, **indices: Any) -> None:
    app = (namespace, body["spec"]["consumer"]["appId"])
    alarm = alarms[app][name] = asyncio.Event()
    waiting.add((namespace, name))
    while not stopped:
        started = time.perf_counter()
        alarm.clear()
        await settle(app, name, body, indices)
        metrics.RECONCILE.labels("app").observe(time.perf_counter() - started)
        if not alarm.is_set():
            waiting.discard((namespace, name))
        await alarm.wait()


async def settle(app: App, name: str, body: kopf.Body, indices: dict[str, Any]) -> None:
    """Reconcile an app: its first subscription writes the children, and each subscription its own status."""
    entries = list(indices["subscriptions_by_app"].get(app, ()))
    subscriptions: list[EventSubscription] = [subscription for subscription, _ in entries]
    inventory = Inventory([*subscriptions, *types_of(subscriptions, indices["types"])])
    now = datetime.now(UTC)
    planned = plan_app(app, inventory, now.date())
    uids = {subscription.metadata.name: uid for subscription, uid in entries}
    desired = children.build(planned, subscriptions, uids)
    if inventory.of_app(app)[0].metadata.name == name:
        present = {live.name: live for live in indices["child"].get(app, ())}
        for step in children.steps(desired, present, {}, lambda _: True):
            if step.desired:
                await client.apply(step.desired.manifest)
                metrics.WRITES.labels(step.name.kind, step.action).inc()
    this = inventory.subscriptions[app[0], name]
    before = dict(body.get("status") or {})
    status = statuses.subscription(this, Outcome(planned, desired), inventory, before, f"{now:%Y-%m-%dT%H:%M:%SZ}")
    if spelled(status) != spelled(before):
        metadata: Any = body["metadata"]
        known = Known(app[0], name, uids[name], metadata["generation"], int(metadata["resourceVersion"]))
        await client.write_status(OWN["EventSubscription"], known, status)
        metrics.WRITES.labels("EventSubscription", "status").inc()


def types_of(subscriptions: list[EventSubscription], index: kopf.Index[App, Any]) -> Iterator[Any]:
    for subscription in subscriptions:
        for events in subscription.spec.events:
            yield from index.get((subscription.metadata.namespace, events.name), ())


def spelled(status: Any) -> bytes:
    return msgspec.json.encode(status, order="deterministic")


async def ready() -> None:
    """Set the synced metric once every subscription has its daemon."""
    while await client.count(OWN["EventSubscription"]) > sum(map(len, alarms.values())):  # noqa: ASYNC110 - it is asked
        await asyncio.sleep(0.5)
    metrics.SYNCED.set(1)


async def main() -> None:
    logging.basicConfig(level=logging.ERROR)
    metrics.QUEUE.set_function(lambda: len(waiting))
    kopf.on.login(registry=registry)(lambda **_: login())
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    async with client:
        app = server.application(lambda: "", lambda: "")
        runner, _ = await server.serve(app, "127.0.0.1", int(os.environ["TIDINGS_OPERATOR_PORT"]))
        readiness = asyncio.create_task(ready())
        try:
            await kopf.operator(registry=registry, settings=settings, standalone=True, clusterwide=True)
        finally:
            readiness.cancel()
            await runner.cleanup()


if __name__ == "__main__":
    uvloop.run(main())
