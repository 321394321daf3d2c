"""Rights follow from ownership: whatever is written, an app may publish and read only what is its own or granted.

Each test is an attack: what `evil` would get is asked of the plan, not of a finding alone.
"""

from datetime import date
from typing import Any

import pytest
from tests.unit.test_plan import Document, event_type, inventory, subscription

from tidings_plan import Plan, guarding, plan, plan_app
from tidings_plan import app as planning_of_apps
from tidings_plan.app import MAX_EVENTS, MAX_RULES
from tidings_plan.conventions import REPLAY_OUTCOMES
from tidings_plan.resources import Inventory, Selection, parse_resource

TODAY = date(2026, 11, 29)
PAYMENTS = "payments.paymentAuthorised"
PAID = f"{PAYMENTS}.v1"
OURS: list[Document] = [
    event_type("orders.orderPlaced", "v1:Active"),
    event_type(PAYMENTS, "v1:Active", producers=["payments"]),
    event_type("legacy.thingDone", "v1:Active", channel={"topic": "old-things"}, producers=["legacy"]),
    subscription("payments", "payments", type="orders.orderPlaced", versions=["v1"]),
    subscription("letters", "archive", pattern="deadletter.*", versions=[]),
]
PLACED: Document = {"type": "orders.orderPlaced", "versions": ["v1"]}


def evil(**spec: Any) -> Document:
    return subscription("evil-reads", "evil", **{**PLACED, **spec})


def planned(*documents: Document) -> Plan:
    return plan(inventory(*OURS, *documents), TODAY)


def rights(found: Plan, app: str) -> set[str]:
    each = found.apps.get(app)
    return {topic for topics in each.publishes.values() for topic in topics} if each else set()


def reading(found: Plan, app: str) -> set[str]:
    each = found.apps.get(app)
    return {topic for topics in each.reads.values() for topic in topics} if each else set()


def errors(found: Plan) -> set[tuple[str, str]]:
    return {(each.resource.rpartition("/")[2], each.rule) for each in found.findings if each.severity == "error"}


@pytest.mark.parametrize("kit", [True, False])
@pytest.mark.parametrize(
    "topic",
    [
        PAID,
        PAID.lower(),
        PAID.upper(),
        "payments.not_yet_there.v1",
        "payments_paymentAuthorised.v1",
        "old-things",
        "OLD-THINGS",
        "deadletter.payments",
        "deadletter.evil2",
        "Deadletter.payments",
        "deadletter_payments",
        "replay.payments",
        "replay.evil",
        "retry.payments",
        "archive.recordReplayOutcome.v1",
        "archive.anything",
        "tidings.anything",
        "defaultordersorders.orderPlaced.v1outbox",
    ],
)
def test_dead_letters_go_to_no_topic_of_others(topic: str, kit: bool) -> None:
    found = planned(evil(kit=kit, delivery={"deadLetter": {"topic": topic}}))
    assert ("evil-reads", "foreign-topic") in errors(found)
    assert rights(found, "evil") == reading(found, "evil") == set()
    assert not found.apps["evil"].subscriptions
    assert f"evil={topic}" not in found.scopes["pubsub"].publishing


@pytest.mark.parametrize("topic", ["deadletter.evil", "deadletter.evil.slow", "evil-failures"])
def test_an_app_may_name_dead_letters_of_its_own(topic: str) -> None:
    found = planned(evil(delivery={"deadLetter": {"topic": topic}}))
    assert not errors(found)
    assert rights(found, "evil") == {"deadletter.evil", topic, REPLAY_OUTCOMES}


def test_dead_letters_that_another_app_named_first_are_its_own() -> None:
    own: Document = {"delivery": {"deadLetter": {"topic": "failures"}}}
    found = planned(subscription("a-first", "kitchen", **PLACED, **own), evil(**own))
    assert errors(found) == {("evil-reads", "foreign-topic")}
    found = planned(subscription("a-first", "kitchen", **PLACED, **own), evil(source={"topic": "Failures"}))
    assert errors(found) == {("evil-reads", "foreign-topic")}
    found = planned(subscription("a-first", "kitchen", **PLACED, source={"topic": "failures"}), evil(**own))
    assert errors(found) == {("evil-reads", "foreign-topic")}


@pytest.mark.parametrize(
    "topic", [PAID, PAID.upper(), "old-things", "deadletter.payments", "replay.payments", "tidings.x", "archive.x"]
)
def test_a_source_is_no_way_around_access(topic: str) -> None:
    found = planned(evil(source={"topic": topic, "pubsub": "copy"}))
    assert errors(found) == {("evil-reads", "foreign-topic")}
    assert reading(found, "evil") == set()


