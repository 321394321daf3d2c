"""No two apps share a consumer at the broker: each would get part of the events, or those of the other."""

import time
from datetime import date
from typing import Any

import pytest
from tests.unit.test_plan import Document, event_type, inventory, subscription

from tidings_plan import Plan, plan
from tidings_plan.resources import Inventory
from tidings_plan.resources.loading import add_components

TODAY = date(2026, 11, 29)
FACT = event_type("orders.orderPlaced", "v1:Active")
READ: Document = {"type": "orders.orderPlaced", "versions": ["v1"]}
TWO = [FACT, subscription("a", "kitchen", **READ), subscription("b", "tracking", **READ)]


def component(kind: str, name: str = "pubsub", scopes: list[str] | None = None, /, **settings: Any) -> Document:
    """Return a Component; a setting that is a dictionary refers to a Secret."""
    metadata = [
        {"name": key, **(value if isinstance(value, dict) else {"value": value})} for key, value in settings.items()
    ]
    return {
        "apiVersion": "dapr.io/v1alpha1",
        "kind": "Component",
        "metadata": {"name": name},
        "spec": {"type": f"pubsub.{kind}", "version": "v1", "metadata": metadata},
        **({"scopes": scopes} if scopes else {}),
    }


def with_components(documents: list[Document], *components: Document) -> Inventory:
    known = inventory(*documents)
    add_components(known, components)
    return known


def refused(actual: Plan) -> dict[str, str]:
    """Return the message and the fix of each error about a shared consumer, by subscription."""
    return {
        finding.resource.rpartition("/")[2]: f"{finding.message}. {finding.fix}"
        for finding in actual.findings
        if finding.rule == "shared-consumer" and finding.severity == "error"
    }


@pytest.mark.parametrize(
    ("kind", "setting"),
    [
        ("redis", "consumerID"),
        ("rabbitmq", "consumerID"),
        ("kafka", "consumerGroup"),
        ("kafka", "consumerID"),
        ("jetstream", "durableName"),
        ("mqtt3", "consumerID"),
        ("azure.servicebus.topics", "consumerID"),
    ],
)
def test_a_consumer_that_is_the_same_for_all_apps_is_refused_for_the_younger_one(kind: str, setting: str) -> None:
    known = with_components(TWO, component(kind, **{setting: "everyone"}))
    actual = plan(known, TODAY)
    assert set(refused(actual)) == {"b"}
    assert "everyone" in refused(actual)["b"]
    assert "{appID}" in refused(actual)["b"]
    assert "EventSubscription/a (app kitchen)" in refused(actual)["b"]
    assert actual.apps["tracking"].reads == {}
    assert "orders.orderPlaced.v1" in actual.apps["kitchen"].reads["pubsub"]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"consumerID": "{appID}"},
        {"consumerID": " "},
        {"consumerID": "prefix-{appID}"},
        {"consumerID": "{namespace}"},  # daprd puts the app id behind it
        {"consumerID": "{podName}"},
        {"consumerID": {"secretKeyRef": {"name": "broker", "key": "consumer"}}},
        {"durableName": "everyone"},  # another broker's setting
    ],
)
def test_a_consumer_per_app_is_accepted(settings: dict[str, Any]) -> None:
    assert refused(plan(with_components(TWO, component("redis", **settings)), TODAY)) == {}


def test_without_a_durable_name_each_sidecar_has_a_consumer_of_its_own() -> None:
    assert refused(plan(with_components(TWO, component("jetstream")), TODAY)) == {}


