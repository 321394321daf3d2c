"""Parse a JSON document into a graph of schemas, or report its faults."""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from jsonschema import (
    Draft4Validator,
    Draft6Validator,
    Draft7Validator,
    Draft201909Validator,
    Draft202012Validator,
)
from jsonschema.protocols import Validator
from referencing import Registry, Resource
from referencing import exceptions as reference_errors
from referencing.jsonschema import specification_with

from tidings_plan.jsonschema.node import ANYTHING, NOTHING, Node, is_equal

MAX_VALUES = 5_000
"""Values (objects, lists, texts, numbers) that a schema may hold, counted as they are written out."""
MAX_DEPTH = 64
"""Levels of nesting."""
MAX_MIXED = 500
"""Values of a list that are not all texts: the metaschemas compare each with each."""
MAX_FAULTS = 10

_DIALECTS: Mapping[str, tuple[int, type[Validator]]] = {
    "http://json-schema.org/draft-04/schema": (4, Draft4Validator),
    "http://json-schema.org/draft-06/schema": (6, Draft6Validator),
    "http://json-schema.org/draft-07/schema": (7, Draft7Validator),
    "https://json-schema.org/draft/2019-09/schema": (2019, Draft201909Validator),
    "https://json-schema.org/draft/2020-12/schema": (2020, Draft202012Validator),
}
DEFAULT_DIALECT = "https://json-schema.org/draft/2020-12/schema"

_ANNOTATIONS = frozenset(
    (
        *("$schema", "$id", "id", "$anchor", "$comment", "$defs", "definitions", "$vocabulary", "$ref"),
        *("title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly"),
    )
)
_ONE = frozenset(
    (
        *("additionalProperties", "items", "contains", "propertyNames", "not", "if", "then", "else"),
        *("unevaluatedItems", "unevaluatedProperties", "contentSchema"),
    )
)
_SOME = frozenset(("allOf", "anyOf", "oneOf", "prefixItems"))
_NAMED = frozenset(("properties", "patternProperties", "dependentSchemas", "$defs", "definitions"))
_SINCE: Mapping[str, int] = {
    **dict.fromkeys(("const", "contains", "propertyNames"), 6),
    **dict.fromkeys(("if", "then", "else", "contentEncoding", "contentMediaType"), 7),
    **dict.fromkeys(("dependentRequired", "dependentSchemas", "minContains", "maxContains"), 2019),
    **dict.fromkeys(("unevaluatedItems", "unevaluatedProperties", "contentSchema"), 2019),
    "prefixItems": 2020,
}
"""The draft that introduced a keyword; older drafts ignore it."""

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Fault:
    """A reason why a document is not a comparable schema, with its path and fix."""

    path: Path
    message: str
    fix: str

    def __str__(self) -> str:
        """Return the place as a JSON pointer, as references write it, and what is wrong there."""
        pointer = "".join(f"/{str(step).replace('~', '~0').replace('/', '~1')}" for step in self.path)
        return f"{self.message} (at #{pointer})" if pointer else self.message


