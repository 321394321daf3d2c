"""Planning: the plan and the findings of resources, and independence of good resources from bad ones."""

import random
import re
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.contracts import one_event

from tidings.consume.policy import Policy
from tidings.conventions import IGNORED_PATH
from tidings_plan import AppPlan, Plan, cel, plan, plan_app
from tidings_plan.resources import Inventory, load, parse_resource
from tidings_plan.resources.brokers import Delivery
from tidings_plan.resources.loading import add_components
from tidings_plan.subscriptions import spread, subscription_name

TODAY = date(2026, 11, 23)
DATA = "tests/unit/data/shop"
Document = dict[str, Any]


def event_type(name: str = "orders.orderConfirmed", versions: str = "v1:Active v2:Active", **spec: Any) -> Document:
    states = [item.split(":") for item in versions.split()]
    return {
        "apiVersion": "tidings.dev/v1alpha1",
        "kind": "EventType",
        "metadata": {"name": name.lower(), **spec.pop("metadata", {})},
        "spec": {
            "type": name,
            "owner": {"team": "sales"},
            "producers": ["orders"],
            "versions": [{"name": version, "state": state, "schema": {}} for version, state in states],
            **spec,
        },
    }


def subscription(name: str = "one", app: str = "kitchen", **spec: Any) -> Document:
    kit = spec.pop("kit", True)
    return {
        "apiVersion": "tidings.dev/v1alpha1",
        "kind": "EventSubscription",
        "metadata": {"name": name, **spec.pop("metadata", {})},
        "spec": one_event(
            {
                "type": "orders.orderConfirmed",
                "versions": ["v2"],
                "consumer": {"appId": app, "kit": kit},
                **spec,
            }
        ),
    }


def inventory(*documents: Document) -> Inventory:
    actual = Inventory()
    for document in documents:
        resource, findings = parse_resource(document)
        assert resource is not None, findings
        actual.put(resource)
    return actual


def planned(*documents: Document) -> Plan:
    return plan(inventory(*documents), TODAY)


PLAIN = {"warning plain-delivery"}  # what every app without the kit is told; it has a test of its own
NAMED = {"enabled": True, "maxMessagesCount": 1, "maxAwaitDurationMs": 1000}


def said(plan_: Plan) -> set[str]:
    return {f"{item.severity} {item.rule}" for item in plan_.findings}


def retired_on(removal: str, state: str = "Deprecated", **spec: Any) -> Document:
    document = event_type(**spec)
    old = {"effective": "2026-01-01", "removal": removal, "alternative": "v2"}
    document["spec"]["versions"][0].update(state=state, deprecation=old)
    return document


FAR: Document = {
    "metadata": {"namespace": "far"},
    "type": "orders.orderConfirmed",
    "namespace": "default",
}
V1: Document = {"versions": ["v1"]}
COMMAND = event_type("payments.takePayment", "v1:Active", intent="Command")
TAKES: Document = {"type": "payments.takePayment", **V1}
WEB: Document = {"filters": [{"exact": {"data.channel": "web"}}]}
PHONE: Document = {"filters": [{"exact": {"data.channel": "phone"}}]}
BEST: Document = {"enforcement": "BestEffort"}
ARCHIVE = subscription("all", "archive", pattern="*", versions=[])


def at(path: str) -> dict[str, Any]:
    return {"routes": {"default": path}}


