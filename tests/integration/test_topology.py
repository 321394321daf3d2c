"""The topology controller of a broker's streams and rights: what it decides, and that it acts on what it sees."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import nats
import pika  # type: ignore[import-untyped]  # it has no types
import pytest
import yaml
from charts.sync import planned
from tests.support.charts import VALUE_SETS, of_kind, rendered

from tidings.brokers.jetstream import stream_name
from tidings.brokers.rabbitmq import queue_name
from tidings_cli.testing.programs import Ports, nats_server
from tidings_operator.client import OWN
from tidings_operator.topology import METRICS, Settings, TopologyController, read, rights, scoped, subscribed, topics
from tidings_plan import plan
from tidings_plan.resources import contracts_folders, load

pytestmark = pytest.mark.real
ROOT = Path(__file__).parents[2]
WHOLE = plan(load(contracts_folders(ROOT)))
GRANTED = planned(WHOLE)["apps"]
NEWCOMER: dict[str, Any] = {
    "apiVersion": "tidings.dev/v1alpha1",
    "kind": "EventSubscription",
    "metadata": {"name": "fraud-order-placed", "namespace": "pizza", "generation": 1},
    "spec": {
        "events": [{"type": "orders.orderPlaced", "versions": ["v1"]}],
        "consumer": {"appId": "fraud"},
    },
}


def component() -> dict[str, Any]:
    """Return the chart's component as the API server returns it."""
    result = deepcopy(of_kind(rendered("pizza"), "Component")["pubsub"])
    return {**result, "metadata": {**result["metadata"], "resourceVersion": "7"}}


def test_the_charts_component_needs_no_patch_for_the_charts_contracts() -> None:
    assert scoped(component(), rights(WHOLE.apps.values(), "pubsub", GRANTED)) is None
    assert rights(WHOLE.apps.values(), "pubsub", {}) == GRANTED


def test_rights_that_were_granted_beyond_the_plan_stay() -> None:
    result = rights(WHOLE.apps.values(), "pubsub", {"fraud": {"subscribe": ["orders.orderPlaced.v1"]}})
    assert result["fraud"] == {"publish": [], "subscribe": ["orders.orderPlaced.v1"]}
    assert result.keys() == {*GRANTED, "fraud"}


@pytest.mark.parametrize("spoilt", ["scopes", "subscriptionScopes", "both"])
def test_removed_rights_are_restored(spoilt: str) -> None:
    live = component()
    if spoilt != "subscriptionScopes":
        del live["scopes"]
    if spoilt != "scopes":
        live["spec"]["metadata"] = [item for item in live["spec"]["metadata"] if item["name"] != "subscriptionScopes"]
    patch = scoped(live, GRANTED)
    assert patch is not None
    assert patch["metadata"] == {"resourceVersion": "7"}, "or it could undo what is newer"
    assert {**live, "spec": {**live["spec"], **patch["spec"]}, "scopes": patch["scopes"]} == component()


class Server:
    """Two Components that share a consumer, and what was written to them."""

    def __init__(self) -> None:
        self.components = {name: _named(name) for name in ("pubsub", "pubsub-1")}
        self.written = asyncio.Event()

    @property
    def live(self) -> dict[str, Any]:
        return self.components["pubsub"]

    async def get(self, _api: object, _namespace: str, name: str) -> dict[str, Any] | None:
        return self.components.get(name)

    async def request(self, _method: str, path: str, patch: Mapping[str, Any], **_: object) -> None:
        name = path.rpartition("/")[2]
        before = self.components[name]
        scopes = {"scopes": patch["scopes"]} if "scopes" in patch else {}
        self.components[name] = {**before, **scopes, "spec": {**before["spec"], **patch["spec"]}}
        rights = [{**item, "metadata": {**item["metadata"], "name": ""}} for item in self.components.values()]
        if all(right == rights[0] for right in rights):
            self.written.set()


def _named(name: str) -> dict[str, Any]:
    result = component()
    return {**result, "metadata": {**result["metadata"], "name": name}}


def manifests(kind: str) -> list[dict[str, Any]]:
    """Return the charts' contracts of a kind, as a list of the API server has them."""
    paths = [
        document
        for file in sorted((ROOT / "charts").glob("*/files/contracts/*.yaml"))
        for document in yaml.safe_load_all(file.read_text())
    ]
    added = {"namespace": "pizza", "generation": 1}
    return [{"metadata": {**item["metadata"], **added}, "spec": item["spec"]} for item in paths if item["kind"] == kind]


async def until_exists(file: Path) -> None:
    async with asyncio.timeout(60):
        while not file.exists():  # noqa: ASYNC110, ASYNC240 - a file tells nobody
            await asyncio.sleep(0.05)


async def test_a_newcomer_gets_streams_and_rights_and_loses_the_rights_when_it_goes(tmp_path: Path) -> None:
    with Ports() as ports, nats_server(tmp_path, ports.take()) as url:
        server, subscriptions = Server(), OWN["EventSubscription"]
        settings = Settings(
            namespace="pizza",
            component="pubsub",
            granted={},
            scopes=True,
            nats_url=url,
            replicas=1,
            ready=tmp_path / "ready",
        )
        controller = TopologyController(server, settings)  # type: ignore[arg-type] # it asks for no more than these two
        keeping = asyncio.create_task(controller._keep())
        controller.listed(subscriptions, "", manifests("EventSubscription"))
        await until_exists(settings.ready.with_suffix(".alive"))
        await asyncio.sleep(0.6)
        assert not settings.ready.exists(), "without the types, that is half the truth"
        controller.listed(OWN["EventType"], "", manifests("EventType"))
        await until_exists(settings.ready)
        assert not server.written.is_set()
        controller.changed(subscriptions, "ADDED", NEWCOMER)
        await server.written.wait()
        assert "fraud" in server.live["scopes"]
        client = await nats.connect(url)
        made = {item.config.name for item in await client.jetstream().streams_info()}
        await client.close()
        assert {stream_name(topic) for topic in ("deadletter.fraud", "replay.fraud", *WHOLE.topics)} <= made
        server.written.clear()
        controller.changed(subscriptions, "MODIFIED", {**NEWCOMER, "status": {"conditions": []}})  # the operator's word
        controller.changed(subscriptions, "DELETED", NEWCOMER)
        await server.written.wait()
        assert server.live == component()
        keeping.cancel()


