"""Decide whether a reader's schema accepts everything that a writer with another schema writes.

Readers are tolerant and writers are closed: a reader skips properties that its schema does not mention, and a writer
writes only properties that its own mentions, unless it says otherwise (`additionalProperties`, `patternProperties`) or
mentions none at all. Everything else means what JSON Schema says.

The comparison looks at schemas, not at data. What it cannot show to be compatible counts as a problem, so it errs on
the strict side only: one alternative of an `anyOf` must accept all that one alternative of the writer allows, and
patterns, formats and unknown keywords agree only where they are equal.
"""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

from tidings_plan.jsonschema import arrays, limits, objects
from tidings_plan.jsonschema.document import faults, read
from tidings_plan.jsonschema.node import ANYTHING, NUMBER, TYPES, Node
from tidings_plan.jsonschema.problem import Problem, Problems
from tidings_plan.jsonschema.sameness import Sameness
from tidings_plan.jsonschema.values import accepts
from tidings_plan.jsonschema.ways import Way, ways

MAX_STEPS = 5_000
MAX_DEPTH = 60
MAX_PROBLEMS = 50
"""Maximum problems per schema; their number may grow with the paths through its references."""
_APPLIES: Mapping[str, frozenset[str]] = {
    **dict.fromkeys((*limits.BOUNDS, "multipleOf"), NUMBER),
    **dict.fromkeys(
        ("minLength", "maxLength", "pattern", "format", "contentEncoding", "contentMediaType", "contentSchema"),
        frozenset(("string",)),
    ),
    **dict.fromkeys(("minItems", "maxItems", "uniqueItems", *arrays.KEYWORDS), frozenset(("array",))),
    **dict.fromkeys(("minProperties", "maxProperties", "required", *objects.KEYWORDS), frozenset(("object",))),
}
_LISTED = 5
_SHOWN = 60
_MAX_APART = 4


class TooComplex(Exception):  # never leaves this module
    """The comparison would take too long."""


def problems(reader: Any, writer: Any) -> list[Problem]:
    """Return the reasons why the reader rejects some data that the writer may write."""
    unreadable = [(who, faults(schema)) for who, schema in (("reader", reader), ("writer", writer))]
    for who, schema_faults in unreadable:
        if schema_faults:
            reason = f"cannot be compared, because the {who}'s schema {schema_faults[0]}"
            return [Problem("data", reason)]
    try:
        reasons = Comparison().between((read(writer),), read(reader))
    except (TooComplex, RecursionError):
        return [Problem("data", "cannot be compared, because the schemas are too complex")]
    return list(dict.fromkeys(reason.inside("data") for reason in reasons))