@pytest.mark.parametrize(
    ("documents", "expected"),
    [
        pytest.param([event_type(), subscription()], set(), id="fine"),
        pytest.param([subscription()], {"error unknown-type"}, id="no type"),
        pytest.param([event_type(), subscription(versions=[])], {"error version-missing"}, id="no version"),
        pytest.param([event_type(), subscription(versions=["v9"])], {"error unknown-version"}, id="v9"),
        pytest.param(
            [event_type(), subscription(versions=["v2", "v9"], **BEST)],
            {"warning unknown-version"},
            id="best effort reads what there is",
        ),
        pytest.param(
            [event_type(), subscription(versions=["v9"], **BEST)],
            {"error unknown-version"},
            id="nothing left",
        ),
        pytest.param([event_type(versions="v2:Draft"), subscription()], {"error draft-version"}, id="draft"),
        pytest.param([event_type(versions="v2:Retired"), subscription()], {"error retired-version"}, id="retired"),
        pytest.param(
            [event_type(versions="v2:Deprecated"), subscription()],
            {"warning deprecated-version", "warning deprecation-missing"},
            id="deprecated without a date",
        ),
        pytest.param([retired_on("2026-11-24"), subscription(**V1)], {"warning deprecated-version"}, id="a day before"),
        pytest.param([retired_on("2026-11-23"), subscription(**V1)], {"error past-removal"}, id="past removal"),
        pytest.param(
            [retired_on("2026-11-24", state="Active"), subscription(**V1)],
            {"warning deprecated-version", "warning deprecation-due"},
            id="deprecated by its date",
        ),
        pytest.param(
            [retired_on("2026-11-23", policy={"afterRemoval": "Warn"}), subscription(**V1)],
            {"warning past-removal"},
            id="past removal, tolerated",
        ),
        pytest.param(
            [event_type(), subscription(**FAR)],
            {"error unknown-type", "info unconsumed-type"},
            id="foreign namespace",
        ),
        pytest.param(
            [event_type(access={"namespaces": ["far"]}), subscription(**FAR)],
            set(),
            id="invited namespace",
        ),
        pytest.param(
            [event_type(), subscription("one"), subscription("two")], {"error duplicate-subscription"}, id="twice"
        ),
        pytest.param([event_type(), subscription("one"), subscription("two", "other")], set(), id="two apps"),
        pytest.param(
            [event_type(), subscription("one", **WEB), subscription("two", **WEB, **at("/two"))],
            {"error shadowed-filter"},
            id="same filter",
        ),
        pytest.param(
            [event_type(), subscription("one", **WEB), subscription("two", **PHONE)],
            {"error same-path"},
            id="same path",
        ),
        pytest.param(
            [event_type(), subscription("one", **WEB), subscription("two", **PHONE, **at("/two"))], set(), id="disjoint"
        ),
        pytest.param(
            [event_type(), subscription("one"), subscription("two", **WEB, **at("/two"))],
            {"info takes-the-rest"},
            id="rest",
        ),
        pytest.param(
            [
                event_type(),
                subscription("one", **WEB),
                subscription("two", filters=[{"prefix": {"subject": "1"}}], **at("/two")),
            ],
            {"warning overlapping-filters"},
            id="overlap",
        ),
        pytest.param(
            [
                event_type(),
                subscription("one", **WEB),
                subscription("two", filters=[{"not": WEB["filters"][0]}], **at("/two")),
            ],
            set(),
            id="a filter and its opposite",
        ),
        pytest.param(
            [event_type(), subscription("one", **V1), subscription("two", kit=False, **WEB)],
            set(),
            id="kit, other topics",
        ),
        pytest.param(
            [event_type(), subscription("one"), subscription("two", kit=False, **WEB, **at("/two"))],
            {"error conflicting-policies", "info takes-the-rest"},
            id="kit and no kit",
        ),
        pytest.param([COMMAND, subscription("one", "payments", **TAKES)], set(), id="command"),
        pytest.param(
            [COMMAND, subscription("one", "payments", **TAKES), subscription("two", "other", **TAKES)],
            {"error command-with-two-consumers"},
            id="command with two apps",
        ),
        pytest.param(
            [COMMAND, subscription("one", "payments", **TAKES), ARCHIVE],
            set(),
            id="an archive is no consumer of a command",
        ),
        pytest.param([COMMAND], {"warning command-without-consumer"}, id="command nobody takes"),
        pytest.param([event_type()], {"info unconsumed-type"}, id="fact nobody reads"),
        pytest.param(
            [event_type(producers=[]), subscription()],
            {"warning no-producer", "warning unreachable-subscription"},
            id="nobody publishes",
        ),
        pytest.param(
            [event_type(), event_type(metadata={"name": "second"}), subscription()],
            {"error duplicate-type"},
            id="two claims",
        ),
        pytest.param(
            [event_type(versions="v2:Active v2:Active"), subscription()],
            {"error duplicate-version", "error type-refused"},
            id="version twice",
        ),
        pytest.param(
            [event_type(channel={"topic": "all"}), subscription()],
            {"error shared-topic", "error type-refused"},
            id="one topic for two",
        ),
        pytest.param(
            [event_type(domain="sales"), subscription()], {"error bad-name", "error type-refused"}, id="domain"
        ),
        pytest.param(
            [event_type(), subscription(pattern="*")],
            {"error versions-of-a-pattern", "info unconsumed-type"},
            id="pattern with versions",
        ),
        pytest.param(
            [event_type(), subscription(filters=[{"exact": {"a": 1}, "cel": "true"}])],
            {"error filter-operators"},
            id="two operators",
        ),
        pytest.param([event_type(), subscription(filters=[{"all": [{}]}])], {"error filter-operators"}, id="none"),
        pytest.param([event_type(), subscription(startFrom="Latest")], {"error not-enforced"}, id="start from"),
        pytest.param(
            [event_type(), subscription(startFrom="Latest", **BEST)], {"warning not-enforced"}, id="best effort"
        ),
        pytest.param(
            [event_type(), subscription(kit=False, rateLimit={"eventsPerSecond": 5})],
            {"error not-enforced"},
            id="no kit, no rate",
        ),
        pytest.param(
            [event_type(), subscription(delivery={"circuitBreaker": {}})],
            {"error not-enforced"},
            id="breaker with the kit",
        ),
        pytest.param(
            [event_type(), subscription(kit=False, delivery={"circuitBreaker": {}})],
            {"warning breaker-dead-letters"},
            id="breaker without the kit",
        ),
        pytest.param(
            [event_type(), subscription(kit=False, delivery={"circuitBreaker": {"trip": "failures >"}})],
            {"error malformed-cel", "warning breaker-dead-letters"},
            id="malformed trip: daprd would drop the whole Resiliency",
        ),
        pytest.param(
            [event_type(), subscription(kit=False, delivery={"retry": {"duration": "5s"}})],
            {"warning retry-not-enforced"},
            id="exponential duration",
        ),
        pytest.param(
            [event_type(), subscription(delivery={"retry": {"maxRetries": 60}})],
            {"warning retry-not-enforced"},
            id="15 minutes",
        ),
        pytest.param(
            [event_type(), subscription(kit=False, **V1, delivery={"timeout": "5s"}), subscription("two", kit=False)],
            {"warning conflicting-policies"},
            id="one component, two timeouts",
        ),
        pytest.param(
            [
                event_type(),
                subscription(kit=False, delivery={"deadLetter": {"topic": "a"}}),
                subscription("two", kit=False, **WEB, **at("/two")),
            ],
            {"warning conflicting-policies", "info takes-the-rest"},
            id="one topic, two dead-letter topics",
        ),
        pytest.param(
            [event_type(), subscription(bulk={}), subscription("two", **WEB, **at("/two"))],
            {"warning conflicting-policies", "info takes-the-rest"},
            id="bulk for one",
        ),
    ],
)
def test_findings(documents: list[Document], expected: set[str]):
    assert said(planned(*documents)) - PLAIN == expected


@pytest.mark.parametrize(
    ("name", "intent", "expected"),
    [
        ("orders.orderConfirmed", "Fact", set()),
        ("OrderConfirmed", "Fact", {"bad-name"}),
        ("orders.orderConfirmed.v1", "Fact", {"bad-name"}),
        ("deadletter.orderConfirmed", "Fact", {"bad-name", "foreign-topic"}),
        ("shop.buttonClicked", "Fact", {"technical-name"}),
        ("orders.orderUpdated", "Fact", {"technical-name"}),
        ("orders.confirmOrder", "Fact", {"not-past-tense"}),
        ("payments.takePayment", "Command", set()),
        ("payments.tookPayment", "Command", {"not-imperative"}),
        ("payments.getPayment", "Command", {"not-imperative"}),
        ("shop.scrollScreen", "Command", {"technical-name"}),
    ],
)
def test_names(name: str, intent: str, expected: set[str]):
    named = planned(event_type(name, intent=intent)).findings
    assert {item.rule for item in named if item.severity == "error"} == expected
    accepted = {"name": "x", "annotations": {"tidings.dev/naming": "accepted"}}
    tolerated = planned(event_type(name, intent=intent, metadata=accepted)).findings
    assert {item.rule for item in tolerated if item.severity == "error"} == expected & {"bad-name", "foreign-topic"}


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ({"schema": {}}, set()),
        ({}, {"schema-missing"}),
        ({"state": "Draft"}, set()),
        (
            {"deprecation": {"effective": "2026-02-01", "removal": "2026-01-01"}},
            {"deprecation-dates", "deprecation-due"},
        ),
        ({"deprecation": {"effective": "2027-02-01", "removal": "2027-03-01"}}, set()),
        (
            {"deprecation": {"effective": "2027-02-01", "removal": "2027-03-01", "alternative": "v9"}},
            {"deprecation-alternative"},
        ),
    ],
)
def test_versions_of_a_type(version: Document, expected: set[str]):
    kind = event_type(versions="v1:Active")
    kind["spec"]["versions"] = [{"name": "v1", **({"schema": {}} if "deprecation" in version else {}), **version}]
    assert {item.rule for item in planned(kind).findings} - {"unconsumed-type"} == expected