def test_a_source_of_ones_own_or_of_the_type_is_read() -> None:
    assert reading(planned(evil(source={"topic": "elsewhere"})), "evil") == {"elsewhere", "replay.evil"}
    assert "orders.orderPlaced.v1" in reading(planned(evil(source={"topic": "orders.orderPlaced.v1"})), "evil")


@pytest.mark.parametrize(
    "topic",
    [
        PAID,
        "Payments.PaymentAuthorised.v{version}",
        "payments_paymentAuthorised.v1",
        "payments.notYetThere.v1",
        "old-things",
        "Old-Things",
        "deadletter.payments",
        "replay.payments",
        "archive.x",
        "tidings.x",
        "xoutbox",
    ],
)
def test_a_type_claims_no_channel_of_others(topic: str) -> None:
    claim = event_type("zevil.thingStolen", "v1:Active", channel={"topic": topic}, producers=["evil"])
    found = planned(claim)
    assert errors(found) == {("zevil.thingstolen", "foreign-topic")}
    assert rights(found, "evil") == set()
    assert found.channels == planned().channels


def test_a_type_that_is_older_does_not_get_the_channel_that_has_anothers_name() -> None:
    squatter = event_type("a.thingStolen", "v1:Active", channel={"topic": PAID}, producers=["evil"])
    squatter["metadata"]["creationTimestamp"] = "2001-01-01T00:00:00Z"
    found = planned(squatter)
    assert errors(found) == {("a.thingstolen", "foreign-topic")}
    assert rights(found, "payments") >= {PAID}
    assert rights(found, "evil") == set()


def test_a_type_with_an_error_grants_nothing_and_what_only_it_granted_is_revoked() -> None:
    known = inventory(*OURS, event_type("zoo.animalFed", "v1:Active", producers=["zoo"]))
    assert plan_app(("default", "zoo"), known, TODAY).publishes == {"pubsub": ("zoo.animalFed.v1",)}
    wrong, _ = parse_resource(event_type("zoo.animalFed", "v1:Active v1:Active", producers=["zoo"]))
    assert wrong
    assert ("default", "zoo") in known.put(wrong)
    assert plan_app(("default", "zoo"), known, TODAY).publishes == {}
    assert "zoo.animalFed.v1" not in plan(known, TODAY).topics


def test_the_operator_is_told_of_the_apps_whose_rights_a_topic_changes() -> None:
    custom = evil(delivery={"deadLetter": {"topic": "failures"}})
    known = inventory(*OURS, custom)
    claim, _ = parse_resource(event_type("a.thingDone", "v1:Active", channel={"topic": "failures"}, producers=["a"]))
    assert claim
    assert ("default", "evil") in known.put(claim)
    assert not plan_app(("default", "evil"), known, TODAY).publishes
    assert ("default", "evil") in known.remove("EventType", claim.key)
    assert plan_app(("default", "evil"), known, TODAY).publishes == {
        "pubsub": (REPLAY_OUTCOMES, "deadletter.evil", "failures")
    }


def elsewhere(document: Document) -> Document:
    return {**document, "metadata": {**document["metadata"], "namespace": "far"}}


def test_another_namespace_on_the_same_broker_claims_no_topic_and_no_app() -> None:
    shared = event_type("orders.orderShipped", "v1:Active", access={"namespaces": ["far"]})
    stolen = elsewhere(event_type(PAYMENTS, "v1:Active", producers=["evil"]))
    stolen["metadata"]["creationTimestamp"] = "2026-11-29T00:00:00Z"
    namesake = elsewhere(subscription("x", "payments", versions=["v1"], type="far.b"))
    apart = planned(stolen)
    assert rights(apart, "far/evil") == {PAID}, (
        "namespaces that nothing connects have brokers, or accounts, of their own"
    )
    found = planned(shared, stolen, namesake)
    assert rights(found, "far/evil") == set()
    assert {("payments.paymentauthorised", "foreign-topic"), ("x", "app-in-two-namespaces")} <= errors(found)
    assert ("payments", "app-in-two-namespaces") not in errors(found)


ONE, OTHER = frozenset({"one account"}), frozenset({"other account"})


def neighbourly(accounts: dict[str, frozenset[str]], *documents: Document) -> dict[str, str]:
    """The messages of the warnings about an account that two namespaces share, by resource."""
    known = inventory(*OURS, *documents)
    known.accounts = accounts
    found = plan(known, TODAY).findings
    return {each.resource: f"{each.message} {each.fix}" for each in found if each.rule == "shared-broker-account"}


