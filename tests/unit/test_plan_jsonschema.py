"""Compatibility of schema changes for readers: examples by kind, those of registries, and an oracle."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from tests.support.examples import examples

from tidings_plan.jsonschema import faults, problems
from tidings_plan.jsonschema.document import MAX_DEPTH, MAX_VALUES

Schema = Any
DATA = Path(__file__).parent / "data" / "compatibility"
DRAFT_7 = "http://json-schema.org/draft-07/schema#"
TEXT, INT, NUMBER = {"type": "string"}, {"type": "integer"}, {"type": "number"}


def field(schema: Schema) -> Schema:
    return {"type": "object", "properties": {"a": schema}, "required": ["a"]}


def defined(name: str, schema: Schema) -> Schema:
    return {"$ref": f"#/{name}/Line", name: {"Line": schema}}


def reads(reader: Schema, writer: Schema) -> bool:
    return not problems(reader, writer)


def category(place: str) -> Schema:
    both = {name: {"$ref": f"#/{place}/Category"} for name in ("parent", "firstChild")}
    kind = {"type": "object", "properties": {"name": TEXT, **both}}
    return {"$ref": f"#/{place}/Category", place: {"Category": kind}}


@pytest.mark.parametrize(
    ("old", "new", "forward", "backward"),
    [
        pytest.param(
            field({"allOf": [{**TEXT, "maxLength": 5}, {"maxLength": 10}]}),
            field({**TEXT, "maxLength": 10}),
            *(False, True),
            id="two limits, the stricter first",
        ),
        pytest.param(
            field({"type": "object", "dependentRequired": {"x": ["y"]}}),
            field({"type": "object", "dependentRequired": {"x": ["z"]}}),
            *(False, False),
            id="dependentRequired",
        ),
        pytest.param(
            {"type": "object", "additionalProperties": INT},
            {"type": "object", "additionalProperties": TEXT},
            *(False, False),
            id="values of a map",
        ),
        pytest.param(
            defined("$defs", {"properties": {"quantity": INT}}),
            defined("$defs", {"properties": {"quantity": TEXT}}),
            *(False, False),
            id="equal references into different documents",
        ),
        pytest.param(field({"enum": [1]}), field({"enum": [True]}), False, False, id="1 and true"),
        pytest.param(
            {"properties": {"a": INT}},
            {"properties": {"a": {"oneOf": [INT, NUMBER]}}},
            False,
            False,
            id="oneOf overlaps",
        ),
        pytest.param(
            field({"type": "array", "prefixItems": [TEXT]}),
            field({"type": "array", "prefixItems": [INT]}),
            *(False, False),
            id="prefixItems",
        ),
        pytest.param(category("definitions"), category("$defs"), True, True, id="recursive, renamed"),
    ],
)
def test_reported_kinds(old: Schema, new: Schema, forward: bool, backward: bool):
    assert reads(reader=old, writer=new) is forward
    assert reads(reader=new, writer=old) is backward


@pytest.mark.parametrize(
    ("reader", "writer", "is_compatible"),
    [
        *(({"const": 1}, {"const": 1.0}, True), ({"enum": ["a", "b"]}, {"enum": ["b", "a"]}, True)),
        *(({"enum": [0]}, {"const": False}, False), ({"enum": [[1]]}, {"const": [True]}, False)),
        *((NUMBER, INT, True), (INT, NUMBER, False), (INT, {"type": "number", "multipleOf": 2}, False)),
        *(({"type": ["string", "null"]}, TEXT, True), (TEXT, {"type": ["string", "null"]}, False)),
        *(
            ({"type": ["string", "null"]}, {"anyOf": [{"type": "null"}, TEXT]}, True),
            ({"enum": [None]}, {"type": "null"}, True),
        ),
        *(({"enum": [True, False]}, {"type": "boolean"}, True), ({"const": True}, {"type": "boolean"}, False)),
        ({"minimum": 5}, {"type": "integer", "exclusiveMinimum": 4}, True),
        ({"minimum": 5}, {"type": "number", "exclusiveMinimum": 4}, False),
        ({"exclusiveMaximum": 5}, {"type": "integer", "maximum": 4}, True),
        ({"type": "number", "multipleOf": 0.1}, {"type": "number", "multipleOf": 0.3}, True),
        ({"type": "number", "multipleOf": 2}, INT, False),
        ({"minProperties": 2}, {"type": "object", "required": ["a", "b"], "properties": {"a": {}, "b": {}}}, True),
        ({"type": "object", "minProperties": 1}, {"type": "object", "properties": {"a": TEXT}}, False),
        ({"type": "array", "uniqueItems": True}, {"type": "array"}, False),
        ({"type": "array", "uniqueItems": True}, {"type": "array", "maxItems": 1}, True),
        ({"type": "string", "format": "date"}, TEXT, False),
        ({"type": "string", "pattern": "^a"}, {"type": "string", "pattern": "^ab"}, False),
        ({"type": "string", "pattern": "^a"}, {"enum": ["ab", "ac"]}, True),
        ({"type": "string", "contentEncoding": "base64"}, TEXT, False),
        (defined("$defs", {**TEXT, "maxLength": 5}) | {"maxLength": 9}, {**TEXT, "maxLength": 9}, False),
        ({**TEXT, "maxLength": 5}, defined("$defs", {**TEXT, "maxLength": 5}) | {"maxLength": 9}, True),
        ({"type": "array", "items": INT}, {"type": "array", "prefixItems": [INT], "items": False}, True),
        ({"type": "array", "items": INT}, {"type": "array", "prefixItems": [INT]}, False),
        ({"type": "array", "contains": NUMBER}, {"type": "array", "contains": INT}, True),
        ({"type": "array", "contains": INT}, {"type": "array", "items": INT, "minItems": 1}, True),
        ({"type": "array", "contains": INT}, {"type": "array"}, False),
        ({"type": "array", "contains": INT, "maxContains": 1}, {"type": "array", "contains": INT}, False),
        ({"type": "object", "propertyNames": {"maxLength": 2}}, {"type": "object", "properties": {"abc": TEXT}}, False),
        ({"type": "object", "propertyNames": {"maxLength": 2}}, {"type": "object", "properties": {"ab": TEXT}}, True),
        ({"patternProperties": {"^S_": TEXT}}, {"patternProperties": {"^S_": INT}}, False),
        ({"properties": {"S_a": TEXT}}, {"patternProperties": {"^S_": INT}}, False),
        ({"patternProperties": {"^S_": TEXT}}, {"properties": {"S_a": INT}}, False),
        ({"patternProperties": {"^S_": TEXT}}, {"properties": {"T_a": INT}}, True),
        ({"patternProperties": {"(?=S)": TEXT}}, {"properties": {"T_a": INT}}, False),
        ({"dependentSchemas": {"a": {"required": ["b"]}}}, {"properties": {"a": TEXT, "b": TEXT}}, False),
        ({"dependentSchemas": {"a": {"required": ["b"]}}}, {"dependentRequired": {"a": ["b"]}}, True),
        ({"dependentSchemas": {"z": {"required": ["b"]}}}, {"properties": {"a": TEXT, "b": TEXT}}, True),
        ({"not": TEXT}, INT, True),
        ({"not": {"type": "string", "maxLength": 3}}, {"not": TEXT}, True),
        ({"not": {"properties": {"a": {"const": 1}}}}, {"not": {"properties": {"a": {"const": 2}}}}, False),
        ({"if": TEXT, "then": {"maxLength": 5}}, {"if": TEXT, "then": {"maxLength": 9}}, False),
        ({"if": TEXT, "then": {"maxLength": 5}}, {"if": TEXT, "then": {"maxLength": 3}}, True),
        ({"if": INT, "then": {"minimum": 5}}, TEXT, True),
        ({"properties": {"a": INT}, "unevaluatedProperties": False}, {"properties": {"a": INT, "b": INT}}, False),
        ({"allOf": [{"properties": {"b": INT}}], "unevaluatedProperties": False}, {"properties": {"b": INT}}, True),
        ({"$dynamicRef": "#x", "$defs": {"x": {"$dynamicAnchor": "x", **TEXT}}}, TEXT, False),
        ({"strictness": "high"}, {"strictness": "low"}, False),
        ({"x-owner": "sales"}, {"x-owner": "kitchen"}, True),
        ({"additionalProperties": TEXT}, {"type": "object"}, False),
        ({"properties": {"a": TEXT}}, {"type": "object", "additionalProperties": True}, False),
        ({"properties": {"a": TEXT}}, {"type": "object", "properties": {}}, True),
    ],
)
def test_kinds(reader: Schema, writer: Schema, is_compatible: bool):
    assert reads(reader, writer) is is_compatible
    assert reads(reader, reader)
    assert reads(writer, writer)


KINDS = {"card": {"n": TEXT}, "cash": {"n": TEXT, "till": INT}}


def dynamic(target: Schema, reference: str = "#x", **rest: Any) -> Schema:
    return {"$dynamicRef": reference, "$defs": {"x": {"$dynamicAnchor": "x", **target}}, **rest}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param(dynamic(TEXT), dynamic(INT), id="target changed"),
        pytest.param(dynamic(TEXT, "#/$defs/x"), dynamic(INT, "#/$defs/x"), id="by pointer"),
        pytest.param(
            {"properties": {"a": dynamic(TEXT)}}, {"properties": {"a": dynamic(INT)}}, id="definitions inside"
        ),
        pytest.param(
            {"properties": {"a": {"$dynamicRef": "#x"}}, "$defs": dynamic(TEXT)["$defs"]},
            {"properties": {"a": {"$dynamicRef": "#x"}}, "$defs": dynamic(INT)["$defs"]},
            id="in a property",
        ),
        pytest.param(dynamic(dynamic(TEXT)), dynamic(dynamic(INT)), id="twice"),
    ],
)
def test_what_a_dynamic_reference_leads_to_is_part_of_the_schema(old: Schema, new: Schema):
    """Definitions are no keywords of the schema that holds them, so equal references led to different schemas."""
    assert reads(old, old)
    assert not reads(old, new)
    assert not reads(new, old)


def test_alternatives_with_a_discriminator():
    def payment(kinds: dict[str, Schema]) -> Schema:
        parts = [
            {"type": "object", "properties": {"kind": {"const": kind}, **more}, "required": ["kind"]}
            for kind, more in kinds.items()
        ]
        return {"oneOf": parts}

    old, new = payment(KINDS), payment({**KINDS, "voucher": {}})
    assert reads(new, old)
    assert [problem.message for problem in problems(old, new)] == ['may be "voucher", which the reader does not know']


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#/$defs/a~1b%25~0", "$defs": {"a/b%~": TEXT}},
        {"$ref": "#line", "$defs": {"x": {"$anchor": "line", **TEXT}}},
        {"$id": "https://a.example/x", "$ref": "y#/$defs/z", "$defs": {"q": {"$id": "y", "$defs": {"z": TEXT}}}},
        {"$ref": "#/properties/a/items", "properties": {"a": {"items": TEXT}}},
        {"$ref": "#/components/Line", "components": {"Line": TEXT}},
        {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": TEXT}},
        {"$schema": DRAFT_7, "$ref": "#line", "definitions": {"x": {"$id": "#line", **TEXT}}},
    ],
)
def test_references_of_every_form_are_followed(schema: Schema):
    assert faults(schema) == []
    assert "string for the writer" in str(problems({"$ref": "#/$defs/x", "$defs": {"x": INT}}, schema))


@pytest.mark.parametrize(
    ("schema", "path", "message"),
    [
        ({"properties": {"sku": {**TEXT, "required": True}}}, ("properties", "sku", "required"), "is no JSON Schema"),
        ({"type": "text"}, ("type",), "is no JSON Schema"),
        ({"minimum": "1"}, ("minimum",), "is no JSON Schema"),
        ({"exclusiveMinimum": True}, ("exclusiveMinimum",), "is no JSON Schema"),
        ({"$schema": "https://a.example/own"}, ("$schema",), "unknown dialect"),
        ({"$schema": 7}, ("$schema",), "unknown dialect"),
        ({"$ref": "https://a.example/x.json"}, ("$ref",), "does not hold"),
        ({"$ref": "#/$defs/missing"}, ("$ref",), "does not hold"),
        ({"$ref": "#missing"}, ("$ref",), "does not hold"),
        ({"$ref": "#/title", "title": "x"}, ("$ref",), "which is a text"),
        ({"$ref": "#/allOf/x", "allOf": [TEXT]}, ("$ref",), "is no reference"),
        ({"$ref": "#/x/y", "x": {"y": {"type": 5}}}, ("$ref", "type"), "is no JSON Schema"),
        ({"$id": "http://[", "properties": {"a": {"$ref": "b"}}}, (), "no URI"),
        ({"$ref": "#"}, (), "refers to itself"),
        ({"anyOf": [{"$ref": "#"}, TEXT]}, (), "refers to itself"),
        ({"not": {"$ref": "#"}}, (), "refers to itself"),
        ({"maximum": 10**400}, ("maximum",), "no double"),
        ({"default": float("nan")}, ("default",), "no double"),
        ({"enum": ["x"] * MAX_VALUES}, (), "more than"),
        ({"enum": list(range(600))}, ("enum",), "more than"),
        ([], (), "a list, not a schema"),
        (None, (), "null, not a schema"),
    ],
)
def test_what_is_no_schema_is_a_fault_with_its_place(schema: Schema, path: tuple[str, ...], message: str):
    result = faults(schema)
    assert [item.path for item in result][:1] == [path]
    assert message in result[0].message
    assert result[0].fix
    assert "cannot be compared, because the writer's schema" in problems(TEXT, schema)[0].message


def nested(keyword: str, levels: int) -> Schema:
    schema: Schema = TEXT
    for _ in range(levels):
        schema = {keyword: [schema] if keyword in ("allOf", "anyOf", "oneOf") else schema}
    return schema


def shared(levels: int, last: Schema) -> Schema:
    def both(level: int) -> Schema:
        return {"properties": {name: {"$ref": f"#/$defs/{level + 1}"} for name in ("a", "b")}}

    return {
        "$ref": "#/$defs/0",
        "$defs": {**{str(number): both(number) for number in range(levels)}, str(levels): last},
    }


@pytest.mark.parametrize(
    ("one", "other"),
    [
        *(
            (nested(item, MAX_DEPTH - 1), {**nested(item, MAX_DEPTH - 1), "title": "x"})
            for item in ("not", "items", "if")
        ),
        *((nested(item, 500), nested(item, 499)) for item in ("not", "allOf", "oneOf", "items")),
        (shared(30, TEXT), shared(30, INT)),
        (shared(400, TEXT), shared(400, INT)),
        (category("definitions"), {**category("$defs"), "minProperties": 1}),
        (
            {"anyOf": [{"const": number} for number in range(400)]},
            {"oneOf": [{"const": number} for number in range(1, 401)]},
        ),
        (
            {"allOf": [{"anyOf": [{"minimum": number}, {"maximum": -number}]} for number in range(40)]},
            {"allOf": [{"anyOf": [{"minimum": number}, {"maximum": 1 - number}]} for number in range(40)]},
        ),
        (
            {"properties": {"a" * 50 + "!": TEXT}, "patternProperties": {"^(a+)+$": TEXT}},
            {"patternProperties": {"^(a+)+$": INT, "(((a{1,100}){1,100}){1,100})": INT}},
        ),
        (
            {"properties": {f"a{number}": TEXT for number in range(200)}},
            {"patternProperties": {f"a{n}": INT for n in range(200)}},
        ),
    ],
)
def test_hostile_schemas_get_a_verdict(one: Schema, other: Schema):
    """They end, that is the point: without bounds, each takes longer than any test may, or ends the process."""
    assert problems(other, one) != [None]
    assert problems(one, one) == [] or faults(one)


def test_equal_documents_are_compatible_however_large():
    assert reads(shared(400, TEXT), {**shared(400, TEXT), "description": "again"})


CLOSED_WRITERS = "writers are closed: a property that the old schema does not mention was not written"
ONE_OF = "the registry takes oneOf for anyOf; a value that suits both alternatives is refused"
DIFFERENCES = {
    "confluent": {
        "open object: property renamed": CLOSED_WRITERS,
        "open object: property added": CLOSED_WRITERS,
        "oneOf becomes allOf": "of one schema, oneOf and allOf are the same; elsewhere the registry says so, too",
        "required changed": "the registry overlooks a required property that `properties` does not name",
        "additionalItems closed, without a tuple": "additionalItems means nothing without a list of items",
        "additionalItems changed, without a tuple": "additionalItems means nothing without a list of items",
    },
    "apicurio": {
        "properties 1 forward": CLOSED_WRITERS,
        "additionalProperties 1 forward": CLOSED_WRITERS,
        "patternProperties 1 forward": CLOSED_WRITERS,
        "schemaDependencies 1 forward": CLOSED_WRITERS,
        "property removed 1 forward": CLOSED_WRITERS,
        "const 2 backward": "no text is a list: neither schema allows any value",
        "const 2 forward": "no text is a list: neither schema allows any value",
        "oneOf 1 backward": ONE_OF,
        "oneOf 3 backward": ONE_OF,
    },
}


def registry_cases(registry: str) -> Iterator[tuple[str, Schema, Schema, bool]]:
    """Yield name, reader, writer and the registry's verdict; data/compatibility/README.md names the sources."""
    for line in (DATA / f"{registry}.jsonl").read_text(encoding="utf-8").splitlines():
        name, old, new, verdict = json.loads(line)
        old, new = (item if isinstance(item, bool) else {"$schema": DRAFT_7, **item} for item in (old, new))
        if isinstance(verdict, bool):
            yield name, new, old, verdict
        else:
            yield f"{name} backward", new, old, verdict in ("backward", "both")
            yield f"{name} forward", old, new, verdict in ("forward", "both")