def test_bulk_delivery_needs_all_subscriptions_of_a_topic():
    asks = {"maxMessages": 10, "maxAwait": "20ms"}
    readers = [subscription(bulk=asks), subscription("two", bulk={}, **WEB, **at("/two"))]
    merged = planned(event_type(), *readers).apps["kitchen"].subscriptions[0]
    assert merged["spec"]["bulkSubscribe"] == {"enabled": True, "maxMessagesCount": 100, "maxAwaitDurationMs": 100}


@pytest.mark.parametrize(
    ("kind", "rate", "most"),
    [
        ("jetstream", None, 1),
        ("unknown", None, 1),
        ("redis", None, 32),
        ("rabbitmq", None, 32),
        ("kafka", None, 32),
        ("redis", 2, 10),
        ("redis", 0.1, 1),
    ],
)
def test_every_delivery_to_the_kit_is_answered_by_entry(kind: str, rate: float | None, most: int, tmp_path: Path):
    """An official daprd takes an empty answer to a plain delivery for success, also where the app was not reached."""
    settings = [{"name": "concurrency", "value": "single"}] if kind == "jetstream" else []
    spec = {"type": f"pubsub.{kind}", "version": "v1", "metadata": settings}
    component = {"apiVersion": "dapr.io/v1alpha1", "kind": "Component", "metadata": {"name": "pubsub"}, "spec": spec}
    limit: dict[str, Any] = {"rateLimit": {"eventsPerSecond": rate}} if rate else {}
    documents = [event_type(), subscription(**limit), *([component] if kind != "unknown" else [])]
    (tmp_path / "all.yaml").write_text(yaml.safe_dump_all(documents))
    actual = plan(load([tmp_path])).apps["kitchen"].subscriptions[0]["spec"]
    waits = 1000 if most == 1 else 5
    assert actual["bulkSubscribe"] == {**NAMED, "maxMessagesCount": most, "maxAwaitDurationMs": waits}
    assert actual["metadata"] == {"rawPayload": "true"}


def test_an_app_without_the_kit_gets_what_it_asks_for_and_a_warning_of_the_risk():
    own: dict[str, Any] = {"consumer": {"appId": "kitchen", "kit": False}}
    actual = planned(event_type(), subscription(**own))
    assert not actual.apps["kitchen"].subscriptions[0]["spec"].keys() & {"bulkSubscribe", "metadata"}
    assert "warning plain-delivery" in said(actual)
    asking = planned(event_type(), subscription(bulk={}, **own))
    assert "metadata" not in asking.apps["kitchen"].subscriptions[0]["spec"]
    assert "warning plain-delivery" not in said(asking)


@pytest.mark.parametrize(
    ("enforcement", "expected"), [("Strict", {"error not-enforced"}), ("BestEffort", {"warning not-enforced"})]
)
@pytest.mark.parametrize(
    ("kind", "setting", "value"),
    [
        ("jetstream", "concurrency", "single"),
        ("rabbitmq", "concurrencyMode", "single"),
        ("redis", "concurrency", "32"),
        ("kafka", "clientId", "{appID}"),
    ],
)
def test_bulk_is_no_use_where_one_message_comes_at_a_time(
    enforcement: str, expected: set[str], kind: str, setting: str, value: str, tmp_path: Path
):
    spec = {"type": f"pubsub.{kind}", "version": "v1", "metadata": [{"name": setting, "value": value}]}
    component = {"apiVersion": "dapr.io/v1alpha1", "kind": "Component", "metadata": {"name": "pubsub"}, "spec": spec}
    documents = [event_type(), subscription(bulk={}, enforcement=enforcement), component]
    (tmp_path / "all.yaml").write_text(yaml.safe_dump_all(documents))
    actual = plan(load([tmp_path]))
    if kind in ("kafka", "redis"):
        assert actual.apps["kitchen"].subscriptions[0]["spec"]["bulkSubscribe"]["maxMessagesCount"] == 100
        assert not {item.rule for item in actual.findings} & {"not-enforced"}
        return
    assert expected <= said(actual)
    [finding] = [item for item in actual.findings if item.rule == "not-enforced"]
    assert "one message at a time" in finding.message
    if enforcement == "BestEffort":
        assert actual.apps["kitchen"].subscriptions[0]["spec"]["bulkSubscribe"] == NAMED
        assert actual.apps["kitchen"].enforcement["one"]["bulk"] == "none"


@pytest.mark.parametrize(
    ("kind", "rate", "source", "warned"),
    [
        ("redis", 1, "pubsub", True),
        ("redis", 50, "pubsub", False),
        ("redis", 1, "slow", False),
        ("jetstream", 1, "pubsub", False),
    ],
)
def test_a_slow_subscription_needs_workers_of_its_own_where_a_component_shares_them(
    kind: str, rate: int, source: str, warned: bool, tmp_path: Path
):
    components = [
        {
            "apiVersion": "dapr.io/v1alpha1",
            "kind": "Component",
            "metadata": {"name": name},
            "spec": {"type": f"pubsub.{kind}"},
        }
        for name in ("pubsub", "slow")
    ]
    slow = subscription("slow", rateLimit={"eventsPerSecond": rate}, source={"pubsub": source})
    quick = subscription("quick", type="orders.orderCancelled")
    documents = [event_type(), event_type("orders.orderCancelled"), slow, quick, *components]
    (tmp_path / "all.yaml").write_text(yaml.safe_dump_all(documents))
    assert ("warning slow-among-others" in said(plan(load([tmp_path])))) is warned