def test_namespaces_on_one_account_that_nothing_connects_are_warned_and_told_nothing_of_each_other() -> None:
    stolen = elsewhere(event_type(PAYMENTS, "v1:Active", producers=["evil"]))
    namesake = elsewhere(subscription("x", "payments", versions=["v1"], type=PAYMENTS))
    warned = neighbourly({"default": ONE, "far": ONE | OTHER}, stolen, namesake)
    assert set(warned) == {
        "EventType/payments.paymentauthorised",
        "EventType/far/payments.paymentauthorised",
        "EventSubscription/payments",
        "EventSubscription/far/x",
    }
    for resource, said in warned.items():
        assert "far" not in said, resource
    assert neighbourly({"default": ONE, "far": OTHER}, stolen, namesake) == {}
    assert neighbourly({"default": ONE}, stolen, namesake) == {}
    apart = elsewhere(event_type("far.thingDone", "v1:Active", producers=["far"]))
    assert neighbourly({"default": ONE, "far": ONE}, apart) == {}, "what has other names does not meet"


def test_a_warning_of_a_neighbour_takes_no_right_away() -> None:
    """Anyone may write a Component: that a namespace leads to an account is no proof of anything."""
    stolen = elsewhere(event_type(PAYMENTS, "v1:Active", producers=["evil"]))
    stolen["metadata"]["creationTimestamp"] = "2001-01-01T00:00:00Z"
    known = inventory(*OURS, stolen)
    before = plan(known, TODAY)
    known.accounts = {"default": ONE, "far": ONE}
    after = plan(known, TODAY)
    assert after.scopes == before.scopes
    assert after.channels == before.channels


def test_namespaces_that_access_connects_are_held_apart_by_errors_and_not_warned() -> None:
    shared = event_type("orders.orderShipped", "v1:Active", access={"namespaces": ["far"]})
    stolen = elsewhere(event_type(PAYMENTS, "v1:Active", producers=["evil"]))
    assert neighbourly({"default": ONE, "far": ONE}, shared, stolen) == {}


@pytest.mark.parametrize("enforcement", ["Strict", "BestEffort"])
@pytest.mark.parametrize("name", ["secret.thingDone", "secret.thingDnoe", "secret.thing"])
def test_a_type_of_another_namespace_that_may_not_be_read_is_as_one_that_does_not_exist(
    name: str, enforcement: str
) -> None:
    probe = elsewhere(
        subscription(
            "probe",
            "far",
            type=name,
            namespace="default",
            versions=["v1", "v7"],
            enforcement=enforcement,
        )
    )
    hidden = event_type(
        "secret.thingDone", "v1:Deprecated v3:Active", intent="Command", owner={"team": "hidden-team"}, producers=[]
    )
    taker = subscription("taker", "hidden-app", type="secret.thingDone", versions=["v1"])

    def told(*documents: Document) -> list[str]:
        found = planned(probe, *documents)
        assert reading(found, "far/far") == set()
        return [f"{each.rule}: {each.message} {each.fix}" for each in found.findings if "probe" in each.resource]

    assert told() == told(hidden) == told(hidden, taker)
    assert "error" in {each.severity for each in planned(probe, hidden).findings if "probe" in each.resource}


def test_no_message_names_what_is_in_another_namespace() -> None:
    """Each of these meets something that another namespace owns, and is refused without its name."""
    shared = event_type("orders.orderShipped", "v1:Active", access={"namespaces": ["far"]})
    command = event_type("orders.shipOrder", "v1:Active", intent="Command", access={"namespaces": ["far"]})
    custom = event_type("orders.hiddenThing", "v1:Active", channel={"topic": "hidden-topic"})
    owner = subscription("hidden-taker", "hidden-app", **V1_SHIP)
    letters = subscription("hidden-letters", "hidden-app", **PLACED, delivery={"deadLetter": {"topic": "failures"}})
    attempts = [
        elsewhere(event_type("far.thingDone", "v1:Active", channel={"topic": "hidden-topic"}, producers=["far"])),
        elsewhere(subscription("s1", "far", **FAR_SHIP)),
        elsewhere(subscription("s2", "far", **FAR_SHIPPED, delivery={"deadLetter": {"topic": "failures"}})),
        elsewhere(subscription("s3", "far", **FAR_SHIPPED, source={"topic": "hidden-topic"})),
        elsewhere(subscription("s4", "far", **FAR_SHIPPED, source={"topic": "failures"})),
        elsewhere(subscription("s5", "hidden-app", **FAR_SHIPPED)),
    ]
    for each in attempts:
        found = planned(shared, command, custom, owner, letters, each).findings
        own = [one for one in found if "/far/" in one.resource and one.severity == "error"]
        assert own, each
        said = " ".join(f"{one.message} {one.fix}" for one in own)
        for name in ("hidden-taker", "hidden-letters", "hiddenthing", "EventType/orders", "namespace default"):
            assert name not in said, said
        if each["metadata"]["name"] != "s5":
            assert "hidden-app" not in said, said


