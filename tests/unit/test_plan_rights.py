"""Rights follow from ownership: an app may publish and read only what it owns or was granted.

Each test is an attack: what `evil` would get is asked of the plan, not of a finding alone.
"""

from datetime import date
from typing import Any

import pytest
from tests.unit.test_plan import Document, event_type, inventory, subscription

from tidings.conventions import REPLAY_OUTCOMES
from tidings_plan import Plan, guarding, plan, plan_app
from tidings_plan import app as planning_of_apps
from tidings_plan.app import MAX_EVENTS, MAX_RULES
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


def rights(actual: Plan, app: str) -> set[str]:
    item = actual.apps.get(app)
    return {topic for topics in item.publishes.values() for topic in topics} if item else set()


def reading(actual: Plan, app: str) -> set[str]:
    item = actual.apps.get(app)
    return {topic for topics in item.reads.values() for topic in topics} if item else set()


def errors(actual: Plan) -> set[tuple[str, str]]:
    return {
        (finding.resource.rpartition("/")[2], finding.rule)
        for finding in actual.findings
        if finding.severity == "error"
    }


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
def test_dead_letters_go_to_no_topic_of_other_owners(topic: str, kit: bool) -> None:
    result = planned(evil(kit=kit, delivery={"deadLetter": {"topic": topic}}))
    assert ("evil-reads", "foreign-topic") in errors(result)
    assert rights(result, "evil") == reading(result, "evil") == set()
    assert not result.apps["evil"].subscriptions
    assert f"evil={topic}" not in result.scopes["pubsub"].publishing


@pytest.mark.parametrize("topic", ["deadletter.evil", "deadletter.evil.slow", "evil-failures"])
def test_an_app_may_name_dead_letters_of_its_own(topic: str) -> None:
    result = planned(evil(delivery={"deadLetter": {"topic": topic}}))
    assert not errors(result)
    assert rights(result, "evil") == {"deadletter.evil", topic, REPLAY_OUTCOMES}


def test_dead_letters_that_another_app_named_first_are_its_own() -> None:
    own: Document = {"delivery": {"deadLetter": {"topic": "failures"}}}
    result = planned(subscription("a-first", "kitchen", **PLACED, **own), evil(**own))
    assert errors(result) == {("evil-reads", "foreign-topic")}
    result = planned(subscription("a-first", "kitchen", **PLACED, **own), evil(source={"topic": "Failures"}))
    assert errors(result) == {("evil-reads", "foreign-topic")}
    result = planned(subscription("a-first", "kitchen", **PLACED, source={"topic": "failures"}), evil(**own))
    assert errors(result) == {("evil-reads", "foreign-topic")}


@pytest.mark.parametrize(
    "topic", [PAID, PAID.upper(), "old-things", "deadletter.payments", "replay.payments", "tidings.x", "archive.x"]
)
def test_a_source_is_no_way_around_access(topic: str) -> None:
    result = planned(evil(source={"topic": topic, "pubsub": "copy"}))
    assert errors(result) == {("evil-reads", "foreign-topic")}
    assert reading(result, "evil") == set()


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
def test_a_type_claims_no_channel_of_other_owners(topic: str) -> None:
    claim = event_type("zevil.thingStolen", "v1:Active", channel={"topic": topic}, producers=["evil"])
    result = planned(claim)
    assert errors(result) == {("zevil.thingstolen", "foreign-topic")}
    assert rights(result, "evil") == set()
    assert result.channels == planned().channels


@pytest.mark.parametrize(
    ("producers", "is_allowed"), [(["archive"], True), (["evil"], False), (["archive", "evil"], False), ([], False)]
)
def test_only_the_archive_publishes_notices_to_owners(producers: list[str], is_allowed: bool) -> None:
    result = planned(event_type("tidings.versionDeprecated", "v1:Active", producers=producers))
    outcome = {rule for resource, rule in errors(result) if resource == "tidings.versiondeprecated"}
    assert outcome == (set() if is_allowed else {"bad-name", "foreign-topic"})
    assert ("tidings.versionDeprecated.v1" in rights(result, "archive")) is is_allowed
    assert "tidings.versionDeprecated.v1" not in rights(result, "evil")


def test_a_type_that_is_older_does_not_get_the_channel_that_has_anothers_name() -> None:
    squatter = event_type("a.thingStolen", "v1:Active", channel={"topic": PAID}, producers=["evil"])
    squatter["metadata"]["creationTimestamp"] = "2001-01-01T00:00:00Z"
    result = planned(squatter)
    assert errors(result) == {("a.thingstolen", "foreign-topic")}
    assert rights(result, "payments") >= {PAID}
    assert rights(result, "evil") == set()


def test_a_type_with_an_error_grants_nothing_and_what_only_it_granted_is_revoked() -> None:
    known = inventory(*OURS, event_type("zoo.animalFed", "v1:Active", producers=["zoo"]))
    assert plan_app(("default", "zoo"), known, TODAY).publishes == {"pubsub": ("zoo.animalFed.v1",)}
    wrong, _ = parse_resource(event_type("zoo.animalFed", "v1:Active v1:Active", producers=["zoo"]))
    assert wrong
    assert ("default", "zoo") in known.put(wrong)
    assert plan_app(("default", "zoo"), known, TODAY).publishes == {}
    assert "zoo.animalFed.v1" not in plan(known, TODAY).topics


