"""Any object, whether or not the CRDs accept it, is evaluated, and none obtains the rights of another.

TIDINGS_HOSTILE=100000 tries that many sets of objects; a short run tries a few. The same on a real API server:
tests/operator/test_operator_property.py.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable
from datetime import date
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support import hostile, owned
from tests.support.examples import examples
from tests.support.hostile import CORPUS, Document
from tests.unit.test_plan_rights import OURS, PAID, rights

from tidings_operator import children
from tidings_plan import Plan, guarding, plan, plan_replay
from tidings_plan.jsonschema import faults
from tidings_plan.resources import EventSubscription, Inventory, parse_resource
from tidings_plan.resources.subscription import EventSelector

TODAY = date(2026, 11, 29)
TRIES = int(os.environ.get("TIDINGS_HOSTILE") or examples(60))
MOST = 2.0
"""Seconds of CPU time for the verdict on a set of objects: usual are 0.01, and the operator gives up after 1."""
SETTINGS = settings(max_examples=TRIES, deadline=None, suppress_health_check=list(HealthCheck))


def judged(documents: Iterable[Document]) -> tuple[Inventory, Plan]:
    """Read and plan, beside what belongs to others; each gets a verdict in bounded time."""
    known = Inventory()
    begun = time.process_time()
    for document in [*OURS, *documents]:
        resource, findings = parse_resource(document)
        if resource:
            known.put(resource)
        elif document.get("apiVersion") == hostile.GROUP:
            assert any(finding.severity == "error" for finding in findings), document
    result = plan(known, TODAY)
    for replay in known.replays.values():
        assert isinstance(plan_replay(replay, known), list)
    took = time.process_time() - begun
    assert took < MOST, f"{took:.2f} s for {documents}"
    assert not [finding for finding in result.findings if finding.rule == "not-judged"], "the core raised"
    return known, result


def hold(known: Inventory, actual: Plan) -> None:
    """Check that nothing with an error is programmed and no app has the rights of another."""
    refused = {finding.resource for finding in actual.findings if finding.severity == "error"}
    types, subscriptions = owned.all_of(known)
    good = [item for item in types if item.ref not in refused]
    for app in actual.apps.values():
        key = (app.namespace, app.app)
        own = [
            subscription
            for subscription in subscriptions
            if (subscription.metadata.namespace, subscription.spec.consumer.app_id) == key
        ]
        made = children.build(app, own, {item.metadata.name: "u" for item in own})
        # The ConfigMap belongs to all subscriptions of an app: a pod mounts it, whatever is in it.
        programmed = {name for item in made if item.name.kind != "ConfigMap" for name in item.subscriptions}
        programmed |= {reader.name for reader in app.policy.subscriptions}
        accepted = {name: _accepted(known.subscriptions[app.namespace, name], actual) for name in programmed}
        assert all(accepted.values()), accepted
        for reader in app.policy.subscriptions:
            assert any(event.pattern or event.type == reader.type for event in accepted[reader.name]), reader
        publishes = {topic for topics in app.publishes.values() for topic in topics}
        reads = {topic for topics in app.reads.values() for topic in topics}
        wrong = list(owned.wrongs(key, publishes, reads, good, own))
        assert not wrong, wrong
    for scopes in actual.scopes.values():
        for entry in (*scopes.publishing.split(";"), *scopes.subscription.split(";")):
            name, _, topics = entry.partition("=")
            assert name == "" or name.replace("-", "").isalnum()
            assert all(set(topic) <= set("-._") | set(map(chr, range(48, 123))) for topic in topics.split(","))
    for replay in known.replays.values():
        home, target = replay.metadata.namespace, replay.spec.target.namespace
        if target not in ("", home):
            assert any(item.severity == "error" for item in plan_replay(replay, known))


def _accepted(subscription: EventSubscription, actual: Plan) -> list[EventSelector]:
    """Return the entries without an error; none if the error is in what the entries share."""
    errors = [
        finding for finding in actual.findings if (finding.severity, finding.resource) == ("error", subscription.ref)
    ]
    entries = [re.match(r"spec\.events\[(\d+)\]", error.location.field) for error in errors]
    if not all(entries):
        return []
    refused = {int(entry[1]) for entry in entries if entry}
    return [event for index, event in enumerate(subscription.spec.events) if index not in refused]


def keeps_own(actual: Plan) -> None:
    assert rights(actual, "payments") >= {PAID, "deadletter.payments"}


@pytest.mark.timeout(0)
@SETTINGS
@given(st.lists(hostile.resources(), min_size=1, max_size=6))
def test_what_the_api_server_takes_gets_a_verdict_and_no_right_that_is_not_its_own(documents: list[Document]) -> None:
    hold(*judged(documents))


@pytest.mark.timeout(0)
@SETTINGS
@given(st.lists(hostile.mutated(), min_size=1, max_size=4))
def test_what_it_does_not_take_gets_a_verdict_and_no_right_that_is_not_its_own(documents: list[Document]) -> None:
    hold(*judged(documents))


@pytest.mark.parametrize("name", CORPUS)
def test_what_has_done_harm_elsewhere_does_none_here(name: str) -> None:
    known, result = judged([CORPUS[name]])
    hold(known, result)
    keeps_own(result)


@pytest.mark.timeout(0)
@SETTINGS
@given(st.lists(st.sampled_from(sorted(CORPUS)), min_size=2, max_size=6), st.sampled_from(["default", "far"]))
def test_several_of_them_together_do_none_either(names: list[str], namespace: str) -> None:
    documents: list[Any] = []
    for place, name in enumerate(names):
        item = CORPUS[name]
        metadata = {**item["metadata"], "name": f"s{place}", "namespace": namespace}
        documents.append({**item, "metadata": metadata})
    known, result = judged(documents)
    hold(known, result)
    keeps_own(result)


WORDS = ("properties", "allOf", "anyOf", "oneOf", "not", "$defs", "$ref", "items", "enum", "required", "a")
JSON_SCHEMAS = st.recursive(
    st.sampled_from(hostile.JSON_SCHEMAS) | hostile.ANYTHING,
    lambda below: st.dictionaries(st.sampled_from(WORDS), below | st.lists(below, max_size=3), max_size=4),
    max_leaves=12,
)


@pytest.mark.timeout(0)
@SETTINGS
@given(JSON_SCHEMAS)
def test_any_schema_has_a_list_of_faults_in_bounded_time(schema: Any) -> None:
    begun = time.process_time()
    if isinstance(schema, dict):
        list(faults(schema))
    assert time.process_time() - begun < MOST


def test_the_oracle_notices_rights_that_are_anothers() -> None:
    known, _ = judged([])
    types, subscriptions = owned.all_of(known)
    stolen = (
        ("default", "evil"),
        {PAID, "deadletter.payments", "replay.payments", "old-things"},
        {PAID.upper(), "tidings.x"},
    )
    wrong = list(owned.wrongs(*stolen, types, subscriptions))
    assert len(wrong) == 5, wrong


@pytest.mark.parametrize("guests", [[], ["far"], ["*"], ["other"]])
def test_the_oracle_notices_topics_of_others_where_namespaces_share_a_broker(guests: list[str]) -> None:
    reader = CORPUS[f"reads {PAID}"]
    far = {**reader, "metadata": {**reader["metadata"], "namespace": "far"}}
    shared = {**OURS[0], "metadata": {"name": "shared", "namespace": "default"}}
    shared["spec"] = {**OURS[0]["spec"], "type": "shared.thingDone", "access": {"namespaces": guests}}
    known, _ = judged([shared, far])
    types, subscriptions = owned.all_of(known)
    wrong = list(owned.wrongs(("far", "evil"), (), [PAID], types, subscriptions))
    assert bool(wrong) is ("far" in guests or "*" in guests)


def test_an_object_has_a_bounded_number_of_findings() -> None:
    """64 filters of 64 conditions each: what is said of it goes into its status, and into a refusal."""
    filters = [{"any": [{"cel": "event.a ==="}] * 64}] * 64
    crowded = hostile._subscription(filters=filters)
    _, result = judged([crowded])
    own = [finding for finding in result.findings if finding.resource == "EventSubscription/s0"]
    assert len(own) <= guarding.MOST + 1
    assert own[0].severity == "error"
    assert "more findings are omitted" in own[-1].message