def modern(schema: Schema) -> Schema:
    """Say in draft 2020-12 what draft 7 says."""
    if isinstance(schema, list):
        return [modern(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    result = {name: item if name in ("enum", "const") else modern(item) for name, item in schema.items()}
    if isinstance(result.get("items"), list):
        result["prefixItems"] = result.pop("items")
        result["items"] = result.pop("additionalItems", True)
    for name, entry in result.pop("dependencies", {}).items():
        result.setdefault("dependentRequired" if isinstance(entry, list) else "dependentSchemas", {})[name] = entry
    return {name: item for name, item in result.items() if name not in ("$schema", "additionalItems")}


@pytest.mark.parametrize(("registry", "count"), [("confluent", 127), ("apicurio", 266)])
def test_verdicts_are_those_of_registries_but_for_documented_differences(registry: str, count: int):
    cases = [*registry_cases(registry)]
    differing = {name for name, reader, writer, verdict in cases if reads(reader, writer) is not verdict}
    assert len(cases) == count
    assert differing == DIFFERENCES[registry].keys()


@pytest.mark.parametrize("registry", ["confluent", "apicurio"])
def test_an_older_dialect_means_the_same_as_the_newest(registry: str):
    for name, reader, writer, _ in registry_cases(registry):
        if "draft-04" not in str((reader, writer)) and "$id" not in name:
            assert reads(modern(reader), modern(writer)) is reads(reader, writer), name


NAMES = ("a", "b", "ab", "c")
VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 2, 5, 10, 1.5, "", "a", "ab", "abcdef", [], [1], ["a"], [1, 1], [1, "a"], [1, 2, 3]),
    *(
        {},
        {"a": 1},
        {"a": "x"},
        {"b": 1},
        {"a": 1, "b": 2},
        {"c": None},
        {"ab": 1},
        {"a": {"a": 1}},
        {"b": [1], "a": "x"},
    ),
]