@pytest.mark.parametrize("wide", [{"any": [{"exact": {"subject": "x" * 50}}] * 60}, {"any": [WEB["filters"][0]] * 64}])
def test_filters_that_grow_too_large_together_are_refused(wide: Document):
    assert said(planned(event_type(), subscription(filters=[wide]))) == {"error malformed-cel"}


def test_filters_that_nest_too_deep_are_refused():
    deep: Document = {"exact": {"subject": "1"}}
    for _ in range(40):
        deep = {"not": deep}
    assert said(planned(event_type(), subscription(filters=[deep]))) == {"error malformed-cel"}


def test_every_finding_has_a_location_and_a_fix():
    actual = planned(
        subscription(), event_type("shop.rowUpdated"), event_type("a.b", versions="v1:Deprecated")
    ).findings
    assert {item.rule for item in actual if item.severity != "info"} == {
        *("unknown-type", "technical-name", "not-past-tense", "deprecation-missing")
    }
    for item in actual:
        assert item.resource
        assert item.location.field.startswith("spec")
        assert item.fix or item.severity == "info"


def test_an_unknown_type_is_corrected():
    misspelt = planned(event_type(), subscription(type="orders.orderConfirmd")).findings
    versioned = planned(event_type(), subscription(type="orders.orderPlaced.v1")).findings
    assert misspelt[0].fix == "Did you mean 'orders.orderConfirmed'?"
    assert "versions go under versions" in versioned[0].fix


def test_the_plan_of_the_shop_matches_its_files():
    result = plan(load([DATA]), TODAY)
    assert said(result) == {"info takes-the-rest"}
    kitchen = result.apps["kitchen"]
    first, replay = kitchen.subscriptions
    assert first == {
        "apiVersion": "dapr.io/v2alpha1",
        "kind": "Subscription",
        "metadata": {"name": "kitchen.orders.order-confirmed.v2", "namespace": "default"},
        "spec": {
            "pubsubname": "pubsub",
            "topic": "orders.orderConfirmed.v2",
            "routes": {
                "rules": [
                    {
                        "match": 'has(event.data) && has(event.data.channel) && event.data.channel == "web"',
                        "path": "/events/web-orders",
                    }
                ],
                "default": "/events/orders.orderConfirmed.v2",
            },
            "deadLetterTopic": "deadletter.kitchen",
            "bulkSubscribe": NAMED,  # and the sidecar must decode the event, because a rule asks for its content
        },
        "scopes": ["kitchen"],
    }
    assert (replay["spec"]["topic"], replay["spec"]["routes"]) == ("replay.kitchen", {"default": "/events/replay"})
    assert (replay["spec"]["bulkSubscribe"], replay["spec"]["metadata"]) == (NAMED, {"rawPayload": "true"})
    assert kitchen.resiliency is not None
    assert kitchen.resiliency["spec"]["policies"]["retries"] == {
        "kitchen-pubsub-retry": {"policy": "exponential", "maxInterval": "10s", "maxRetries": 100}
    }
    assert kitchen.resiliency["spec"]["targets"]["components"]["pubsub"]["inbound"] == {
        "retry": "kitchen-pubsub-retry",
        "timeout": "kitchen-pubsub-timeout",
    }
    assert kitchen.reads == {"pubsub": ("orders.orderConfirmed.v2", "replay.kitchen")}
    assert kitchen.publishes == {"pubsub": ("archive.recordReplayOutcome.v1", "deadletter.kitchen")}
    assert kitchen.enforcement["kitchen-web-orders"]["filters"] == "daprd"


def test_the_policy_is_what_the_kit_reads():
    result = plan(load([DATA]), TODAY)
    policy = msgspec.json.decode(msgspec.json.encode(result.apps["payments"].policy), type=Policy, strict=True)
    (entry,) = policy.subscriptions
    assert (entry.type, entry.versions, entry.path) == ("payments.takePayment", (1,), "/events/payments.takePayment.v1")
    assert (entry.rate_limit.events, entry.rate_limit.burst) == (50, 10)  # type: ignore[union-attr]
    assert (entry.ordering.mode, entry.timeout, entry.retry.max_retries) == ("key", 10.0, 5)
    assert (policy.dead_letter_topic, policy.replay_topic) == ("deadletter.payments", "replay.payments")


def test_an_archive_reads_every_event_and_the_dead_letters_of_other_apps():
    result = plan(load([DATA]), TODAY)
    assert result.apps["archive"].reads == {
        "pubsub": (
            *("deadletter.kitchen", "deadletter.payments", "orders.orderConfirmed.v1", "orders.orderConfirmed.v2"),
            *("payments.takePayment.v1", "replay.archive"),
        )
    }
    assert result.topics == (
        "archive.recordReplayOutcome.v1",
        *("deadletter.archive", "deadletter.kitchen", "deadletter.payments", "orders.orderConfirmed.v1"),
        *("orders.orderConfirmed.v2", "payments.takePayment.v1", "replay.archive", "replay.kitchen", "replay.payments"),
    )


def test_scopes_are_the_least_that_works():
    scopes = plan(load([DATA]), TODAY).scopes["pubsub"]
    assert scopes.publishing.split(";") == [
        "archive=archive.recordReplayOutcome.v1,deadletter.archive,replay.kitchen,replay.payments",
        "kitchen=archive.recordReplayOutcome.v1,deadletter.kitchen",
        "orders=orders.orderConfirmed.v1,orders.orderConfirmed.v2,payments.takePayment.v1",
        "payments=archive.recordReplayOutcome.v1,deadletter.payments",
    ]
    assert "orders=" in scopes.subscription.split(";"), "named with nothing: may do nothing"


def test_what_no_filter_wants_is_ignored_and_no_dead_letter():
    (merged, _) = planned(event_type(), subscription(**WEB)).apps["kitchen"].subscriptions
    assert merged["spec"]["routes"]["default"] == IGNORED_PATH


def test_rules_are_merged_from_the_most_specific_to_the_least():
    both: Document = {"filters": [*WEB["filters"], {"prefix": {"subject": "1"}}]}
    result = planned(
        event_type(), subscription("a", **WEB, **at("/a")), subscription("b"), subscription("z", **both, **at("/z"))
    )
    routes = result.apps["kitchen"].subscriptions[0]["spec"]["routes"]
    assert [rule["path"] for rule in routes["rules"]] == ["/z", "/a"]
    assert routes["default"] == "/events/orders.orderConfirmed.v2"


