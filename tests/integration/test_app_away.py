"""While an app is away its sidecar must keep every event, however many deliveries fail at once."""

from __future__ import annotations

import asyncio
import base64
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.conformance import event, poll, unique
from tests.support.brokers import values_of

from tidings.brokers.components import render
from tidings.brokers.jetstream import ensure_streams
from tidings.brokers.kafka import ensure_topics
from tidings.brokers.rabbitmq import ensure_queues
from tidings.dapr.client import DaprSidecar
from tidings.messages.envelope import new_id
from tidings_cli.testing.fixtures import Serve, StartDaprd
from tidings_plan import plan
from tidings_plan.resources import Inventory, parse_resource
from tidings_plan.resources.brokers import MOST_PARALLEL, parallel
from tidings_plan.resources.loading import add_components

pytestmark = [pytest.mark.real, pytest.mark.timeout(240)]
SETS = Path(__file__).parents[2] / "components"
TOPICS = 4  # several deliveries are under way at once on JetStream, too: one for each topic
EVENTS = 32
RETRIED = {
    "apiVersion": "dapr.io/v1alpha1",
    "kind": "Resiliency",
    "metadata": {"name": "impatient"},
    "spec": {
        "policies": {"retries": {"often": {"policy": "constant", "duration": "20ms", "maxRetries": 1_000_000}}},
        "targets": {
            "components": {
                name: {"inbound": {"retry": "often"}}
                for name in ("pubsub", *(f"pubsub-{number}" for number in range(1, MOST_PARALLEL)))
            }
        },
    },
}


@pytest.fixture(params=["nats", "redis", "rabbitmq", "kafka"])
def components(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    """Return the pub/sub components of each broker as they ship, with a broker of its own behind them."""
    address = request.getfixturevalue(request.param)
    [result] = render(SETS / request.param, values_of(request.param, address))
    return parallel(result)


class Reader:
    """An app that answers deliveries as the SDK does: each entry is named."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        answer = self.answer(json.loads(body)) if scope["path"].startswith("/events/") else []
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": json.dumps(answer).encode()})

    def answer(self, delivery: dict[str, Any]) -> dict[str, Any]:
        for entry in delivery["entries"]:
            self.seen[json.loads(base64.b64decode(entry["event"]))["id"]] += 1
        return {"statuses": [{"entryId": item["entryId"], "status": "SUCCESS"} for item in delivery["entries"]]}


def planned(app: str, topics: list[str], components: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the Dapr Subscriptions that the plan renders for an app that reads these topics from these components."""
    inventory = Inventory()
    add_components(inventory, components)
    for topic in topics:
        name = topic.removesuffix(".v1")
        meta = {"apiVersion": "tidings.dev/v1alpha1", "metadata": {"name": topic.lower()}}
        kind = {"type": name, "owner": {"team": "t"}, "producers": [app], "versions": [{"name": "v1", "schema": {}}]}
        requested = {"events": [{"type": name, "versions": ["v1"]}], "consumer": {"appId": app}}
        for item, spec in (("EventType", kind), ("EventSubscription", requested)):
            resource, findings = parse_resource({**meta, "kind": item, "spec": spec})
            assert resource is not None, findings
            inventory.put(resource)
    result = plan(inventory)
    assert not [finding for finding in result.findings if finding.severity == "error"]
    return [*result.apps[app].subscriptions]


async def test_no_event_is_acknowledged_that_the_app_has_not_answered(
    components: list[dict[str, Any]], daprd: StartDaprd, serve: Serve, request: pytest.FixtureRequest
) -> None:
    """With plain deliveries an official daprd acknowledged 31 of 32 events while the app was away for ten seconds."""
    app, app_id = Reader(), unique("reader").replace(".", "-")
    run = new_id()[-6:]
    topics = [f"shop.item{run}n{number}Sold.v1" for number in range(TOPICS)]
    subscriptions = planned(app_id, topics, components)
    if components[0]["spec"]["type"] == "pubsub.jetstream":
        everything = [subscription["spec"]["topic"] for subscription in subscriptions]
        await ensure_streams(request.getfixturevalue("nats"), [*everything, f"deadletter.{app_id}"])
    if components[0]["spec"]["type"] == "pubsub.rabbitmq":  # what is published before a queue exists is lost, by design
        url = request.getfixturevalue("rabbitmq")
        await asyncio.to_thread(ensure_queues, url, [(app_id, subscription) for subscription in subscriptions])
    if components[0]["spec"]["type"] == "pubsub.kafka":
        everything = [subscription["spec"]["topic"] for subscription in subscriptions]
        await asyncio.to_thread(ensure_topics, request.getfixturevalue("kafka"), [*everything, f"deadletter.{app_id}"])
    served = await serve(app)
    process = await daprd(app_id, resources=[*components, *subscriptions, RETRIED], app_port=served.port)
    sidecar = DaprSidecar(process.address)
    first = [f"first-{topic}" for topic in topics]
    await asyncio.gather(
        *(sidecar.publish(topic, event(id=item).encode()) for topic, item in zip(topics, first, strict=True))
    )
    await poll(lambda: app.seen.keys() >= set(first))  # every topic is subscribed to
    await served.stop()
    ids = {f"e-{number}": topics[number % TOPICS] for number in range(EVENTS)}
    await asyncio.gather(*(sidecar.publish(topic, event(id=item).encode()) for item, topic in ids.items()))
    await asyncio.sleep(5)  # what is tested is that nothing happens: there is no condition to wait for
    assert not app.seen.keys() & ids.keys()
    await served.start()
    await poll(lambda: app.seen.keys() >= ids.keys())
    await sidecar.close()