def test_the_operator_knows_the_apps_whose_rights_a_topic_changes() -> None:
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
    result = planned(shared, stolen, namesake)
    assert rights(result, "far/evil") == set()
    assert {("payments.paymentauthorised", "foreign-topic"), ("x", "app-in-two-namespaces")} <= errors(result)
    assert ("payments", "app-in-two-namespaces") not in errors(result)


ONE, OTHER = frozenset({"one account"}), frozenset({"other account"})


def neighbourly(accounts: dict[str, frozenset[str]], *documents: Document) -> dict[str, str]:
    """Return the messages of the warnings about an account that two namespaces share, by resource."""
    known = inventory(*OURS, *documents)
    known.accounts = accounts
    findings = plan(known, TODAY).findings
    return {item.resource: f"{item.message} {item.fix}" for item in findings if item.rule == "shared-broker-account"}


def test_namespaces_sharing_an_account_are_warned_without_disclosing_one_another() -> None:
    stolen = elsewhere(event_type(PAYMENTS, "v1:Active", producers=["evil"]))
    namesake = elsewhere(subscription("x", "payments", versions=["v1"], type=PAYMENTS))
    warned = neighbourly({"default": ONE, "far": ONE | OTHER}, stolen, namesake)
    assert set(warned) == {
        "EventType/payments.paymentauthorised",
        "EventType/far/payments.paymentauthorised",
        "EventSubscription/payments",
        "EventSubscription/far/x",
    }
    for resource, output in warned.items():
        assert "far" not in output, resource
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

    def published(*documents: Document) -> list[str]:
        result = planned(probe, *documents)
        assert reading(result, "far/far") == set()
        return [
            f"{finding.rule}: {finding.message} {finding.fix}"
            for finding in result.findings
            if "probe" in finding.resource
        ]

    assert published() == published(hidden) == published(hidden, taker)
    assert "error" in {finding.severity for finding in planned(probe, hidden).findings if "probe" in finding.resource}


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
    for attempt in attempts:
        findings = planned(shared, command, custom, owner, letters, attempt).findings
        own = [one for one in findings if "/far/" in one.resource and one.severity == "error"]
        assert own, attempt
        output = " ".join(f"{one.message} {one.fix}" for one in own)
        for name in ("hidden-taker", "hidden-letters", "hiddenthing", "EventType/orders", "namespace default"):
            assert name not in output, output
        if attempt["metadata"]["name"] != "s5":
            assert "hidden-app" not in output, output


V1_SHIP: Document = {"type": "orders.shipOrder", "versions": ["v1"]}
FAR_SHIP: Document = {**V1_SHIP, "type": "orders.shipOrder", "namespace": "default"}
FAR_SHIPPED: Document = {**V1_SHIP, "type": "orders.orderShipped", "namespace": "default"}


def test_dead_letters_are_read_by_one_app_and_in_one_namespace() -> None:
    letters: Document = {"pattern": "deadletter.*", "versions": []}
    result = planned(subscription("z", "evil", **letters))
    assert errors(result) == {("z", "dead-letters-with-two-readers")}
    assert rights(result, "evil") == reading(result, "evil") == set()
    named: Document = {"type": "deadletter.payments", "versions": []}
    assert rights(planned(subscription("z", "evil", **named)), "evil") == set()
    letters["namespace"] = "default"
    result = planned(elsewhere(subscription("z", "evil", **letters)))
    assert errors(result) == {("z", "access-denied")}
    assert rights(result, "far/evil") == set()


def test_a_pattern_reads_nothing_of_a_namespace_that_does_not_invite() -> None:
    everything: Document = {"pattern": "*", "namespace": "default", "versions": []}
    result = planned(elsewhere(subscription("z", "evil", **everything)))
    assert reading(result, "far/evil") == set()


def test_a_failing_judgement_concerns_one_object(monkeypatch: pytest.MonkeyPatch) -> None:
    real = planning_of_apps._check_selection

    def failing(item: Selection, *rest: Any) -> Any:
        if item.metadata.name == "evil-reads":
            raise RecursionError("too deep")
        return real(item, *rest)

    monkeypatch.setattr(planning_of_apps, "_check_selection", failing)
    result = planned(evil(), subscription("good", "evil", **PLACED))
    assert errors(result) == {("evil-reads", "not-judged")}
    assert "orders.orderPlaced.v1" in reading(result, "evil")
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
    result = planned(*crowd)
    routes = [item["spec"]["routes"] for item in result.apps["evil"].subscriptions if "rules" in item["spec"]["routes"]]
    assert sum(len(route["rules"]) for route in routes) <= MAX_RULES
    assert "too-many-rules" in {rule for _, rule in errors(result)}


def test_an_app_has_a_bounded_number_of_subscriptions() -> None:
    known = Inventory()
    for place in range(MAX_EVENTS + 2):
        resource, _ = parse_resource(subscription(f"s{place:05}", "evil", **PLACED))
        assert resource
        known.put(resource)
    findings = plan_app(("default", "evil"), known, TODAY).findings
    assert [item.resource for item in findings if item.rule == "too-many-events"] == [
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
