"""Compatibility of a writer's object properties with a reader's schema."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidings_plan.jsonschema.node import Node, is_nothing
from tidings_plan.jsonschema.problem import Problem
from tidings_plan.jsonschema.values import accepts
from tidings_plan.jsonschema.ways import Way, ways
from tidings_plan.patterns import exclude, search

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tidings_plan.jsonschema.comparison import Comparison

_BY_NAME = ("properties", "patternProperties", "additionalProperties", "unevaluatedProperties")
KEYWORDS = (*_BY_NAME, "propertyNames", "dependentRequired", "dependentSchemas")


def problems(way: Way, reader: Node, comparison: Comparison) -> Iterator[Problem]:
    """Yield the incompatibilities of a way's properties with the reader."""
    for name in sorted(set(reader.keywords.get("required", ())) - way.required):
        reason = "may be left out by the writer" if name in way.mentioned else "is not written at all"
        yield Problem(f".{name}", f"{reason}, but the reader requires it")
    if any(keyword in reader.keywords for keyword in _BY_NAME):
        names = sorted(way.mentioned | reader.named("properties").keys())
        patterns = len(way.patterns) + len(reader.named("patternProperties"))
        comparison.spend(len(names) * patterns // 10)
        for name in names:
            yield from _property(way, name, reader, comparison)
        yield from _patterns(way, reader, comparison)
        if way.is_open:  # properties that the writer allows without naming them
            theirs = tuple(way.of("additionalProperties"))
            for schema in (*reader.named("patternProperties").values(), *_rest(reader)):
                yield from (problem.inside("[*]") for problem in comparison.between(theirs, schema, closed=way.closed))
    if "propertyNames" in reader.keywords:
        yield from _names(way, reader.keywords["propertyNames"], comparison)
    yield from _dependent(way, reader, comparison)


def are_apart(way: Way, other: Way, comparison: Comparison) -> bool:
    """Return True if a required property differs, or one way requires a property that the other never has."""
    if any(_is_never_written(one, name) for one, two in ((way, other), (other, way)) for name in two.required):
        return True
    for name in way.required & other.required:
        theirs = Node({"allOf": written(other, name)})
        if all(comparison.are_apart(own, theirs) for own in ways(written(way, name), closed=way.closed)):
            return True
    return False


def written(way: Way, name: str) -> tuple[Node, ...]:
    """Return the schemas that certainly hold for a property, of those that the writer has for it."""
    return tuple(schema for node in way.nodes for schema in _schemas(node, name, maybe=False))


def _is_never_written(way: Way, name: str) -> bool:
    is_possible = (
        way.is_open or name in way.mentioned or any(search(pattern, name) is not False for pattern in way.patterns)
    )
    return not is_possible or any(is_nothing(schema) for schema in written(way, name))


def _schemas(node: Node, name: str, *, maybe: bool) -> Iterator[Node]:
    """Yield the schemas that one node has for a property; `maybe`: also those that possibly apply."""
    known = node.named("properties").get(name)
    if known is not None:
        yield known
    matches = [(search(pattern, name), schema) for pattern, schema in node.named("patternProperties").items()]
    yield from (schema for match, schema in matches if match or (maybe and match is None))
    if known is not None or not all(match is False or (maybe and match is None) for match, _ in matches):
        return
    if "additionalProperties" in node.keywords:
        yield node.keywords["additionalProperties"]
    elif "unevaluatedProperties" in node.keywords:
        # It applies to what no part of the schema has evaluated, and which part does so depends on the value.
        evaluated = any(_evaluates(part, name) for part in node.all("allOf"))
        if (maybe and not evaluated) or not (node.keywords.keys() - _SIMPLE):
            yield node.keywords["unevaluatedProperties"]


_SIMPLE = frozenset(("type", "required", *_BY_NAME, "propertyNames", "minProperties", "maxProperties"))


def _evaluates(node: Node, name: str) -> bool:
    return name in node.named("properties") or any(_evaluates(part, name) for part in node.all("allOf"))


def _property(way: Way, name: str, reader: Node, comparison: Comparison) -> Iterator[Problem]:
    if _is_never_written(way, name):
        return
    theirs = written(way, name)
    for schema in _schemas(reader, name, maybe=True):
        if is_nothing(schema) and ways(theirs, closed=way.closed):
            yield Problem(f".{name}", "is written, but the reader allows no further properties")
        else:
            yield from (problem.inside(f".{name}") for problem in comparison.between(theirs, schema, closed=way.closed))


def _patterns(way: Way, reader: Node, comparison: Comparison) -> Iterator[Problem]:
    """Yield the incompatibilities of properties that are known only by a pattern."""
    by_pattern = reader.named("patternProperties")
    for pattern, theirs in way.patterns.items():
        named = (schema for name, schema in reader.named("properties").items() if search(pattern, name) is not False)
        same = (schema for other, schema in by_pattern.items() if not exclude(pattern, other))
        for schema in (*same, *named, *(() if pattern in by_pattern else _rest(reader))):
            reasons = comparison.between(theirs, schema, closed=way.closed)
            yield from (problem.inside(f"[{pattern}]") for problem in reasons)


def _rest(reader: Node) -> tuple[Node, ...]:
    schema = reader.keywords.get("additionalProperties", reader.keywords.get("unevaluatedProperties"))
    return () if schema is None else (schema,)


def _names(way: Way, reader: Node, comparison: Comparison) -> Iterator[Problem]:
    if not way.is_open and not way.patterns:
        refused = [name for name in sorted(way.mentioned) if accepts(name, reader) is not True]
        yield from (Problem(f".{name}", "has a name that the reader's propertyNames refuses") for name in refused)
        return
    texts = Way((), frozenset(("string",)), closed=way.closed)
    for problem in comparison.also(texts, way.of("propertyNames"), reader):
        yield Problem(problem.field, f"has names of which one {problem.message}")


def _dependent(way: Way, reader: Node, comparison: Comparison) -> Iterator[Problem]:
    for name, required in reader.keywords.get("dependentRequired", {}).items():
        missing = set(required) - way.required_with(name)
        if missing and not _is_never_written(way, name):
            yield from (
                Problem(
                    f".{other}", f"may be left out by the writer where {name} is written, but the reader requires it"
                )
                for other in sorted(missing)
            )
    for name, schema in reader.named("dependentSchemas").items():
        if not _is_never_written(way, name):
            conditions = [
                comparison.requiring(name),
                *(schemas[name] for schemas in way.of("dependentSchemas") if name in schemas),
            ]
            yield from comparison.also(way, conditions, schema)