PAY = [
    event_type("orders.orderPlaced", "v1:Active", channel={"topic": "placed"}),
    event_type("legacy.thingDone", "v1:Active", channel={"topic": "ments-placed"}),
    subscription("a", "pay", type="legacy.thingDone", versions=["v1"]),
    subscription("b", "pay-ments", **READ),
]


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({}, {"b"}),
        ({"consumerID": "{appID}"}, {"b"}),
        ({"consumerID": "x-{appID}"}, {"b"}),
        ({"consumerID": "{appID}:"}, set()),
        ({"consumerID": "{namespace}"}, {"b"}),
    ],
)
def test_queues_that_are_called_alike_are_refused_on_rabbitmq(settings: dict[str, str], names: set[str]) -> None:
    """`pay` with `ments-placed` and `pay-ments` with `placed` are both the queue pay-ments-placed."""
    actual = plan(with_components(PAY, component("rabbitmq", **settings)), TODAY)
    assert set(refused(actual)) == names
    assert all("{appID}:" in text for text in refused(actual).values())
    assert refused(plan(with_components(PAY, component("redis", **settings)), TODAY)) == {}


def test_the_queue_of_replays_is_nobody_elses() -> None:
    thief = event_type("legacy.thingDone", "v1:Active", channel={"topic": "ments-replay.pay-ments"})
    documents = [PAY[0], thief, subscription("a", "pay-ments", **READ)]
    documents.append(subscription("b", "pay", type="legacy.thingDone", versions=["v1"]))
    actual = plan(with_components(documents, component("rabbitmq")), TODAY)
    assert set(refused(actual)) == {"b"}
    assert actual.apps["pay"].reads == {}


@pytest.mark.parametrize(("other", "names"), [("redis:6379", {"b"}), ("other:6379", set())])
def test_components_of_single_apps_share_a_consumer_if_they_share_a_broker(other: str, names: set[str]) -> None:
    documents = [
        FACT,
        subscription("a", "kitchen", **READ, source={"pubsub": "one"}),
        subscription("b", "tracking", **READ, source={"pubsub": "two"}),
    ]
    one = component("redis", "one", ["kitchen"], consumerID="same", redisHost="redis:6379")
    two = component("redis", "two", ["tracking"], consumerID="same", redisHost=other)
    assert set(refused(plan(with_components(documents, one, two), TODAY))) == names


def test_one_app_may_read_several_topics_and_one_topic_twice() -> None:
    more = event_type("orders.orderCancelled", "v1:Active")
    documents = [
        FACT,
        more,
        subscription("a", **READ),
        subscription("b", type="orders.orderCancelled", versions=["v1"]),
    ]
    assert refused(plan(with_components(documents, component("redis", consumerID="kitchen")), TODAY)) == {}


@pytest.mark.parametrize(
    ("documents", "settings"), [(TWO, {"consumerID": "everyone"}), (PAY, {}), (list(reversed(PAY)), {})]
)
def test_the_younger_app_is_planned_again_when_the_older_one_goes(
    documents: list[Document], settings: dict[str, str]
) -> None:
    known = with_components(documents, component("rabbitmq", **settings))
    assert set(refused(plan(known, TODAY))) == {"b"}
    (younger,) = [item for item in known.subscriptions.values() if item.metadata.name == "b"]
    touched = known.remove("EventSubscription", ("default", "a"))
    assert ("default", younger.spec.consumer.app_id) in touched
    assert refused(plan(known, TODAY)) == {}


@pytest.mark.parametrize("metadata", [None, 1, "x", [1, None], [{"name": None}], [{"value": []}], {"a": 1}])
def test_a_component_that_dapr_cannot_read_stops_nothing(metadata: Any) -> None:
    odd = component("rabbitmq")
    odd["spec"]["metadata"] = metadata
    odd["scopes"] = metadata
    assert set(refused(plan(with_components(PAY, odd), TODAY))) == {"b"}


@pytest.mark.parametrize(
    "name", ["-" * 1_300_000, "{appID}" * 190_000, "{namespace}" * 100_000, "{appID}-" * 31, "-" * 200 + "{appID}"]
)
def test_a_hostile_name_of_a_consumer_is_judged_at_once(name: str) -> None:
    """A Component may have more than a million characters; each `-` in a queue's name is a place to split it."""
    started = time.process_time()
    assert plan(with_components(PAY, component("rabbitmq", consumerID=name)), TODAY).apps
    assert time.process_time() - started < 5
