"""Attacks on rights to topics: what one namespace writes neither takes from another one nor adds to its own rights."""

import random
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.unit.test_plan import Document, event_type, subscription
from tests.unit.test_plan_consumers import component as dapr_component

from tidings.brokers.jetstream import stream_name
from tidings.brokers.rabbitmq import queue_name
from tidings_operator import admission
from tidings_plan import Plan, plan, plan_app
from tidings_plan.resources import Inventory, Key, parse_resource
from tidings_plan.resources.loading import add_components
from tidings_plan.resources.model import Resource

COMPONENTS = Path(__file__).parents[2] / "components"
TODAY = date(2026, 11, 29)
PLACED: Document = {"type": "orders.orderPlaced", "versions": ["v1"]}
PLACES = event_type("orders.orderPlaced", "v1:Active", producers=["orders"])
FAILURES: Document = {"delivery": {"deadLetter": {"topic": "failures"}}}
ACCESS = [[], ["default"], ["*"], ["default", "*"]]


def resource(document: Document, namespace: str = "default", day: int = 1) -> Resource[Any]:
    metadata = {**document["metadata"], "namespace": namespace, "creationTimestamp": f"2026-11-{day:02}T00:00:00Z"}
    parsed, findings = parse_resource({**document, "metadata": metadata})
    assert parsed is not None, findings
    return parsed


def planned(*resources: Resource[Any]) -> Plan:
    return plan(Inventory([resource(PLACES), *resources]), TODAY)


def errors(actual: Plan) -> set[tuple[str, str]]:
    return {(finding.resource, finding.rule) for finding in actual.findings if finding.severity == "error"}


@pytest.mark.parametrize("access", ACCESS)
@pytest.mark.parametrize("topic", ["failures", "Failures", "FAILURES"])
def test_a_later_type_of_another_namespace_takes_no_topic_away(topic: str, access: list[str]) -> None:
    """Whoever may write EventTypes anywhere could otherwise stop any app that names a topic of its own."""
    kitchen = resource(subscription("kitchen", **PLACED, **FAILURES), day=1)
    claim = event_type(
        "evil.thingDone", "v1:Active", channel={"topic": topic}, producers=["evil"], access={"namespaces": access}
    )
    result = planned(kitchen, resource(claim, "far", day=2))
    assert "failures" in result.apps["kitchen"].publishes["pubsub"]
    assert errors(result) == ({("EventType/far/evil.thingdone", "foreign-topic")} if access else set())


@pytest.mark.parametrize("access", ACCESS)
def test_a_type_of_another_namespace_does_not_stop_who_reads_a_topic_without_a_type(access: list[str]) -> None:
    reader = resource(subscription("kitchen", **PLACED, source={"topic": "old-things"}), day=1)
    claim = event_type("evil.thingDone", "v1:Active", channel={"topic": "old-things"}, access={"namespaces": access})
    result = planned(reader, resource(claim, "far", day=2))
    assert "old-things" in result.apps["kitchen"].reads["pubsub"]


@pytest.mark.parametrize("named", [{"source": {"topic": "orders.orderShipped.v1"}}, {"source": {"topic": "shipped"}}])
def test_a_topic_named_in_advance_is_not_read_once_it_has_a_type(named: Document) -> None:
    """Of a topic with the name of a type, that type is the owner, however old the claim is."""
    invites = resource(
        event_type("orders.orderPaid", "v1:Active", access={"namespaces": ["far"]}, producers=["orders"])
    )
    early = resource(subscription("early", "evil", **PLACED, namespace="default", **named), "far", day=1)
    shipped = {"topic": named["source"]["topic"]} if named["source"]["topic"] == "shipped" else {}
    late = event_type("orders.orderShipped", "v1:Active", producers=["orders"], channel=shipped)
    result = planned(invites, early, resource(late, day=2))
    published = result.apps["orders"].publishes["pubsub"]
    assert not set(published) & set(result.apps["far/evil"].reads.get("pubsub", ())), "one of the two owns the topic"
    assert ("orders.orderShipped.v1" in published) is not bool(shipped)