def composed(inner: st.SearchStrategy[Schema]) -> st.SearchStrategy[Schema]:
    named, some = st.dictionaries(st.sampled_from(NAMES), inner, max_size=3), st.lists(inner, min_size=1, max_size=3)
    objects = {
        "properties": named,
        "required": st.lists(st.sampled_from(NAMES), unique=True, max_size=2),
        "additionalProperties": inner | st.booleans(),
        "patternProperties": st.dictionaries(st.sampled_from(("^a", "b$")), inner, max_size=1),
        "minProperties": st.integers(0, 2),
        "propertyNames": st.sampled_from(({"maxLength": 1}, {"pattern": "^a"})),
        "dependentRequired": st.just({"a": ["b"]}),
        "dependentSchemas": st.dictionaries(st.just("a"), inner, max_size=1),
    }
    arrays = {
        "items": inner,
        "prefixItems": some,
        "contains": inner,
        "minItems": st.integers(0, 2),
        "uniqueItems": st.booleans(),
    }
    mixed = {"allOf": some, "anyOf": some, "oneOf": some, "not": inner, "if": inner, "then": inner, "else": inner}
    return st.one_of(
        st.fixed_dictionaries({"type": st.just("object")}, optional=objects),
        st.fixed_dictionaries({"type": st.just("array")}, optional=arrays),
        st.fixed_dictionaries({}, optional=mixed),
    )