def test_routes_come_before_the_default_of_their_filter():
    routes = {"rules": [{"match": "event.subject == 'x'", "path": "/x"}], "default": "/rest"}
    result = planned(event_type(), subscription(routes=routes, **BEST, **WEB))
    rules = result.apps["kitchen"].subscriptions[0]["spec"]["routes"]["rules"]
    assert [rule["path"] for rule in rules] == ["/x", "/rest"]
    assert [entry.path for entry in result.apps["kitchen"].policy.subscriptions] == ["/rest", "/x"]


def test_a_suspended_subscription_leaves_its_events_with_the_broker():
    suspended = planned(event_type(), subscription(suspend=True)).apps["kitchen"]
    assert [item["spec"]["topic"] for item in suspended.subscriptions] == ["replay.kitchen"]
    assert suspended.policy.subscriptions[0].suspend is True


def test_without_the_kit_daprd_keeps_the_strongest_of_each():
    first = {"retry": {"policy": "Constant", "duration": "2s", "maxRetries": 9}, "timeout": "5s"}
    second = {
        "retry": {"policy": "Constant", "duration": "3s", "maxRetries": 4},
        "timeout": "1m",
        "deadLetter": {"topic": "mine"},
    }
    app = planned(
        event_type(), subscription("a", kit=False, **V1, delivery=first), subscription("b", kit=False, delivery=second)
    ).apps["kitchen"]
    policies = app.resiliency["spec"]["policies"]  # type: ignore[index]
    assert policies["retries"] == {"kitchen-pubsub-retry": {"policy": "constant", "duration": "3s", "maxRetries": 9}}
    assert policies["timeouts"] == {"kitchen-pubsub-timeout": "60s"}
    topics = {item["spec"]["topic"]: item["spec"]["deadLetterTopic"] for item in app.subscriptions}
    assert topics == {
        "orders.orderConfirmed.v1": "deadletter.kitchen",
        "orders.orderConfirmed.v2": "mine",
        "replay.kitchen": "deadletter.kitchen",
    }
    assert "mine" in app.publishes["pubsub"]


@pytest.mark.parametrize(("serial", "bulk"), [(False, True), (True, False)])
def test_replays_without_the_kit_come_in_bulk_as_new_events_do(serial: bool, bulk: bool):
    component: Document = {
        "apiVersion": "dapr.io/v1alpha1",
        "kind": "Component",
        "metadata": {"name": "pubsub", "namespace": "default"},
        "spec": {
            "type": "pubsub.jetstream",
            "version": "v1",
            "metadata": [{"name": "concurrency", "value": "single" if serial else "parallel"}],
        },
    }
    inventory = Inventory()
    for document in (event_type(), subscription(kit=False, **BEST, bulk={})):
        resource, findings = parse_resource(document)
        assert resource is not None, findings
        inventory.put(resource)
    add_components(inventory, [component])
    rendered = plan(inventory, TODAY).apps["kitchen"].subscriptions
    assert {"bulkSubscribe" in item["spec"] for item in rendered} == {bulk}


def test_without_the_kit_daprd_routes_a_replayed_event_to_the_subscription_that_it_is_for():
    rules = [{"match": "event.data.total > 5 // large", "path": "/large"}]
    app = planned(
        event_type(),
        subscription("a", kit=False, **V1, **WEB, routes={"default": "/a", "rules": rules}, **BEST),
        subscription("b", kit=False, versions=["v1", "v2"], **PHONE, **BEST),
        subscription("c", kit=False, **V1, filters=[{"cel": "event.subject == 'c'"}], **at("/c"),
                     delivery={"deadLetter": {"replay": False}}, **BEST),
    ).apps["kitchen"]  # fmt: skip
    assert not [item for item in app.findings if item.severity == "error"]
    [replays] = [item["spec"] for item in app.subscriptions if item["spec"]["topic"] == "replay.kitchen"]
    assert replays["routes"]["default"] == "/events/ignored"
    assert "metadata" not in replays  # daprd evaluates no rules on raw payloads

    def path(to: str, major: str, channel: str, total: int = 1) -> str:
        data = {"channel": channel, "total": total}
        event = {"replaytopic": f"orders.orderConfirmed.v{major}", "replayto": to, "data": data}
        for rule in replays["routes"]["rules"]:
            matches = cel.evaluate(rule["match"], event)
            assert isinstance(matches, bool), matches
            if matches:
                return str(rule["path"])
        return str(replays["routes"]["default"])

    assert path("a", "1", "web") == "/a"
    assert path("a", "1", "web", total=6) == "/large"
    assert path("b", "1", "phone") == "/events/orders.orderConfirmed.v1"
    assert path("b", "2", "phone") == "/events/orders.orderConfirmed.v2"
    assert path("*", "2", "phone") == "/events/orders.orderConfirmed.v2"
    assert path("a", "2", "web") == path("c", "1", "web") == path("x", "1", "phone") == "/events/ignored"
    assert "archive.recordReplayOutcome.v1" not in app.publishes["pubsub"]


def test_source_overrides_the_channel_of_the_type():
    app = planned(event_type(), subscription(source={"pubsub": "kafka", "topic": "legacy"})).apps["kitchen"]
    assert app.reads == {"kafka": ("legacy", "replay.kitchen")}
    assert app.resiliency["spec"]["targets"]["components"].keys() == {"kafka"}  # type: ignore[index]


def test_apps_of_two_namespaces_are_kept_apart():
    far: Document = {"metadata": {"namespace": "far"}}
    result = planned(event_type(), subscription(), event_type(**far), subscription(**far))
    assert {"kitchen", "far/kitchen", "orders", "far/orders"} == result.apps.keys()
    assert result.apps["far/kitchen"].subscriptions[0]["metadata"]["namespace"] == "far"


def replay(**spec: Any) -> Document:
    target = {"subscription": "one"}
    return {
        "apiVersion": "tidings.dev/v1alpha1",
        "kind": "EventReplay",
        "metadata": {"name": "again"},
        "spec": {"target": target, **spec},
    }