@pytest.mark.parametrize(
    "attack",
    [
        {"type": "payments.takePayment", "versions": ["v1"]},
        {"type": "payments.takePayment", "versions": ["v7"], "enforcement": "BestEffort"},
        {"type": "payments.takePayment", "versions": ["v1"], "suspend": True},
    ],
)
def test_a_command_is_not_taken_by_who_may_not_read_it(attack: Document) -> None:
    """The oldest consumer executes a command: one without access would have kept it from its owner."""
    command = resource(event_type("payments.takePayment", "v1:Active", intent="Command", producers=["orders"]))
    early = resource(subscription("early", "evil", **attack, namespace="default"), "far", day=2)
    owner = resource(subscription("owner", "payments", type="payments.takePayment", versions=["v1"]), day=3)
    result = planned(command, early, owner)
    assert "payments.takePayment.v1" in result.apps["payments"].reads["pubsub"]
    assert {name for name, _ in errors(result)} == {"EventSubscription/far/early"}


@pytest.mark.parametrize(
    "topic",
    ["__consumer_offsets", "__transaction_state", "_schemas", "_INBOX.evil", "_", "amq.fanout", "AMQ.topic", "amq_log"],
)
def test_no_app_names_a_topic_that_brokers_use_themselves(topic: str) -> None:
    for spec in ({"delivery": {"deadLetter": {"topic": topic}}}, {"source": {"topic": topic}}):
        result = planned(resource(subscription("evil", "evil", **PLACED, **spec)))
        assert errors(result) == {("EventSubscription/evil", "foreign-topic")}
    claim = event_type("evil.thingDone", "v1:Active", channel={"topic": topic}, producers=["evil"])
    assert errors(planned(resource(claim))) == {("EventType/evil.thingdone", "foreign-topic")}


@pytest.mark.parametrize(
    ("app", "topic"),
    [
        ("pay", "ments-orders.orderPlaced.v1"),
        ("pay", "ments.orders.orderPlaced.v1"),
        ("pay-ments-orders", "orderPlaced.v1"),
        ("p", "ay-ments-orders.orderPlaced.v1"),
        ("pay", "ments--orders.orderPlaced.v1"),
        ("pay-ments", "Orders.orderPlaced.v1"),
        ("tidings", "unread-orders.orderPlaced.v1"),
        ("pay-ments", "-orders.orderPlaced.v1"),
    ],
)
@pytest.mark.parametrize("broker", ["nats", "redis", "rabbitmq", "kafka"])
def test_no_app_gets_the_consumer_of_another_one_by_its_topic(broker: str, app: str, topic: str) -> None:
    """On RabbitMQ the consumer is a queue with a name made of both, elsewhere it is within the topic."""
    victim = ("pay-ments", "orders.orderPlaced.v1")
    names = [_consumer(broker, *reader) for reader in ((app, topic), victim, ("tidings:unread", victim[1]))]
    assert len(set(names)) == len(names)


def _consumer(broker: str, app: str, topic: str) -> tuple[str, ...]:
    """Return what identifies a consumer on a broker, made as daprd makes it from the component."""
    component = yaml.safe_load((COMPONENTS / broker / "pubsub.yaml").read_text())
    settings = {item["name"]: item["value"].replace("{appID}", app) for item in component["spec"]["metadata"]}
    if broker == "rabbitmq":
        return (f"{settings['consumerID']}-{topic}",)
    setting = {"nats": "durableName", "redis": "consumerID", "kafka": "consumerGroup"}[broker]
    return (settings[setting], stream_name(topic) if broker == "nats" else topic)


def test_the_queues_that_are_made_beforehand_are_those_of_the_sidecars() -> None:
    reader = ("pay-ments", "orders.orderPlaced.v1")
    assert (queue_name(*reader),) == _consumer("rabbitmq", *reader)


def _drawn(draw: random.Random) -> Resource[Any]:
    spaces, apps = ["a", "b", "c"], ["e", "e-f", "e-f-g"]
    namespace, day = draw.choice(spaces), draw.randint(1, 20)
    topic = draw.choice(["fail", "Fail", "old", "f-fail", "g-old", "orders.orderPlaced.v1", "f-orders.orderPlaced.v1"])
    if draw.random() < 0.5:
        name = draw.choice(["orders.orderPlaced", "orders.orderPaid", "orders.placeOrder"])
        spec: Document = {"intent": "Command"} if name == "orders.placeOrder" else {}
        spec |= {"channel": {"topic": topic}} if draw.random() < 0.4 else {}
        spec |= {"access": {"namespaces": draw.sample([*spaces, "*"], draw.randint(0, 2))}}
        versions = draw.choice(["v1:Active", "v1:Active v1:Active", "v1:Draft"])
        producers = draw.sample(apps, draw.randint(0, 2))
        metadata = {"metadata": {"name": draw.choice(["t1", "t2", "t3"])}}
        return resource(event_type(name, versions, producers=producers, **metadata, **spec), namespace, day)
    spec = {"source": {"topic": topic}} if draw.random() < 0.4 else {}
    spec |= {"delivery": {"deadLetter": {"topic": draw.choice(["fail", "old"])}}} if draw.random() < 0.4 else {}
    spec |= {"namespace": draw.choice(spaces)} if draw.random() < 0.4 else {}
    reads: list[Document] = [
        *({"pattern": pattern, "versions": []} for pattern in ("*", "orders.*", "deadletter.*")),
        *({"type": f"orders.{name}", "versions": ["v1"]} for name in ("orderPlaced", "orderPaid", "placeOrder")),
        {"type": "deadletter.e", "versions": []},
    ]
    document = subscription(draw.choice(["s1", "s2", "s3"]), draw.choice(apps), **draw.choice(reads), **spec)
    return resource(document, namespace, day)