limits = st.sampled_from([0, 1, 1.5, 2, 5])
schemas = st.recursive(
    st.one_of(
        st.builds(
            lambda item: {"type": item}, st.sampled_from(["string", "integer", "number", "null", ["string", "null"]])
        ),
        st.builds(lambda item: {"enum": item}, st.lists(st.sampled_from(VALUES), min_size=1, max_size=4)),
        st.fixed_dictionaries(
            {}, optional={"minimum": limits, "maximum": limits, "exclusiveMinimum": limits, "multipleOf": st.just(2)}
        ),
        st.fixed_dictionaries(
            {}, optional={"minLength": st.integers(0, 3), "maxLength": st.integers(0, 3), "pattern": st.just("a")}
        ),
    ),
    composed,
    max_leaves=6,
)


def in_place(schema: Schema) -> Iterator[dict[str, Any]]:
    """Yield a schema and its parts for the same value."""
    if isinstance(schema, dict):
        yield schema
        parts = [item for name in ("allOf", "anyOf", "oneOf") for item in schema.get(name, [])]
        parts += [schema[name] for name in ("if", "then", "else") if name in schema]
        for part in (*parts, *schema.get("dependentSchemas", {}).values()):
            yield from in_place(part)


def closed(schema: Schema, *, is_whole: bool = True) -> Schema:
    """Write into a writer's schema that it writes no property which it does not mention."""
    if not isinstance(schema, dict):
        return schema
    result = dict(schema)
    for name, item in schema.items():
        if name in ("properties", "patternProperties"):
            result[name] = {inner: closed(value) for inner, value in item.items()}
        elif name in ("items", "additionalProperties"):
            result[name] = closed(item)
        elif name == "prefixItems":
            result[name] = [closed(part) for part in item]
        elif name in ("allOf", "anyOf", "oneOf"):
            result[name] = [closed(part, is_whole=False) for part in item]
        elif name in ("then", "else"):
            result[name] = closed(item, is_whole=False)
        elif name == "dependentSchemas":
            result[name] = {inner: closed(value, is_whole=False) for inner, value in item.items()}
    output = {name for part in in_place(schema) for name in part}
    if is_whole and output & {"properties", "patternProperties"} and "additionalProperties" not in output:
        names = {name for part in in_place(schema) for name in mentioned(part)}
        result["properties"] = {**dict.fromkeys(names, True), **result.get("properties", {})}
        result["unevaluatedProperties"] = False
    return result