BACKWARDS: Document = {"since": "2026-11-02T00:00:00Z", "until": "2026-11-01T00:00:00Z"}


@pytest.mark.parametrize(
    ("reader", "again", "expected"),
    [
        (subscription(), replay(), set()),
        (subscription(), replay(target={"subscription": "onne"}), {"error unknown-target"}),
        (subscription(kit=False), replay(), {"error replay-without-kit"}),
        (subscription(delivery={"deadLetter": {"replay": False}}), replay(), {"error replay-not-allowed"}),
        (subscription(), replay(filter=BACKWARDS), {"error replay-times"}),
        (subscription(), replay(filter={"match": [{"cel": "event.type =="}]}), {"error malformed-cel"}),
        (subscription(), replay(filter={"match": [{"not": {}}]}), {"error filter-operators"}),
    ],
)
def test_replays(reader: Document, again: Document, expected: set[str]):
    assert said(planned(event_type(), reader, again)) - PLAIN == expected


@pytest.mark.parametrize(
    ("schema", "examples", "cel", "expected"),
    [
        pytest.param({}, [], "event.data.total > 1", {"error cel-may-fail"}, id="nothing is promised"),
        pytest.param({}, [{"total": 5}], "event.data.total > 1", {"error cel-may-fail"}, id="an example is no promise"),
        pytest.param(
            {"required": ["total"]}, [{"total": 5}], "event.data.total > 1", set(), id="the schema promises it"
        ),
        pytest.param(
            {"required": ["total"]}, [{"total": "5"}], "event.data.total > 1", {"error cel-may-fail"}, id="type"
        ),
        pytest.param({}, [], "has(event.data.total) && event.data.total > 1", set(), id="guarded"),
        pytest.param({}, [], "event.type == 'other' && event.data.total > 1", set(), id="never asked"),
    ],
)
def test_conditions_that_would_fail_on_real_events(
    schema: Document, examples: list[Document], cel: str, expected: set[str]
):
    """daprd dead-letters an event on which a condition fails, also when another subscription would have had it."""
    kind = event_type(versions="v2:Active")
    kind["spec"]["versions"][0].update(schema=schema, examples=examples)
    assert said(planned(kind, subscription(filters=[{"cel": cel}]))) == expected
    tolerated = {item.replace("error", "warning") for item in expected}
    assert said(planned(kind, subscription(filters=[{"cel": cel}], **BEST))) == tolerated


bad = [
    subscription("bad-type", "kitchen", type="no.thing"),
    subscription("bad-cel", "kitchen", filters=[{"cel": "event.type =="}]),
    subscription("bad-version", "payments", versions=["v7"]),
    subscription("bad-kept", "stranger", startFrom="Latest"),
    event_type("orders.rowUpdated"),
]


@settings(deadline=None)  # one on a busy machine says nothing
@given(st.sets(st.integers(0, len(bad) - 1)), st.randoms())
def test_one_bad_resource_never_harms_a_good_one(chosen: set[int], order: random.Random):
    good = [event_type(), COMMAND, subscription("z"), subscription("y", "payments", **TAKES)]
    documents = [*good, *(bad[place] for place in chosen)]
    order.shuffle(documents)
    alone, mixed = planned(*good), planned(*documents)
    for name, app in alone.apps.items():
        assert mixed.apps[name].subscriptions == app.subscriptions
        assert mixed.apps[name].resiliency == app.resiliency
        assert mixed.apps[name].policy == app.policy


pool = [
    *(event_type(), event_type(versions="v1:Active v2:Retired"), COMMAND, ARCHIVE),
    subscription("letters", "archive", pattern="deadletter.*", versions=[]),
    *(subscription("one"), subscription("one", "other"), subscription("two", **WEB, **at("/two"))),
    *(subscription("pay", "payments", **TAKES), subscription("rival", "other", **TAKES)),
]


def told(app: AppPlan) -> tuple[Any, ...]:
    """Return everything but the fixes: suggestions depend on all types."""
    findings = [(item.severity, item.rule, item.message) for item in app.findings]
    return app.subscriptions, app.resiliency, app.policy, app.reads, app.publishes, findings


@given(st.lists(st.tuples(st.booleans(), st.integers(0, len(pool) - 1)), max_size=14))
def test_an_inventory_that_grew_by_changes_plans_as_a_fresh_one(steps: list[tuple[bool, int]]):
    """Plan as the operator does: only the apps that a change touched."""

    grown, kept = Inventory(), dict[tuple[str, str], AppPlan]()
    for is_put, place in steps:
        resource, _ = parse_resource(pool[place])
        assert resource is not None
        touched = grown.put(resource) if is_put else grown.remove(resource.kind, resource.key)
        for app in touched:
            kept.pop(app, None)
            if app in grown.apps:
                kept[app] = plan_app(app, grown, TODAY)
    fresh = plan(Inventory([*grown.types.values(), *grown.subscriptions.values()]), TODAY)
    assert {name: told(kept["default", name]) for name in fresh.apps} == {
        name: told(app) for name, app in fresh.apps.items()
    }
    assert len(kept) == len(fresh.apps)


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._{}-]{0,300}", fullmatch=True), st.sampled_from(["pubsub", "other"]))
def test_names_of_dapr_subscriptions_are_kubernetes_names(topic: str, pubsub: str):

    name = subscription_name("kitchen", pubsub, topic)
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*", name)
    assert len(name) <= 253


def test_names_of_dapr_subscriptions_differ_where_topics_do():
    topics = [
        "a.orderConfirmed.v1",
        "a.orderconfirmed.v1",
        "a.order-confirmed.v1",
        "a.order_confirmed.v1",
        "a.OrderConfirmed.v1",
    ]
    names = {subscription_name("kitchen", pubsub, topic) for topic in topics for pubsub in ("pubsub", "other")}
    assert len(names) == 10
    assert "kitchen.a.order-confirmed.v1" in names


@pytest.mark.parametrize(
    ("kit", "serial_in", "keeper"),
    [
        (True, None, "kit"),
        (True, "", "kit"),
        (False, None, "none"),
        (False, "", "daprd"),
        (False, "default", "daprd"),
        (False, "other", "none"),
    ],
)
def test_a_component_that_brings_one_at_a_time_keeps_every_bound_on_concurrency(
    kit: bool, serial_in: str | None, keeper: str
):
    consumer = {"appId": "kitchen", "owner": "kitchen", "kit": kit}
    documents = [event_type(), subscription(maxConcurrency=4, consumer=consumer, enforcement="BestEffort")]
    inventory = Inventory(item for document in documents if (item := parse_resource(document)[0]))
    if serial_in is not None:
        inventory.set_delivery(serial_in, "pubsub", Delivery(serial=True))
    assert plan(inventory, TODAY).apps["kitchen"].enforcement["one"]["maxConcurrency"] == keeper