class Comparison:
    """Comparison of two schema graphs that evaluates every pair once and always terminates.

    A pair that recurs while it is being evaluated counts as compatible. This is sound, because it recurs only for a
    smaller, nested value. Results that relied on this assumption are discarded if it turns out to be wrong.
    """

    def __init__(self) -> None:
        self.steps = 0
        self.depth = 0
        self.depth_apart = 0
        self.judged: dict[tuple[Any, ...], Problems] = {}
        self.order: list[tuple[Any, ...]] = []
        self.required: dict[str, Node] = {}
        self.same = Sameness()

    def between(self, nodes: Iterable[Node], reader: Node, *, closed: bool = True) -> Problems:
        """Return the problems of all ways to satisfy the writer's schemas."""
        if not reader.keywords:
            return ()
        return _first(problem for way in ways(nodes, closed=closed) for problem in self.judge(way, reader))

    def judge(self, way: Way, reader: Node) -> Problems:
        """Return the problems of one way of writing."""
        if not reader.keywords:
            return ()
        pair = (way.id, id(reader))
        if pair in self.judged:
            return self.judged[pair]
        self.spend()
        if any(self.same.nodes(node, reader) for node in way.nodes):
            return ()
        mark = len(self.order)
        self.judged[pair] = ()
        self.order.append(pair)
        self.depth += 1
        try:
            reasons = _first(self._reasons(way, reader))
        finally:
            self.depth -= 1
        if reasons:
            # Positive results since then may rely on the assumption that has just failed.
            for later in self.order[mark:]:
                if not self.judged.get(later):
                    self.judged.pop(later, None)
            del self.order[mark:]
            self.judged[pair] = reasons
        return reasons

    def requiring(self, name: str) -> Node:
        """Return the schema of objects that have a property: the same one for each name, so that pairs repeat."""
        return self.required.setdefault(name, Node({"required": (name,)}))

    def are_apart(self, way: Way, node: Node) -> bool:
        """Return True if provably no value written this way matches a schema."""
        self.spend()
        if way.values is not None:
            return all(accepts(value, node) is False for value in way.values)
        if self.depth_apart == _MAX_APART:
            return False
        self.depth_apart += 1
        try:
            return all(self._are_two_apart(way, other) for other in ways((node,), closed=False))
        finally:
            self.depth_apart -= 1

    def _are_two_apart(self, way: Way, other: Way) -> bool:
        if not way.types & other.types or limits.are_apart(way, other):
            return True
        if other.values is not None:
            return all(any(accepts(value, node) is False for node in way.nodes) for value in other.values)
        if way.types & other.types != {"object"}:
            return False
        return objects.are_apart(way, other, self)

    def spend(self, steps: int = 1) -> None:
        """Count work, and give up beyond a limit.

        Raises:
            TooComplex: The comparison would take too long.

        """
        self.steps += steps
        if self.steps > MAX_STEPS or self.depth > MAX_DEPTH:
            raise TooComplex

    def _reasons(self, way: Way, reader: Node) -> Iterable[Problem]:
        if way.values is not None:
            refused = [value for value in way.values if accepts(value, reader) is not True]
            return [Problem("", f"may be {_list(refused)}, which the reader does not know")] if refused else ()
        if not way.types <= reader.types:
            names = _type_names(way.types), _type_names(reader.types)
            return [Problem("", f"is {names[0]} for the writer, {names[1]} for the reader")]
        reasons: list[Problem] = []
        for keyword, argument in reader.keywords.items():
            if way.types & _APPLIES.get(keyword, TYPES):
                reasons += self._keyword(way, keyword, argument, reader)
        if "object" in way.types:
            reasons += objects.problems(way, reader, self)
        if "array" in way.types:
            reasons += arrays.problems(way, reader, self)
        return reasons

    def _keyword(self, way: Way, keyword: str, argument: Any, reader: Node) -> Collection[Problem]:
        if keyword in _ELSEWHERE or (keyword in _LIMITS and limits.keeps(way, keyword, argument)):
            return ()
        # Equal keywords are compatible, except `if`, which depends on its siblings `then` and `else`.
        if keyword != "if" and any(self.same.values(argument, value) for value in way.of(keyword)):
            return ()
        result: Collection[Problem]
        match keyword:
            case "allOf":
                result = [problem for part in argument for problem in self.judge(way, part)]
            case "anyOf":
                result = min((self.judge(way, part) for part in argument), key=_severity)
            case "oneOf":
                result = self._one(way, argument)
            case "not":
                negated = way.of("not")
                is_ruled_out = self.are_apart(way, argument) or any(
                    not self.between((argument,), node, closed=False) for node in negated
                )
                result = () if is_ruled_out else [Problem("", "may be what the reader rules out with `not`")]
            case "if":
                result = self._if(way, argument, reader)
            case _:
                result = [Problem("", _different(way, keyword, argument))]
        return result

    def _one(self, way: Way, parts: tuple[Node, ...]) -> Collection[Problem]:
        if any(self.same.in_any_order(parts, alternatives) for alternatives in way.of("oneOf")):
            return ()
        best = min((self.judge(way, part) for part in parts), key=_severity)
        if best:
            return best
        for place, part in enumerate(parts):
            rest = (other for index, other in enumerate(parts) if index != place)
            if not self.judge(way, part) and all(self.are_apart(way, other) for other in rest):
                return ()
        return [Problem("", "may suit more than one alternative of the reader's oneOf, which then refuses it")]

    def _if(self, way: Way, condition: Node, reader: Node) -> Collection[Problem]:
        then, otherwise = (reader.keywords.get(keyword, ANYTHING) for keyword in ("then", "else"))
        for node in way.nodes:
            if "if" in node.keywords and self.same.nodes(node.keywords["if"], condition):
                first = [condition, *(node.keywords[keyword] for keyword in ("then",) if keyword in node.keywords)]
                second = [node.keywords[keyword] for keyword in ("else",) if keyword in node.keywords]
                return [*self.also(way, first, then), *self.also(way, second, otherwise)]
        if not self.judge(way, condition):
            return self.judge(way, then)
        if self.are_apart(way, condition):
            return self.judge(way, otherwise)
        return [*self.also(way, [condition], then), *self.judge(way, otherwise)]

    def also(self, way: Way, more: Iterable[Node], reader: Node) -> Problems:
        """Return the problems of a way of writing under additional schemas."""
        if not reader.keywords:
            return ()
        narrowed = [
            replace(narrower, types=narrower.types & way.types)
            for narrower in ways((*way.nodes, *more), closed=way.closed)
            if narrower.types & way.types
        ]
        return tuple(problem for narrower in narrowed for problem in self.judge(narrower, reader))


_LIMITS = frozenset((*limits.BOUNDS, *limits.LOWER, *limits.UPPER, "multipleOf"))
_PLAIN = _LIMITS | {"pattern", "format", "contentEncoding", "contentMediaType", "uniqueItems"}
_ELSEWHERE = frozenset(("type", "then", "else", "required", *objects.KEYWORDS, *arrays.KEYWORDS))


def _first(reasons: Iterable[Problem]) -> Problems:
    """Return the first unique problems. The input is exhausted, so that no partial result is cached."""
    return tuple(dict.fromkeys(reasons))[:MAX_PROBLEMS]


def _severity(reasons: Collection[Problem]) -> tuple[bool, int]:
    """Order alternatives: the one whose type is right explains more than the one with the fewest reasons."""
    return (any(not reason.field and reason.message.startswith("is ") for reason in reasons), len(reasons))


def _list(values: Iterable[Any], none: str = "no value") -> str:
    texts = [json.dumps(value, ensure_ascii=False) for value in values]
    shown = [text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..." for text in texts[:_LISTED]]
    return ", ".join([*shown, *(["..."] if len(texts) > _LISTED else [])]) or none


def _different(way: Way, keyword: str, argument: Any) -> str:
    if keyword in ("enum", "const"):
        allowed = argument if keyword == "enum" else [argument]
        return f"may have any value for the writer, only {_list(allowed)} for the reader"
    if keyword in _PLAIN:
        return f"has {keyword} {_list(way.of(keyword), 'none')} for the writer, {_list([argument])} for the reader"
    return f"is not known to keep what the reader's {keyword} says"


def _type_names(types: frozenset[str]) -> str:
    if types == TYPES:
        return "of any type"
    names = [*sorted(types - NUMBER), *(["number"] if "fraction" in types else ["integer"] if types & NUMBER else [])]
    return " or ".join(names) or "nothing"