async def test_events_published_before_their_reader_first_subscribed_wait_in_rabbitmq(
    tmp_path: Path, rabbitmq: str
) -> None:
    settings = Settings(
        namespace="pizza",
        component="pubsub",
        granted={},
        scopes=False,
        nats_url="",
        replicas=1,
        ready=tmp_path / "ready",
        rabbitmq_url=rabbitmq,
    )
    controller = TopologyController(Server(), settings)  # type: ignore[arg-type] # it asks for no more than these two
    keeping = asyncio.create_task(controller._keep())
    for kind in ("EventType", "EventSubscription"):
        controller.listed(OWN[kind], "", manifests(kind))
    await until_exists(settings.ready)
    keeping.cancel()
    connection = pika.BlockingConnection(pika.URLParameters(rabbitmq))
    channel = connection.channel()
    channel.confirm_delivery()
    channel.basic_publish("orders.orderConfirmed.v2", "", b"{}")
    counts = {
        (app, topic): channel.queue_declare(queue_name(app, topic), passive=True).method.message_count
        for app, item in subscribed(WHOLE.apps.values(), "pubsub")
        for topic in [str(item["spec"]["topic"])]
    }
    connection.close()
    assert counts["kitchen", "orders.orderConfirmed.v2"] == 1
    assert {("archive", "deadletter.kitchen"), ("kitchen", "replay.kitchen")} <= counts.keys()


def test_what_waits_is_reported_as_long_as_it_is_counted(tmp_path: Path) -> None:
    settings = Settings(
        namespace="", component="", granted={}, scopes=False, nats_url="", replicas=1, ready=tmp_path / "ready"
    )
    controller = TopologyController(Server(), settings)  # type: ignore[arg-type] # it asks nothing here

    def published(consumer: str) -> float | None:
        return METRICS.get_sample_value("tidings_broker_pending", {"stream": "a_b", "consumer": consumer})

    controller._export_pending({("a_b", "x"): 3, ("a_b", "y"): 0})
    assert (published("x"), published("y")) == (3, 0)
    controller._export_pending({("a_b", "y"): 1})
    assert (published("x"), published("y")) == (None, 1)
    controller._export_pending({})
    assert published("y") is None


def test_the_lag_of_each_app_is_reported_also_if_nothing_waits(tmp_path: Path) -> None:
    settings = Settings(
        namespace="", component="", granted={}, scopes=False, nats_url="", replicas=1, ready=tmp_path / "ready"
    )
    controller = TopologyController(Server(), settings)  # type: ignore[arg-type] # it asks nothing here

    def published(app: str) -> float | None:
        return METRICS.get_sample_value("tidings_broker_lag", {"app": app})

    controller._export_lag({"kitchen": 3}, {"kitchen", "loyalty"})
    assert (published("kitchen"), published("loyalty")) == (3, 0)
    controller._export_lag({}, {"loyalty"})
    assert (published("kitchen"), published("loyalty")) == (None, 0)


def test_dead_letters_that_no_one_reads_are_reported_as_long_as_they_are_counted(tmp_path: Path) -> None:
    settings = Settings(
        namespace="", component="", granted={}, scopes=False, nats_url="", replicas=1, ready=tmp_path / "ready"
    )
    controller = TopologyController(Server(), settings)  # type: ignore[arg-type] # it asks nothing here

    def published() -> float | None:
        return METRICS.get_sample_value("tidings_broker_dead_letters_unread", {"topic": "deadletter.x"})

    controller._count_unread({"deadletter.x": 3})
    assert published() == 3
    controller._count_unread({})
    assert published() is None


def test_topics_are_those_of_rights_and_types() -> None:
    assert topics({"a": {"publish": ["x"], "subscribe": ["y"]}}, ["z"]) == {"x", "y", "z"}


def test_settings_come_from_the_chart(tmp_path: Path) -> None:
    (deployment,) = [of_kind(rendered("pizza"), "Deployment")["topology"]]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    value = {item["name"]: item.get("value", "nats://u:p@nats:4222") for item in container["env"]}
    (tmp_path / "granted.json").write_text(json.dumps(GRANTED))
    result = read({**value, "TOPOLOGY_GRANTED": str(tmp_path / "granted.json")})
    assert (result.namespace, result.component, result.scopes, result.replicas) == ("pizza", "pubsub", True, 1)
    assert result.granted == GRANTED
    assert (result.nats_url, result.rabbitmq_url) == ("nats://u:p@nats:4222", "")


def test_with_rabbitmq_the_chart_has_its_queues_kept() -> None:
    deployment = of_kind(rendered("pizza", VALUE_SETS["rabbitmq"]), "Deployment")["topology"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    value = {item["name"]: item for item in container["env"]}
    assert value["RABBITMQ_URL"]["valueFrom"]["secretKeyRef"] == {"name": "mine", "key": "RABBITMQ_URL"}
    assert "NATS_URL" not in value