class Unreadable(ValueError):
    """The document is not a supported schema; `faults` lists the reasons."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("; ".join(map(str, faults)))
        self.faults = faults


def faults(schema: Any) -> list[Fault]:
    """Return the reasons why a document is not a supported JSON Schema."""
    try:
        read(schema)
    except Unreadable as error:
        return error.faults
    return []


def is_changed(old: Any, new: Any) -> bool:
    """Return True if two documents differ as JSON, where 1 and true are different."""
    try:
        return not is_equal(old, new)
    except (RecursionError, TypeError):  # no schema either way, which `faults` says
        return True


def read(schema: Any) -> Node:
    """Return the graph of a schema.

    Raises:
        Unreadable: It is no JSON Schema, of an unknown dialect, too large, or refers to what it does not hold.

    """
    if isinstance(schema, bool):
        return ANYTHING if schema else NOTHING
    if not isinstance(schema, Mapping):
        raise Unreadable([Fault((), f"is {_kind(schema)}, not a schema", "Write an object or a boolean.")])
    if fault := next(_oversized(schema), None):
        raise Unreadable([fault])
    return _graph(json.dumps(schema))


@lru_cache(maxsize=1024)
def _graph(text: str) -> Node:
    # From a text, so that no part of the schema is one object in two places, as it can be with YAML's aliases.
    schema = json.loads(text)
    named = schema.get("$schema", DEFAULT_DIALECT)
    known = _DIALECTS.get(named.removesuffix("#")) if isinstance(named, str) else None
    if known is None:
        fix = f"Write one of {', '.join(_DIALECTS)}."
        raise Unreadable([Fault(("$schema",), f"names an unknown dialect, {_short(named)}", fix)])
    draft, validator = known
    try:
        wrong = _against(validator, schema, ())
    except RecursionError:
        wrong = [Fault((), "is nested too deeply", "Move inner schemas into $defs.")]
    if wrong:
        raise Unreadable(wrong)
    return _Reader(schema, draft, validator).graph()


def _kind(value: Any) -> str:
    return {type(None): "null", str: "a text", list: "a list"}.get(type(value), type(value).__name__)


def _oversized(schema: Any) -> Iterator[Fault]:
    """Yield faults for documents that are too large or contain non-JSON values, such as YAML dates and infinities."""
    waiting: list[tuple[Any, Path]] = [(schema, ())]
    count = 0
    while waiting:
        value, path = waiting.pop()
        count += 1
        if count > MAX_VALUES:
            yield Fault((), f"holds more than {MAX_VALUES} values", "Split the event, or describe it more simply.")
        if len(path) > MAX_DEPTH:
            yield Fault(path[:4], f"is nested more than {MAX_DEPTH} levels deep", "Move inner schemas into $defs.")
        if isinstance(value, Mapping):
            if any(not isinstance(name, str) for name in value):
                yield Fault(path, "has a name that is no text", "Write it in quotes.")
            waiting += [(child, (*path, name)) for name, child in value.items()]
        elif isinstance(value, list | tuple):
            if len(value) > MAX_MIXED and not all(isinstance(item, str) for item in value):
                yield Fault(path, f"is a list of more than {MAX_MIXED} values, not all texts", "Shorten the list.")
            waiting += [(item, (*path, place)) for place, item in enumerate(value)]
        elif problem := _no_json(value):
            yield Fault(path, *problem)


def _no_json(value: Any) -> tuple[str, str] | None:
    if value is None or isinstance(value, bool | str):
        return None
    if isinstance(value, int | float):
        is_finite = abs(value) < 10**300 if isinstance(value, int) else math.isfinite(value)
        return None if is_finite else ("is a number that no double can hold", "Write a smaller number.")
    return f"is {type(value).__name__}, which JSON does not know", "Write it as a text, in quotes."


def _against(validator: type[Validator], schema: Any, at: Path) -> list[Fault]:
    """Return the violations of the metaschema, with the most specific cause of each."""
    problems = []
    for error in validator(validator.META_SCHEMA).iter_errors(schema):
        cause = error
        while cause.context:
            cause = min(cause.context, key=lambda candidate: len(candidate.absolute_path))
        path = (*at, *cause.absolute_path)
        fix = "See https://json-schema.org, or name the older dialect it is written in with $schema."
        problems.append(Fault(path, f"is no JSON Schema: {_short(cause.message, 200)}", fix))
        if len(problems) == MAX_FAULTS:
            break
    return problems


def _short(value: Any, limit: int = 80) -> str:
    text = str(value)
    return text if len(text) <= limit else f"{text[:limit]}..."


class _Reader:
    """Builder of one document's graph. Nodes are created first and filled later, without recursion."""

    def __init__(self, schema: Mapping[str, Any], draft: int, validator: type[Validator]) -> None:
        self.draft = draft
        self.validator = validator
        self.schema = schema
        dialect = schema.get("$schema", DEFAULT_DIALECT)
        self.specification = specification_with(dialect)
        self.nodes: dict[int, Node] = {}
        self.waiting: list[tuple[Any, Any, Path, Node]] = []
        self.references: list[tuple[Node, str, Any, Path]] = []
        self.root = ANYTHING
        self.elsewhere = 0

    @cached_property
    def text(self) -> str:
        """Return the whole document, including definitions, which no node keeps."""
        return json.dumps(self.schema, sort_keys=True)

    def graph(self) -> Node:
        try:
            self._fill()
        except Unreadable:
            raise
        except ValueError as error:  # urllib refuses some identifiers that the metaschema lets through
            fault = Fault((), f"has an identifier that is no URI: {_short(error)}", "Correct $id.")
            raise Unreadable([fault]) from None
        _refuse_loops(self.nodes.values())
        return self.root

    def _fill(self) -> None:
        resource = self._resource(self.schema)
        base = resource.id() or ""
        registry: Registry[Any] = Registry().with_resource(base, resource).crawl()
        self.root = self._node(self.schema, registry.resolver(base), ())
        while self.waiting or self.references:
            if self.waiting:
                schema, resolver, path, node = self.waiting.pop()
                node.keywords.update(self._keywords(schema, resolver, path))
                if "$ref" in schema:
                    self.references.append((node, schema["$ref"], resolver, path))
            else:  # Only now is it known which schemas stand in their proper places, and so were checked.
                node, reference, resolver, path = self.references.pop()
                target = self._target(reference, resolver, path)
                node.keywords["allOf"] = (target, *node.keywords.get("allOf", ()))

    def _resource(self, schema: Any) -> "Resource[Any]":
        return self.specification.create_resource(schema)

    def _node(self, schema: Any, resolver: Any, path: Path) -> Node:
        if isinstance(schema, bool):
            return ANYTHING if schema else NOTHING
        if id(schema) not in self.nodes:
            inner = resolver if path == () else resolver.in_subresource(self._resource(schema))
            if schema.get("$schema", None) not in (None, self.schema.get("$schema", DEFAULT_DIALECT)):
                raise Unreadable([Fault(path, "is of another dialect than the whole", "Leave $schema out here.")])
            self.nodes[id(schema)] = node = Node()
            self.waiting.append((schema, inner, path, node))
        return self.nodes[id(schema)]

    def _keywords(self, schema: Mapping[str, Any], resolver: Any, path: Path) -> dict[str, Any]:
        """Return a node's keywords; visiting every schema inside, also those under `$defs` that nothing refers to."""

        def node(value: Any, *steps: str | int) -> Node:
            return self._node(value, resolver, (*path, *steps))

        opened = {name: self._opened(name, value, node) for name, value in schema.items()}
        known = {
            (name if self.draft >= _SINCE.get(name, 0) else f"{name} (unknown to draft {self.draft})"): value
            for name, value in opened.items()
            if name not in _ANNOTATIONS and not name.startswith("x-")
        }
        for name in ("$dynamicRef", "$recursiveRef"):
            if name in known:  # Its target depends on who refers to this schema: only the whole document can be equal.
                known[name] = (known[name], self.text)
        if "$ref" in schema and self.draft <= 7:  # noqa: PLR2004  # the last draft to which nothing counts beside $ref
            return {f"{name} beside $ref": value for name, value in known.items()}
        return self._modern(known)

    def _opened(self, name: str, value: Any, node: Callable[..., Node]) -> Any:
        if name in _NAMED and isinstance(value, Mapping):
            return {key: node(inner, name, key) for key, inner in value.items()}
        if (name in _SOME or name == "items") and isinstance(value, list | tuple):
            return tuple(node(inner, name, place) for place, inner in enumerate(value))
        if (name in _ONE or name == "additionalItems") and isinstance(value, Mapping | bool):
            return node(value, name)
        if name == "dependencies" and self.draft <= 7:  # noqa: PLR2004  # later drafts have split it
            return {
                key: inner if isinstance(inner, list | tuple) else node(inner, name, key)
                for key, inner in value.items()
            }
        return value

    def _modern(self, known: dict[str, Any]) -> dict[str, Any]:
        """Translate keywords of older drafts to draft 2020-12."""
        if self.draft < 2020:  # noqa: PLR2004  # the draft that split items
            rest = known.pop("additionalItems", ANYTHING)
            if isinstance(known.get("items"), tuple):
                known["prefixItems"] = known.pop("items")
                known["items"] = rest
        for limit, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
            if isinstance(known.get(exclusive), bool) and known.pop(exclusive) and limit in known:
                known[exclusive] = known.pop(limit)
        dependencies = known.pop("dependencies", {}) if self.draft <= 7 else {}  # noqa: PLR2004
        schemas = {name: value for name, value in dependencies.items() if isinstance(value, Node)}
        names = {name: value for name, value in dependencies.items() if not isinstance(value, Node)}
        split = {"dependentSchemas": schemas, "dependentRequired": names}
        return known | {name: values for name, values in split.items() if values}

    def _target(self, reference: str, resolver: Any, path: Path) -> Node:
        at = (*path, "$ref")
        try:
            resolved = resolver.lookup(reference)
        except reference_errors.Unresolvable:
            message = f"refers to {_short(reference)}, which the document does not hold"
            fix = "Refer to a place inside, such as #/$defs/Line; nothing is fetched from elsewhere."
            raise Unreadable([Fault(at, message, fix)]) from None
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            message = f"is no reference: {_short(reference)} ({_short(error)})"
            raise Unreadable([Fault(at, message, "Write a JSON pointer, such as #/$defs/Line.")]) from None
        schema = resolved.contents
        if not isinstance(schema, Mapping | bool):
            fix = "Refer to a schema, such as #/$defs/Line."
            raise Unreadable([Fault(at, f"refers to {_short(reference)}, which is {_kind(schema)}", fix)])
        if (
            isinstance(schema, Mapping) and id(schema) not in self.nodes
        ):  # in a place that the metaschema does not cover
            self.elsewhere += 1
            if self.elsewhere > _MAX_ELSEWHERE:
                fix = "Put schemas that are referred to under $defs."
                raise Unreadable([Fault(at, "refers to too many schemas", fix)])
            if problems := _against(self.validator, schema, at):
                raise Unreadable(problems)
        return self._node(schema, resolved.resolver, (*at, reference))


_MAX_ELSEWHERE = 50


def _refuse_loops(nodes: Any) -> None:
    """Reject schemas that refer to themselves for the same value, on which validators never terminate."""
    done: set[int] = set()
    for start in nodes:
        stack = [(start, _in_place(start))]
        open_nodes = {id(start)}
        while stack:
            node, parts = stack[-1]
            part = next(parts, None)
            if part is None:
                stack.pop()
                open_nodes.discard(id(node))
                done.add(id(node))
            elif id(part) in open_nodes:
                fix = "Let the schema refer to itself for a property or an item only."
                raise Unreadable([Fault((), "refers to itself for the same value, without end", fix)])
            elif id(part) not in done:
                stack.append((part, _in_place(part)))
                open_nodes.add(id(part))


def _in_place(node: Node) -> Iterator[Node]:
    yield from node.parts()
    if "not" in node.keywords:
        yield node.keywords["not"]