def parallel_plan(components: int, *wishes: Document) -> AppPlan:
    """Return the plan of an app on as many components as share the broker's consumer."""
    inventory = Inventory(item for document in (event_type(), *wishes) if (item := parse_resource(document)[0]))
    names = ["pubsub", *(f"pubsub-{number}" for number in range(1, components))]
    for name in (*names, "pubsub-7"):
        inventory.set_delivery("", name, Delivery(serial=True, settings="equal"))
    return plan(inventory, TODAY).apps["kitchen"]


@pytest.mark.parametrize(
    ("components", "wish", "used", "rules"),
    [
        pytest.param(4, {}, 1, set(), id="nothing is asked for"),
        pytest.param(4, {"maxConcurrency": 3}, 3, set(), id="asked for"),
        pytest.param(4, {"maxConcurrency": 3, "ordering": {"mode": "Key"}}, 1, set(), id="order"),
        pytest.param(2, {"maxConcurrency": 3}, 2, {"too-few-components"}, id="too few"),
        pytest.param(1, {"maxConcurrency": 3}, 1, {"too-few-components"}, id="one"),
    ],
)
def test_a_topic_is_read_through_as_many_components_as_events_may_be_under_way(
    components: int, wish: dict[str, Any], used: int, rules: set[str]
):
    actual = parallel_plan(components, subscription(**wish))
    topics = {
        item["spec"]["pubsubname"] for item in actual.subscriptions if "order-confirmed" in item["metadata"]["name"]
    }
    assert topics == {"pubsub", *(f"pubsub-{number}" for number in range(1, used))}
    assert {item.rule for item in actual.findings if item.rule == "too-few-components"} == rules
    assert actual.resiliency is not None
    targets = actual.resiliency["spec"]["targets"]["components"]
    assert targets.keys() == topics, "the same policies hold on each"
    assert all(target == targets["pubsub"] for target in targets.values())
    for pubsub in topics - {"pubsub"}:
        assert actual.reads[pubsub] == tuple(item for item in actual.reads["pubsub"] if not item.startswith("replay."))
        assert actual.publishes[pubsub] == ("deadletter.kitchen",), "daprd dead-letters where the event came from"


def test_of_several_subscriptions_to_a_topic_the_widest_counts_unless_one_wants_order():
    def wish(name: str, **spec: Any) -> Document:
        return subscription(name, filters=[{"exact": {"subject": name}}], routes={"default": f"/{name}"}, **spec)

    wide, narrow = wish("wide", maxConcurrency=3), wish("narrow", maxConcurrency=2)
    ordered = wish("ordered", maxConcurrency=2, ordering={"mode": "Key"})
    assert len(parallel_plan(4, wide, narrow).parallel) == 2
    assert not parallel_plan(4, wide, ordered).parallel


def test_components_with_other_settings_do_not_share_a_consumer():
    inventory = Inventory()
    for name, equal in (("pubsub", "one"), ("pubsub-1", "one"), ("pubsub-2", "other")):
        inventory.set_delivery("", name, Delivery(settings=equal))
    inventory.set_delivery("shop", "pubsub", Delivery(settings="one"))
    assert inventory.parallel("default", "pubsub") == ["pubsub", "pubsub-1"]


def test_nothing_is_kept_of_components_that_are_gone():
    inventory = Inventory()
    for number in range(100):  # names are the choice of whoever may create Components
        inventory.set_delivery("shop", f"pubsub-{number}", Delivery(serial=True))
        inventory.set_delivery("shop", f"pubsub-{number}", Delivery())
    assert not any(inventory._deliveries.values())


def spread_plan(components: int, topics: int) -> AppPlan:
    """Return the plan of an app that reads several topics, on components that deliver several events at once."""
    kinds = [event_type(f"orders.thing{number}Done") for number in range(topics)]
    wishes = [subscription(f"on-{number}", type=f"orders.thing{number}Done") for number in range(topics)]
    inventory = Inventory(item for document in (*kinds, *wishes) if (item := parse_resource(document)[0]))
    names = ["pubsub", *(f"pubsub-{number}" for number in range(1, components))]
    for name in names:
        inventory.set_delivery("", name, Delivery(concurrent=True, settings="equal"))
    return plan(inventory, TODAY).apps["kitchen"]