def mentioned(schema: dict[str, Any]) -> Iterator[str]:
    yield from schema.get("required", ())
    yield from schema.get("dependentSchemas", ())
    for name, rest in schema.get("dependentRequired", {}).items():
        yield from (name, *rest)


@st.composite
def changes(draw: st.DrawFn, of: st.SearchStrategy[Schema] = schemas) -> tuple[Schema, Schema]:
    """Draw a schema and what becomes of it: another one, or the same with one part lost or replaced."""
    old = draw(of)
    if draw(st.integers(0, 3)) == 0:
        return old, draw(of)
    new = copy.deepcopy(old)
    place = draw(st.sampled_from([*in_place(new)]))
    if place:
        name = draw(st.sampled_from(sorted(place)))
        if (
            isinstance(place[name], dict)
            and name not in ("dependentRequired", "properties", "dependentSchemas")
            and draw(st.booleans())
        ):
            place[name] = draw(of)
        else:
            del place[name]
    return old, new


@given(changes(), st.data())
@settings(max_examples=examples(400), deadline=None)
def test_what_is_called_compatible_is_read(change: tuple[Schema, Schema], data: st.DataObject):
    """jsonschema is the oracle: every value that suits the writer's schema, closed, suits the reader's."""
    writer, reader = change
    assume(not faults(writer))
    assume(not faults(reader))
    assert reads(writer, writer)
    if reads(reader, writer):
        writes, accepts = Draft202012Validator(closed(writer)), Draft202012Validator(reader)
        more = data.draw(
            st.lists(st.dictionaries(st.sampled_from(NAMES), st.sampled_from(VALUES), max_size=3), max_size=5)
        )
        for value in (*VALUES, *more, *([item] for item in more)):
            assert not writes.is_valid(value) or accepts.is_valid(value), value


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ("type", "properties", "items", "$ref", "enum", "allOf", "not", "$id", "$defs", "required", "if")
            )
            | st.text(max_size=3),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)


@given(anything, anything)
@settings(max_examples=examples(300), deadline=None)
def test_any_document_gets_a_verdict(one: Any, other: Any):
    for item in (one, other):
        assert all(fault.message and fault.fix for fault in faults(item))
    assert all(problem.field.startswith("data") and problem.message for problem in problems(one, other))