V1_SHIP: Document = {"type": "orders.shipOrder", "versions": ["v1"]}
FAR_SHIP: Document = {**V1_SHIP, "type": "orders.shipOrder", "namespace": "default"}
FAR_SHIPPED: Document = {**V1_SHIP, "type": "orders.orderShipped", "namespace": "default"}


def test_dead_letters_are_read_by_one_app_and_in_one_namespace() -> None:
    letters: Document = {"pattern": "deadletter.*", "versions": []}
    found = planned(subscription("z", "evil", **letters))
    assert errors(found) == {("z", "dead-letters-with-two-readers")}
    assert rights(found, "evil") == reading(found, "evil") == set()
    named: Document = {"type": "deadletter.payments", "versions": []}
    assert rights(planned(subscription("z", "evil", **named)), "evil") == set()
    letters["namespace"] = "default"
    found = planned(elsewhere(subscription("z", "evil", **letters)))
    assert errors(found) == {("z", "access-denied")}
    assert rights(found, "far/evil") == set()


def test_a_pattern_reads_nothing_of_a_namespace_that_does_not_invite() -> None:
    everything: Document = {"pattern": "*", "namespace": "default", "versions": []}
    found = planned(elsewhere(subscription("z", "evil", **everything)))
    assert reading(found, "far/evil") == set()


def test_a_failing_judgement_concerns_one_object(monkeypatch: pytest.MonkeyPatch) -> None:
    real = planning_of_apps._check_selection

    def failing(each: Selection, *rest: Any) -> Any:
        if each.metadata.name == "evil-reads":
            raise RecursionError("too deep")
        return real(each, *rest)

    monkeypatch.setattr(planning_of_apps, "_check_selection", failing)
    found = planned(evil(), subscription("good", "evil", **PLACED))
    assert errors(found) == {("evil-reads", "not-judged")}
    assert "orders.orderPlaced.v1" in reading(found, "evil")
    assert guarding.MAX_REASON < 1_000


def test_a_crowd_of_subscriptions_on_one_topic_is_bounded() -> None:
    def rules(of: int) -> list[dict[str, str]]:
        return [{"match": f"event.id == '{place}'", "path": f"/{of}/{place}"} for place in range(60)]

    crowd = [
        subscription(
            f"s{place}",
            "evil",
            **PLACED,
            filters=[{"exact": {"subject": str(place)}}],
            routes={"rules": rules(place), "default": f"/d{place}"},
        )
        for place in range(5)
    ]
    found = planned(*crowd)
    routes = [each["spec"]["routes"] for each in found.apps["evil"].subscriptions if "rules" in each["spec"]["routes"]]
    assert sum(len(each["rules"]) for each in routes) <= MAX_RULES
    assert "too-many-rules" in {rule for _, rule in errors(found)}


def test_an_app_has_a_bounded_number_of_subscriptions() -> None:
    known = Inventory()
    for place in range(MAX_EVENTS + 2):
        resource, _ = parse_resource(subscription(f"s{place:05}", "evil", **PLACED))
        assert resource
        known.put(resource)
    found = plan_app(("default", "evil"), known, TODAY).findings
    assert [each.resource for each in found if each.rule == "too-many-events"] == [
        f"EventSubscription/s{place:05}" for place in (MAX_EVENTS, MAX_EVENTS + 1)
    ]


def test_a_replay_reaches_its_own_namespace_only() -> None:
    order = {
        "apiVersion": "tidings.dev/v1alpha1",
        "kind": "EventReplay",
        "metadata": {"name": "borrowed", "namespace": "evil"},
        "spec": {"target": {"subscription": "payments", "namespace": "default"}, "requestedBy": "ada@example.org"},
    }
    assert errors(planned(order)) == {("borrowed", "replay-namespace")}
    own = {**order, "metadata": {"name": "borrowed"}}
    assert not errors(planned(own))
