"""Compatible pairs of schemas: the reader's schema accepts every document that the writer's allows.

`FUZZ_PAIRS=2500 pytest tests/fuzz/test_fuzz_compatibility.py` draws more. Documents are made from the keywords of both
schemas, near their limits; jsonschema decides which of them the writer may write.
"""

from __future__ import annotations

import os
import random
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from tests.unit import test_plan_jsonschema as examples
from tests.unit.test_plan_jsonschema import NAMES, VALUES, Schema, closed

from tidings_plan.jsonschema import faults, problems

PAIRS = int(os.environ.get("FUZZ_PAIRS", "60"))
DOCUMENTS = 40
NUMBERS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
APPLICATORS = ("allOf", "anyOf", "oneOf", "if", "then", "else", "not")
REFERENCE = {"$ref": "#/$defs/r"}


class Documents:
    """Documents that a schema probably allows, or nearly."""

    def __init__(self, root: Schema, draw: random.Random) -> None:
        self.root = root
        self.draw = draw

    def of(self, schema: Schema, depth: int = 0) -> Any:
        if depth > 6 or not isinstance(schema, dict):
            return self.draw.choice(VALUES)
        if "$ref" in schema:
            return self.of(self.root["$defs"]["r"], depth + 1)
        if allowed := [*schema.get("enum", ()), *([schema["const"]] if "const" in schema else [])]:
            return self.draw.choice(allowed)
        parts = [part for name in APPLICATORS if name in schema for part in _listed(schema[name])]
        parts += schema.get("dependentSchemas", {}).values()
        if parts and (self.draw.random() < 0.5 or not schema.keys() - {*APPLICATORS, "dependentSchemas"}):
            return self._together(schema, parts, depth)
        return self._typed(schema, depth)

    def _together(self, schema: Schema, parts: list[Schema], depth: int) -> Any:
        whole = self.of(self.draw.choice(parts), depth + 1)
        for part in parts if isinstance(whole, dict) else ():
            more = self._typed(schema, depth) if self.draw.random() < 0.3 else self.of(part, depth + 1)
            if isinstance(more, dict) and self.draw.random() < 0.6:
                whole = {**whole, **more}  # a new one: this one may be a value of the schema itself
        return whole

    def _typed(self, schema: Schema, depth: int) -> Any:
        name = self.draw.choice(_listed(schema.get("type") or _types(schema)))
        if name in ("integer", "number"):
            near = self.draw.choice([schema[limit] for limit in NUMBERS if limit in schema] or [0, 1, 2, 5])
            number = near + self.draw.choice([0, 0, 1, -1, 2, 0.5, -0.5, 1e-9, 10])
            return int(number) if name == "integer" else number
        if name == "string":
            return "".join(self.draw.choice("abc1") for _ in range(self._size(schema, "Length", 2)))
        if name == "array":
            return self._list(schema, depth)
        return self._object(schema, depth) if name == "object" else self.draw.choice([None, True, False])

    def _size(self, schema: Schema, what: str, usual: int) -> int:
        limits = [schema[f"{end}{what}"] for end in ("min", "max") if f"{end}{what}" in schema] or [usual]
        return int(max(0, self.draw.choice(limits) + self.draw.choice([0, 0, 1, -1, 2])))

    def _list(self, schema: Schema, depth: int) -> list[Any]:
        first = schema.get("prefixItems", [])
        rest = [schema[name] for name in ("items", "contains", "unevaluatedItems") if name in schema] or [{}]
        length = self._size(schema, "Items", len(first))
        return [
            self.of(first[place] if place < len(first) else self.draw.choice(rest), depth + 1)
            for place in range(length)
        ]

    def _object(self, schema: Schema, depth: int) -> dict[str, Any]:
        properties, required = schema.get("properties", {}), schema.get("required", [])
        rest = [*schema.get("patternProperties", {}).values()]
        rest += [schema[name] for name in ("additionalProperties", "unevaluatedProperties") if name in schema]
        names = [name for name in (*properties, *NAMES, "aa", "z") if self.draw.random() < 0.4]
        needed = {other for name in names for other in schema.get("dependentRequired", {}).get(name, ())}
        return {
            name: self.of(properties.get(name, self.draw.choice([*rest, {}])), depth + 1)
            for name in dict.fromkeys((*required, *names, *sorted(needed)))
        }


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _types(schema: Schema) -> list[str]:
    """Return the types that a schema without `type` says something about."""
    said = {
        "number": schema.keys() & {*NUMBERS},
        "string": schema.keys() & {"minLength", "maxLength", "pattern"},
        "object": [name for name in schema if "ropert" in name or name in ("required", "dependentRequired")],
        "array": [name for name in schema if "Items" in name or name in ("items", "contains")],
    }
    return [name for name, keywords in said.items() if keywords] or ["null", "boolean", "integer", *said]


def grown(inner: st.SearchStrategy[Schema]) -> st.SearchStrategy[Schema]:
    """Add the keywords, references and boolean schemas that `examples.schemas` does not draw."""
    part = inner | st.just(REFERENCE)
    small = st.integers(0, 3)
    named = st.dictionaries(st.sampled_from(NAMES), part | st.booleans(), max_size=3)
    objects = {
        "properties": named,
        "required": st.lists(st.sampled_from(NAMES), unique=True, max_size=2),
        "unevaluatedProperties": st.just(False) | part,
        "additionalProperties": part | st.booleans(),
        "patternProperties": st.dictionaries(st.sampled_from(("^a", "b$")), part, max_size=2),
        "maxProperties": small,
        "propertyNames": st.sampled_from(({"enum": ["a", "b"]}, {"minLength": 2})),
        "dependentRequired": st.sampled_from([{"a": ["b"]}, {"b": ["a", "c"]}]),
    }
    counts = dict.fromkeys(("minItems", "maxItems", "minContains", "maxContains"), small)
    arrays = {"items": part | st.booleans(), "contains": part, "unevaluatedItems": st.just(False) | part, **counts}
    some = st.lists(part, min_size=1, max_size=3)
    mixed = {"allOf": some, "anyOf": some, "oneOf": some, "not": part, "if": part, "then": part, "else": part}
    return st.one_of(
        st.fixed_dictionaries({"type": st.just("object")}, optional=objects),
        st.fixed_dictionaries({"type": st.just("array")}, optional=arrays),
        st.fixed_dictionaries({}, optional={**mixed, "properties": named, "required": objects["required"]}),
    )


schemas = st.recursive(examples.schemas, grown, max_leaves=6).filter(lambda schema: isinstance(schema, dict))


@given(examples.changes(schemas), schemas, schemas, st.integers(0, 2**32))
@settings(max_examples=PAIRS, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_document_of_a_compatible_writer_is_refused(
    pair: tuple[Schema, Schema], one: Schema, other: Schema, seed: int
) -> None:
    # Definitions say themselves what is closed: a reference within `not` or `if` means the open schema.
    one, other = closed(one), closed(other)
    shared = one if seed % 2 else other
    writer, reader = {**pair[0], "$defs": {"r": one}}, {**pair[1], "$defs": {"r": shared}}
    if faults(writer) or faults(reader) or problems(reader, writer):
        return
    written = {**closed(pair[0]), "$defs": {"r": one}}
    writes, accepts = Draft202012Validator(written), Draft202012Validator(reader)
    draw = random.Random(seed)
    for number in range(DOCUMENTS):
        schema = written if number % 3 else reader
        document = Documents(schema, draw).of(schema)
        assert not writes.is_valid(document) or accepts.is_valid(document), document
