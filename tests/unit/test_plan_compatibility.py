"""Changed schemas: what a change breaks, in which direction, and whose subscriptions."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidings_plan import plan
from tidings_plan.jsonschema import problems
from tidings_plan.resources import Inventory, parse_resource

TEXT, INT = {"type": "string"}, {"type": "integer"}


def thing(required: str = "", /, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": required.split(), "properties": properties}


BASE = thing("id", id=TEXT, size={"enum": ["s", "l"]}, note=TEXT)


@pytest.mark.parametrize(
    ("new", "forward", "backward"),
    [
        pytest.param(BASE, "", "", id="the same"),
        pytest.param({**BASE, "description": "said better"}, "", "", id="documentation"),
        pytest.param(
            thing("id", id=TEXT, size=BASE["properties"]["size"], note=TEXT, more=INT), "", "", id="optional added"
        ),
        pytest.param(
            thing("id more", id=TEXT, size=BASE["properties"]["size"], note=TEXT, more=INT),
            "",
            "data.more is not written at all, but the reader requires it",
            id="required added",
        ),
        pytest.param(thing("id", id=TEXT, size=BASE["properties"]["size"]), "", "", id="optional removed"),
        pytest.param(
            thing("", size=BASE["properties"]["size"], note=TEXT),
            "data.id is not written at all, but the reader requires it",
            "",
            id="required removed",
        ),
        pytest.param(
            thing("", id=TEXT, size=BASE["properties"]["size"], note=TEXT),
            "data.id may be left out by the writer, but the reader requires it",
            "",
            id="required becomes optional",
        ),
        pytest.param(
            thing("id", id=INT, size=BASE["properties"]["size"], note=TEXT),
            "data.id is integer for the writer, string for the reader",
            "data.id is string for the writer, integer for the reader",
            id="type changed",
        ),
        pytest.param(
            thing("id", id=TEXT, size={"enum": ["s", "m", "l"]}, note=TEXT),
            'data.size may be "m", which the reader does not know',
            "",
            id="value added",
        ),
        pytest.param(
            thing("id", id=TEXT, size={"const": "s"}, note=TEXT),
            "",
            'data.size may be "l", which the reader does not know',
            id="value removed",
        ),
        pytest.param(
            thing("id", id=TEXT, size=TEXT, note=TEXT),
            'data.size may have any value for the writer, only "s", "l" for the reader',
            "",
            id="enumeration opened",
        ),
        pytest.param(
            thing("id", id=TEXT, size=BASE["properties"]["size"], note={"type": ["string", "null"]}),
            "data.note may be null, which the reader does not know",
            "",
            id="null allowed",
        ),
        pytest.param(
            thing("id", id={**TEXT, "maxLength": 9}, size=BASE["properties"]["size"], note=TEXT),
            "",
            "data.id has maxLength none for the writer, 9 for the reader",
            id="bound added",
        ),
        pytest.param(
            {**BASE, "additionalProperties": False, "properties": {"id": TEXT}},
            "",
            "data.note is written, but the reader allows no further properties",
            id="closed",
        ),
    ],
)
def test_changes(new: dict[str, Any], forward: str, backward: str):
    assert forward in messages(reader=BASE, writer=new)
    assert bool(forward) == bool(messages(reader=BASE, writer=new))
    assert backward in messages(reader=new, writer=BASE)
    assert bool(backward) == bool(messages(reader=new, writer=BASE))


def messages(reader: dict[str, Any], writer: dict[str, Any]) -> str:
    return "; ".join(f"{problem.field} {problem.message}" for problem in problems(reader, writer))


def test_references_and_alternatives_are_opened():
    defined = {"$defs": {"line": thing("count", count=INT)}}
    old = {
        **defined,
        **thing("lines", lines={"type": "array", "items": {"$ref": "#/$defs/line"}}, note={"anyOf": [TEXT, INT]}),
    }
    inline = thing(
        "lines", lines={"type": "array", "items": thing("count", count=INT)}, note={"type": ["integer", "string"]}
    )
    assert messages(old, inline) == messages(inline, old) == ""
    other = thing("lines", lines={"type": "array", "items": thing("count", count=TEXT)})
    assert messages(old, other) == "data.lines[].count is string for the writer, integer for the reader"
    merged = {"allOf": [thing("a", a=TEXT), thing("b", b=TEXT)]}
    assert messages(merged, thing("a", a=TEXT)) == "data.b is not written at all, but the reader requires it"


def test_schemas_that_refer_to_themselves_end():
    tree = {
        "$defs": {"node": thing("", children={"type": "array", "items": {"$ref": "#/$defs/node"}})},
        "$ref": "#/$defs/node",
    }
    assert messages(tree, {**tree, "description": "again"}) == ""


schemas = st.recursive(
    st.sampled_from(
        [{}, TEXT, INT, {"enum": ["a", 1]}, {"type": ["string", "null"]}, {"type": "number", "minimum": 3}]
    ),
    lambda inner: st.builds(
        lambda properties, required: {"type": "object", "properties": properties, "required": sorted(required)},
        st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
        st.sets(st.sampled_from("abc")),
    ),
    max_leaves=5,
)


@given(schemas)
@settings(deadline=None)
def test_every_schema_reads_itself_and_who_asks_for_nothing_reads_all(schema: dict[str, Any]):
    assert problems(schema, schema) == problems({}, schema) == []
    assert problems(schema, {"allOf": [schema]}) == problems({"anyOf": [schema]}, schema) == []


@given(schemas, schemas)
@settings(deadline=None)
def test_a_new_optional_field_suits_both_and_a_new_required_one_only_the_old_reader(
    one: dict[str, Any], two: dict[str, Any]
):
    old, optional, required = thing("a", a=one), thing("a", a=one, b=two), thing("a b", a=one, b=two)
    assert problems(old, optional) == problems(optional, old) == problems(old, required) == []
    assert [problem.field for problem in problems(required, old)] == ["data.b"]


def inventory(versions: list[dict[str, Any]], compatibility: str = "Full", *, exists: bool = True) -> Inventory:
    kind = {
        "apiVersion": "tidings.dev/v1alpha1",
        "kind": "EventType",
        "metadata": {"name": "confirmed"},
        "spec": {
            "type": "orders.orderConfirmed",
            "owner": {"team": "sales"},
            "producers": ["orders"],
            "compatibility": compatibility,
            "versions": versions,
        },
    }
    reads = {
        "apiVersion": "tidings.dev/v1alpha1",
        "kind": "EventSubscription",
        "metadata": {"name": "kitchen-confirmed"},
        "spec": {
            "events": [{"type": "orders.orderConfirmed", "versions": ["v1"]}],
            "consumer": {"appId": "kitchen"},
        },
    }
    result = Inventory()
    for document in [kind, reads] if exists else [reads]:
        resource, findings = parse_resource(document)
        assert resource is not None, findings
        result.put(resource)
    return result


def v1(schema: Any, **more: Any) -> dict[str, Any]:
    return {"name": "v1", "schema": schema, **more}


NEEDS_MORE, WITHOUT_ID = thing("id more", id=TEXT, more=INT), thing("")
OLD = thing("id", id=TEXT)


@pytest.mark.parametrize(
    ("mode", "new", "breaks"),
    [
        *(("Full", NEEDS_MORE, True), ("Full", WITHOUT_ID, True), ("Full", thing("id", id=TEXT, more=INT), False)),
        *(("Backward", NEEDS_MORE, True), ("Backward", WITHOUT_ID, False)),
        *(("Forward", NEEDS_MORE, False), ("Forward", WITHOUT_ID, True), ("None", WITHOUT_ID, False)),
    ],
)
def test_modes(mode: str, new: dict[str, Any], breaks: bool):
    findings = plan(inventory([v1(new)], mode), history=[inventory([v1(OLD)])]).findings
    assert [item.rule for item in findings] == (["incompatible-schema"] if breaks else [])
    if breaks:
        assert "kitchen-confirmed (app kitchen)" in findings[0].message
        assert "v2 alongside v1" in findings[0].fix


@pytest.mark.parametrize(("mode", "breaks"), [("Backward", False), ("BackwardTransitive", True)])
def test_transitive_looks_at_the_whole_history(mode: str, breaks: bool):
    """`more` was once not written, then optional, now required: only the oldest state minds."""
    history = [inventory([v1(thing("id", id=TEXT))]), inventory([v1(NEEDS_MORE)])]
    findings = plan(inventory([v1(NEEDS_MORE)], mode), history=history).findings
    assert bool(findings) is breaks


def test_a_new_major_version_may_differ_and_a_draft_may_change():
    history = [inventory([v1(OLD), {"name": "v2", "schema": OLD, "state": "Draft"}])]
    now = inventory([v1(OLD), {"name": "v2", "schema": INT}])
    assert plan(now, history=history).findings == ()


def test_what_is_read_may_not_be_removed():
    history = [inventory([v1(OLD)])]
    version = plan(inventory([{"name": "v2", "schema": OLD}]), history=history)
    assert {finding.rule for finding in version.findings} == {"version-removed", "unknown-version"}
    whole = plan(inventory([], exists=False), history=history)
    assert {finding.rule for finding in whole.findings} == {"type-removed", "unknown-type"}
    assert "kitchen-confirmed" in next(finding.message for finding in whole.findings if finding.rule == "type-removed")
