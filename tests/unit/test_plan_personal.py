"""Marks of personal data: what the plan demands of them, and who may read the fields."""

import copy
from typing import Any

import pytest

from tidings_plan import Plan, plan
from tidings_plan.personal import MAX_VISITS, marked
from tidings_plan.resources import Inventory, parse_resource

PII = {"type": "string", "x-data-classification": {"category": "PII"}}
SUBJECT = {"type": "string", "x-data-subject": True}
TEXT = {"type": "string"}


def thing(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


GOOD = thing(id=TEXT, customerId=SUBJECT, name=PII)


NAMED = {"type": "orders.orderPlaced", "versions": ["v1"]}


def inventory(schema: Any, classification: str = "Personal", events: Any = NAMED) -> Inventory:
    event_type = {
        "apiVersion": "tidings.dev/v1alpha1",
        "kind": "EventType",
        "metadata": {"name": "order-placed"},
        "spec": {
            "type": "orders.orderPlaced",
            "owner": {"team": "orders"},
            "classification": classification,
            "producers": ["orders"],
            "versions": [{"name": "v1", "schema": schema}],
        },
    }
    subscription = {
        "apiVersion": "tidings.dev/v1alpha1",
        "kind": "EventSubscription",
        "metadata": {"name": "kitchen-orders"},
        "spec": {
            "consumer": {"appId": "kitchen"},
            "events": [events],
        },
    }
    result = Inventory()
    for document in (event_type, subscription):
        resource, findings = parse_resource(document)
        assert resource is not None, findings
        result.put(resource)
    return result


def said(planned: Plan, *rules: str) -> list[str]:
    return [finding.message for finding in planned.findings if finding.rule in (rules or ("personal-data",))]


def test_complete_marks_have_no_finding_and_are_detected_at_any_depth():
    deep = {
        "$defs": {"person": thing(customerId=SUBJECT, names={"type": "array", "items": PII})},
        **thing(
            customer={"anyOf": [{"$ref": "#/$defs/person"}, {"type": "null"}]},
            more={"type": "object", "additionalProperties": PII},
        ),
    }
    assert said(plan(inventory(GOOD))) == said(plan(inventory(deep))) == []
    assert sorted(map(str, marked(deep))) == ["data.customer.customerId", "data.customer.names[]", "data.more.*"]


@pytest.mark.parametrize(
    ("schema", "classification", "expected"),
    [
        (
            thing(name=TEXT),
            "Personal",
            "orders.orderPlaced is Personal, but no schema marks which fields are, and whose",
        ),
        (GOOD, "Internal", "orders.orderPlaced has personal fields, but is Internal"),
        (thing(name=PII), "Personal", "v1: data.name is personal, but no field says whose it is"),
        (
            thing(a=SUBJECT, b=SUBJECT, name=PII),
            "Personal",
            "v1: data.b and data.a are marked with x-data-subject",
        ),
        (
            thing(people={"type": "array", "items": thing(id=SUBJECT, name=PII)}),
            "Personal",
            "v1: data.people[].id is marked with x-data-subject, but can occur several times",
        ),
        (thing(id=SUBJECT | PII), "Personal", "v1: data.id is marked as personal and as the person's pseudonym"),
        (
            thing(id=SUBJECT, age=PII | {"type": "integer"}),
            "Personal",
            "v1: data.age is marked, but is not a string, or a string or null",
        ),
        (thing(id=SUBJECT | {"type": ["string", "null"]}), "Personal", "v1: data.id is marked, but is not a string"),
        (
            thing(id=SUBJECT, email=PII | {"pattern": "@"}),
            "Personal",
            "v1: data.email is personal and has pattern, which the mask of a forgotten person breaks",
        ),
    ],
)
def test_incomplete_marks_are_errors(schema: Any, classification: str, expected: str):
    planned = plan(inventory(schema, classification))
    assert said(planned) == [expected]
    assert all(f.severity == "error" and f.fix for f in planned.findings if f.rule == "personal-data")
    assert not planned.apps["kitchen"].reads  # a type with an error is not delivered


def test_a_person_without_personal_fields_is_enough():
    assert said(plan(inventory(thing(memberId=SUBJECT)))) == []


@pytest.mark.parametrize("ways", [{"type": ["string", "null"]}, {"anyOf": [TEXT, {"type": "null"}]}])
def test_a_personal_field_may_be_null(ways: dict[str, Any]):
    field = {"x-data-classification": {"category": "PII"}, **ways}
    assert said(plan(inventory(thing(id=SUBJECT, note=field)))) == []


@pytest.mark.parametrize(
    "filters",
    [
        [{"exact": {"data.name": "Ada"}}],
        [{"any": [{"prefix": {"data.name": "A"}}, {"exact": {"data.id": "1"}}]}],
        [{"not": {"suffix": {"data.name": "a"}}}],
        [{"cel": 'has(event.data.name) && event.data["name"] == "Ada"'}],
        [{"cel": 'has(event.data.lines) && event.data.lines.exists(line, line.note == "Ada")'}],
    ],
)
def test_a_filter_cannot_read_a_personal_field(filters: list[Any]):
    lines = {"type": "array", "items": thing(note=PII)}
    schema = thing(id=TEXT, customerId=SUBJECT, name=PII, lines=lines)
    messages = said(plan(inventory(schema, events={**NAMED, "filters": filters})), "filter-personal")
    assert len(messages) == 1
    assert "of orders.orderPlaced, which is personal and travels encrypted" in messages[0]


@pytest.mark.parametrize("cel", ["has(event.data.name)", 'has(event.data.id) && event.data.id == "1"'])
def test_a_filter_reads_other_fields_and_their_presence(cel: str):
    assert said(plan(inventory(GOOD, events={**NAMED, "filters": [{"cel": cel}]})), "filter-personal") == []


def test_a_pattern_reads_no_personal_field_either():
    filters = [{"exact": {"data.name": "Ada"}}]
    result = inventory(GOOD, events={"pattern": "orders.*", "filters": filters})
    assert len(said(plan(result), "filter-personal")) == 1


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (thing(id=TEXT, customerId=SUBJECT, name=TEXT), ["data.name with x-data-classification"]),
        (thing(id=SUBJECT, customerId=TEXT, name=PII), ["data.customerId with x-data-subject"]),
        (thing(id=TEXT, customerId=SUBJECT), []),  # the field is gone, and nothing of it is readable
        (thing(id=PII, customerId=SUBJECT, name=PII), []),
    ],
)
def test_a_mark_cannot_be_removed(changed: Any, expected: list[str]):
    messages = said(plan(inventory(changed), history=[inventory(GOOD)]), "incompatible-schema")
    assert messages == [f"orders.orderPlaced v1 no longer marks {item}" for item in expected]


def test_any_schema_has_a_verdict_in_bounded_time():
    recursive = {"$defs": {"node": thing(id=SUBJECT, inner={"$ref": "#/$defs/node"})}, "$ref": "#/$defs/node"}
    assert [str(field) for field in marked(recursive)] == ["data.id"]
    definitions: dict[str, Any] = {"n40": copy.deepcopy(GOOD)}
    for level in range(40):
        further = {"$ref": f"#/$defs/n{level + 1}"}
        definitions[f"n{level}"] = thing(left=further, right=further)
    wide = {"$defs": definitions, "$ref": "#/$defs/n0"}
    assert said(plan(inventory(wide)))[0] == (
        f"The schema of v1 leads to more than {MAX_VISITS} places: its marks are not all found"
    )
