"""JetStream brings one event of a topic at a time for each component: as many as maxConcurrency says share a topic."""

from __future__ import annotations

import asyncio
import base64
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.conformance import event, poll, unique

from tidings.brokers.components import render
from tidings.brokers.jetstream import ensure_streams, pending, stream_name
from tidings.dapr.client import DaprSidecar
from tidings.messages.envelope import new_id
from tidings_cli.testing.fixtures import Serve, StartDaprd
from tidings_plan import AppPlan, plan
from tidings_plan.resources import Inventory, parse_resource
from tidings_plan.resources.brokers import parallel
from tidings_plan.resources.loading import add_components

pytestmark = [pytest.mark.real, pytest.mark.timeout(240)]
SETS = Path(__file__).parents[2] / "components"
AT_ONCE = 4


class Reader:
    """An app that answers deliveries as the SDK does, once it may."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self.under_way = 0
        self.most = 0
        self.may_answer = asyncio.Event()
        self.dies = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        answer = await self.answer(json.loads(body)) if scope["path"].startswith("/events/") else []
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": json.dumps(answer).encode()})

    async def answer(self, delivery: dict[str, Any]) -> dict[str, Any]:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await self.may_answer.wait()
        finally:
            self.under_way -= 1
        if self.dies:
            raise ConnectionAbortedError("the app is killed before it has answered")
        self.seen.update(json.loads(base64.b64decode(entry["event"]))["id"] for entry in delivery["entries"])
        return {"statuses": [{"entryId": entry["entryId"], "status": "SUCCESS"} for entry in delivery["entries"]]}


def planned(app: str, components: list[dict[str, Any]], **manifest: Any) -> AppPlan:
    """Return the plan of an app that reads one topic."""
    meta = {"apiVersion": "tidings.dev/v1alpha1", "metadata": {"name": "sold"}}
    kind = {"type": "shop.sold", "owner": {"team": "t"}, "producers": [app], "versions": [{"name": "v1", "schema": {}}]}
    events = [{"type": "shop.sold", "versions": ["v1"]}]
    reads = {"events": events, "consumer": {"appId": app}, **manifest}
    specs = (("EventType", kind), ("EventSubscription", reads))
    parsed = [parse_resource({**meta, "kind": item, "spec": spec})[0] for item, spec in specs]
    inventory = Inventory(item for item in parsed if item)
    add_components(inventory, components)
    result = plan(inventory)
    assert not [finding for finding in result.findings if finding.severity == "error"]
    return result.apps[app]


def topics(actual: AppPlan) -> set[str]:
    """Return the topics that the app reads or publishes to."""
    return {topic for used in (actual.reads, actual.publishes) for names in used.values() for topic in names}


def loaded(components: list[dict[str, Any]], actual: AppPlan) -> list[dict[str, Any]]:
    """Return the components that the app's sidecar loads."""
    assert actual.resiliency
    return [*components, *actual.subscriptions, actual.resiliency]


@pytest.fixture
async def components(nats: str) -> list[dict[str, Any]]:
    """Return the shipped components, with quicker redelivery of what was in flight when a sidecar was killed."""
    result = [item for document in render(SETS / "nats", {"NATS_URL": nats}) for item in parallel(document)]
    for entry in result:
        for setting in entry["spec"]["metadata"]:
            if setting["name"] == "ackWait":
                setting["value"] = "3s"
    return result


async def test_as_many_events_are_under_way_as_were_asked_for_and_a_killed_sidecar_loses_none(
    components: list[dict[str, Any]], nats: str, daprd: StartDaprd, serve: Serve
) -> None:
    app, app_id = Reader(), unique("reader").replace(".", "-")
    topic = f"shop.sold{new_id()[-6:]}.v1"
    result = planned(app_id, components, maxConcurrency=AT_ONCE, source={"topic": topic})
    await ensure_streams(nats, topics(result))
    served = await serve(app)
    resources = loaded(components, result)
    process = await daprd(app_id, resources=resources, app_port=served.port)
    sidecar = DaprSidecar(process.address)
    ids = [f"e-{number}" for number in range(40)]
    for item in ids:
        await sidecar.publish(topic, event(id=item).encode())
    await poll(lambda: app.under_way == AT_ONCE)
    await sidecar.close()
    process.kill()
    app.dies = True  # what is under way ends unanswered: nobody would hear the answer
    app.may_answer.set()
    await poll(lambda: app.under_way == 0)
    app.dies = False
    assert not app.seen
    await daprd(app_id, resources=resources, app_port=served.port)
    await poll(lambda: app.seen.keys() >= set(ids))
    assert app.most == AT_ONCE

    async def left() -> int:
        return (await pending(nats, [topic])).get((stream_name(topic), app_id), -1)

    while await left():  # noqa: ASYNC110 - NATS is asked; the test's own time limit ends it
        await asyncio.sleep(0.1)


async def test_an_app_killed_with_several_events_in_flight_receives_all_of_them_again(
    components: list[dict[str, Any]], nats: str, daprd: StartDaprd, serve: Serve
) -> None:
    app, app_id = Reader(), unique("reader").replace(".", "-")
    topic = f"shop.sold{new_id()[-6:]}.v1"
    result = planned(app_id, components, maxConcurrency=AT_ONCE, source={"topic": topic})
    await ensure_streams(nats, topics(result))
    served = await serve(app)
    process = await daprd(app_id, resources=loaded(components, result), app_port=served.port)
    sidecar = DaprSidecar(process.address)
    ids = [f"e-{number}" for number in range(40)]
    for item in ids:
        await sidecar.publish(topic, event(id=item).encode())
    await poll(lambda: app.under_way == AT_ONCE)
    app.dies = True
    app.may_answer.set()
    await served.stop()
    assert not app.seen
    app.dies = False
    await served.start()
    await poll(lambda: app.seen.keys() >= set(ids))
    await sidecar.close()