@pytest.mark.parametrize(("components", "topics"), [(1, 3), (2, 3), (4, 2), (8, 6), (4, 9)])
def test_each_topic_is_read_through_a_component_of_its_own_and_none_through_the_one_that_publishes(
    components: int, topics: int
):
    actual = spread_plan(components, topics)
    used = Counter(item["spec"]["pubsubname"] for item in actual.subscriptions)
    read = {item["spec"]["topic"] for item in actual.subscriptions}
    assert used.total() == len(read) == topics + 1, "and the replays"
    assert ("pubsub" in used) == (components == 1)
    assert max(used.values()) == -(-used.total() // max(components - 1, 1)), "as evenly as possible"
    assert actual.reads["pubsub"] == tuple(sorted(read))
    assert actual.resiliency is not None
    targets = actual.resiliency["spec"]["targets"]["components"]
    assert targets.keys() == {"pubsub", *used}
    assert all(target == targets["pubsub"] for target in targets.values())
    for pubsub in used:
        assert "deadletter.kitchen" in actual.publishes[pubsub], "daprd dead-letters where the event came from"


def test_most_topics_keep_their_component_when_one_is_added():
    names = ["pubsub", *(f"pubsub-{number}" for number in range(1, 32))]
    topics = [f"orders.thing{number}Done.v1" for number in range(12)]
    before, after = spread(topics, names), spread([*topics, "a.first.v1"], names)
    assert sum(before[topic] != after[topic] for topic in topics) <= 2


SEVERAL: Document = subscription("way", "tracking", rateLimit={"eventsPerSecond": 5})
SEVERAL["spec"]["events"] = [
    {"type": "orders.orderConfirmed", "versions": ["v2"]},
    {"type": "orders.orderPlaced", "versions": ["v1"], "filters": [{"exact": {"data.channel": "web"}}]},
    {"type": "orders.orderCancelled", "versions": ["v9"]},
    {"pattern": "kitchen.*"},
]
KINDS_OF_EVENTS = [
    event_type(),
    event_type("orders.orderPlaced", "v1:Active"),
    event_type("orders.orderCancelled", "v1:Active"),
    event_type("kitchen.pizzaBaked", "v1:Active"),
]


def test_a_subscription_of_several_events_shares_its_settings_and_loses_only_the_entry_with_an_error():
    actual = planned(*KINDS_OF_EVENTS, SEVERAL)
    app = actual.apps["tracking"]
    assert [(item.rule, item.location.field) for item in actual.findings if item.severity == "error"] == [
        ("unknown-version", "spec.events[2].versions[0]")
    ]
    assert app.events == {
        "way": {
            0: (("pubsub", "orders.orderConfirmed.v2"),),
            1: (("pubsub", "orders.orderPlaced.v1"),),
            3: (("pubsub", "kitchen.pizzaBaked.v1"),),
        }
    }
    routes = {item["spec"]["topic"]: item["spec"]["routes"] for item in app.subscriptions}
    assert "rules" in routes["orders.orderPlaced.v1"]
    assert "rules" not in routes["orders.orderConfirmed.v2"]
    assert {(entry.name, entry.rate_limit and entry.rate_limit.events) for entry in app.policy.subscriptions} == {
        ("way", 5)
    }


def test_an_error_in_shared_settings_rejects_every_entry():
    broken = {**SEVERAL, "spec": {**SEVERAL["spec"], "routes": {"rules": [{"match": "event.", "path": "/x"}]}}}
    actual = planned(*KINDS_OF_EVENTS, broken)
    assert actual.apps["tracking"].subscriptions == ()
    assert {item.rule for item in actual.findings if item.severity == "error"} == {"malformed-cel", "unknown-version"}


@pytest.mark.parametrize(
    ("events", "rule"),
    [
        ([{"type": "orders.orderConfirmed", "versions": ["v1"]}] * 2, "duplicate-subscription"),
        ([{"pattern": "orders.*"}, {"pattern": "*"}], "duplicate-subscription"),
        ([{"pattern": "orders.*", "versions": ["v1"]}], "versions-of-a-pattern"),
    ],
)
def test_entries_of_one_subscription_must_not_meet(events: list[Document], rule: str):
    document = {**SEVERAL, "spec": {**SEVERAL["spec"], "events": events}}
    assert f"error {rule}" in said(planned(*KINDS_OF_EVENTS, document))


def test_one_event_of_several_may_not_come_from_another_topic():
    document = {**SEVERAL, "spec": {**SEVERAL["spec"], "source": {"topic": "legacy"}}}
    assert "error source-of-several" in said(planned(*KINDS_OF_EVENTS, document))


def on_component(kind: str, *documents: Document, **given: str) -> Plan:
    actual = inventory(*documents)
    metadata = [{"name": name, "value": value} for name, value in given.items()]
    component = {"kind": "Component", "metadata": {"name": "pubsub"}, "spec": {"type": kind, "metadata": metadata}}
    add_components(actual, [component])
    return plan(actual, TODAY)


@pytest.mark.parametrize(
    ("kind", "given", "starts"),
    [
        ("pubsub.jetstream", {}, "Earliest"),
        ("pubsub.jetstream", {"deliverPolicy": "new"}, "Latest"),
        ("pubsub.jetstream", {"deliverPolicy": "sequence"}, None),
        ("pubsub.kafka", {}, "Latest"),
        ("pubsub.kafka", {"initialOffset": "oldest"}, "Earliest"),
        ("pubsub.redis", {}, "Earliest"),
        ("pubsub.rabbitmq", {}, "Latest"),
        ("pubsub.in-memory", {}, None),
        ("pubsub.mqtt3", {}, None),
        ("pubsub.pulsar", {}, None),
    ],
)
def test_a_start_position_is_what_the_component_does_or_refused(kind: str, given: dict[str, str], starts: str | None):
    for wanted in ("Earliest", "Latest"):
        actual = on_component(kind, event_type(), subscription(startFrom=wanted), **given)
        if wanted == starts:
            assert actual.apps["kitchen"].enforcement["one"]["startFrom"] == "broker"
        else:
            [refused] = [item for item in actual.findings if item.rule == "not-enforced"]
            assert (refused.severity, refused.location.field) == ("error", "spec.startFrom")
            assert "deliverPolicy" in refused.message


@pytest.mark.parametrize("kit", [True, False])
@pytest.mark.parametrize("kind", ["pubsub.jetstream", "pubsub.kafka", "pubsub.redis", "pubsub.rabbitmq", "pubsub.x"])
def test_a_suspended_subscription_leaves_its_topic(kind: str, kit: bool):
    actual = on_component(kind, event_type(), subscription(suspend=True, kit=kit))
    assert "error not-enforced" not in said(actual)
    assert actual.apps["kitchen"].enforcement["one"]["suspend"] == "daprd"
    assert "orders.orderConfirmed.v2" not in {item["spec"]["topic"] for item in actual.apps["kitchen"].subscriptions}


@pytest.mark.parametrize("kind", ["pubsub.in-memory", "pubsub.mqtt3"])
def test_suspending_is_refused_where_the_broker_keeps_nothing(kind: str):
    assert "error not-enforced" in said(on_component(kind, event_type(), subscription(suspend=True)))


def test_one_of_two_subscriptions_of_a_topic_cannot_be_suspended_alone():
    web, phone = subscription("web", **WEB, **at("/web"), suspend=True), subscription("phone", **PHONE, **at("/phone"))
    actual = planned(event_type(), web, phone)
    [refused] = [item for item in actual.findings if item.severity == "error"]
    assert (refused.rule, refused.resource) == ("suspended-alone", "EventSubscription/web")
    assert [item.topic for item in actual.apps["kitchen"].policy.subscriptions] == ["orders.orderConfirmed.v2"] * 2
    both = planned(event_type(), web, {**phone, "spec": {**phone["spec"], "suspend": True}})
    assert "error suspended-alone" not in said(both)