def _rights(inventory: Inventory, apps: Iterable[Key]) -> dict[Key, Any]:
    outcome = {}
    for app in apps:
        actual = plan_app(app, inventory, TODAY)
        wrong = {(finding.resource, finding.rule) for finding in actual.findings if finding.severity == "error"}
        outcome[app] = (actual.publishes, actual.reads, wrong)
    return outcome


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("component", [None, ("redis", {"consumerID": "everyone"}), ("rabbitmq", {})])
def test_every_app_whose_rights_a_change_affects_is_planned_again(
    seed: int, component: tuple[str, dict[str, str]] | None
) -> None:
    """The operator plans only what `put` and `remove` name: an app that is missing would keep what it lost."""
    draw = random.Random(seed)
    nothing: Any = ({}, {}, set())
    for _ in range(40):
        inventory, before = Inventory(), dict[Key, Any]()
        if component:
            add_components(inventory, [dapr_component(component[0], **component[1])])
        for _ in range(14):
            known = [
                (one.kind, one.key) for part in (inventory.types, inventory.subscriptions) for one in part.values()
            ]
            if known and draw.random() < 0.25:
                touched = inventory.remove(*draw.choice(known))
            else:
                touched = inventory.put(_drawn(draw))
            after = _rights(inventory, inventory.apps)
            apps = before.keys() | after.keys()
            changed = {app for app in apps if before.get(app, nothing) != after.get(app, nothing)}
            assert changed <= touched
            before = after


def replay(namespace: str, target: Document, **spec: Any) -> Document:
    metadata = {"name": "borrowed", "namespace": namespace}
    return {
        "apiVersion": "tidings.dev/v1alpha1",
        "kind": "EventReplay",
        "metadata": metadata,
        "spec": {"target": target, **spec},
    }


@pytest.mark.parametrize("allowed", ["", "*", "evil2", "ev", "evil evil2", "EVIL", "default/evil", "-evil,other"])
@pytest.mark.parametrize("kind", ["DeadLetters", "Archive"])
def test_a_replay_reaches_no_namespace_that_does_not_name_its_own(allowed: str, kind: str) -> None:
    annotated = {"annotations": {"tidings.dev/replays-from": allowed}}
    target = resource(subscription("kitchen", **PLACED, metadata=annotated))
    invited = {"annotations": {"tidings.dev/replays-from": "evil,default"}}
    namesake = resource(subscription("kitchen", **PLACED, metadata=invited), "evil")
    for name in ("kitchen", "no-such"):
        attack = replay("evil", {"subscription": name, "namespace": "default"}, source={"kind": kind})
        result = planned(target, namesake, resource(attack, "evil"))
        assert ("EventReplay/evil/borrowed", "replay-namespace") in errors(result)


@pytest.mark.parametrize("claimed", ["admin", "", "system:admin", "ada@example.org "])
def test_who_asks_for_a_replay_is_who_is_logged_in_and_stays_so(claimed: str) -> None:
    spec = replay("default", {"subscription": "kitchen"}, requestedBy=claimed)["spec"]
    assert admission.defaults("EventReplay", "CREATE", spec, "ada@example.org") == {"requestedBy": "ada@example.org"}
    before = replay("default", {"subscription": "kitchen"}, requestedBy="ada@example.org")
    after = replay("default", {"subscription": "kitchen"}, requestedBy=claimed)
    kind = admission.GroupVersionKind("EventReplay")
    change = admission.Request("1", kind, "UPDATE", "default", object=after, old_object=before)
    verdict = admission.judge(admission.read(change, "2026-11-29T00:00:00Z"), Inventory(), TODAY)
    assert [finding.rule for finding in verdict.errors] == ["replay-requested-by"]
