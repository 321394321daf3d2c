"""Alternatives of a writer's output, each a set of schemas that all hold for some types of value."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

from tidings_plan.jsonschema.node import NUMBER, TYPES, Node, key, type_of
from tidings_plan.jsonschema.values import accepts

MAX_WAYS = 64
"""Ways that are told apart; of more, what `anyOf` and `oneOf` say is left out, and so more is taken for possible."""


@dataclass(frozen=True)
class Way:
    """Schemas that all hold. `closed`: no property is written that none of them mentions."""

    nodes: tuple[Node, ...]
    types: frozenset[str]
    closed: bool

    @cached_property
    def id(self) -> tuple[Any, ...]:
        """Identity: equal for equivalent ways."""
        return (frozenset(map(id, self.nodes)), self.types, self.closed)

    @cached_property
    def values(self) -> tuple[Any, ...] | None:
        """The only values that are possible; None where they are not listed."""
        lists = [
            node.keywords["enum"] if "enum" in node.keywords else (node.keywords["const"],)
            for node in self.nodes
            if "enum" in node.keywords or "const" in node.keywords
        ]
        if self.types <= {"null", "boolean"}:
            lists.append([constant for constant in (None, True, False) if type_of(constant) in self.types])
        if not lists:
            return None
        unique = {key(value): value for value in min(lists, key=len)}
        return tuple(
            value
            for value in unique.values()
            if type_of(value) in self.types and all(accepts(value, node) is not False for node in self.nodes)
        )

    def of(self, keyword: str) -> Iterator[Any]:
        """Yield what the schemas say under a keyword."""
        return (node.keywords[keyword] for node in self.nodes if keyword in node.keywords)

    @cached_property
    def required(self) -> frozenset[str]:
        """The properties that are always written."""
        return self._with_dependent(set(chain.from_iterable(self.of("required"))))

    def required_with(self, name: str) -> frozenset[str]:
        """Return the properties that are always written where one is."""
        return self._with_dependent({name, *self.required})

    def _with_dependent(self, names: set[str]) -> frozenset[str]:
        dependent = list(self.of("dependentRequired"))
        more = names
        while more:
            more = {other for mapping in dependent for name in more & mapping.keys() for other in mapping[name]} - names
            names |= more
        return frozenset(names)

    @cached_property
    def mentioned(self) -> frozenset[str]:
        """The names of properties that any part of the schemas mentions, also under a condition."""
        names = set(self.required)
        for node in _everywhere(self.nodes):
            names |= node.named("properties").keys() | set(node.keywords.get("required", ()))
            for name, dependents in node.keywords.get("dependentRequired", {}).items():
                names |= {name, *dependents}
            names |= node.named("dependentSchemas").keys()
        return frozenset(names)

    @cached_property
    def is_open(self) -> bool:
        """True if unmentioned properties may be written, explicitly or because no properties are declared."""
        if not self.closed:
            return True
        keywords = {keyword for node in _everywhere(self.nodes) for keyword in node.keywords}
        return bool(keywords & {"additionalProperties", "unevaluatedProperties"}) or not (
            keywords & {"properties", "patternProperties"}
        )

    @cached_property
    def patterns(self) -> Mapping[str, tuple[Node, ...]]:
        """The patterns of names that may be written, with the schemas that then hold for certain."""
        patterns: dict[str, tuple[Node, ...]] = {}
        for node in _everywhere(self.nodes):
            for pattern, schema in node.named("patternProperties").items():
                patterns[pattern] = (*patterns.get(pattern, ()), *([schema] if node in self.nodes else []))
        return patterns


def ways(nodes: Iterable[Node], *, closed: bool) -> list[Way]:
    """Return the ways to satisfy all the schemas; none where that is impossible."""
    combinations: list[tuple[Node, ...]] = [()]
    for node in nodes:
        opened = _opened(node)
        combinations = _joined(combinations, [opened if len(combinations) * len(opened) <= MAX_WAYS else [(node,)]])
    return [way for combination in combinations for way in _by_type(combination, closed=closed)]


def _joined(combinations: list[tuple[Node, ...]], choices: Iterable[list[tuple[Node, ...]]]) -> list[tuple[Node, ...]]:
    """Combine each with every choice; a choice that would make too many leaves them as they are."""
    for choice in choices:
        if len(combinations) * len(choice) <= MAX_WAYS:
            combinations = [(*one, *other) for one in combinations for other in choice]
    return combinations


def _opened(node: Node) -> list[tuple[Node, ...]]:
    """Return the combinations of a schema and the parts of it that hold together."""
    choices = [[part] for part in node.all("allOf")]
    choices += [list(node.all(keyword)) for keyword in ("anyOf", "oneOf") if keyword in node.keywords]
    return _joined([(node,)], ([combination for part in choice for combination in _opened(part)] for choice in choices))


def _by_type(nodes: tuple[Node, ...], *, closed: bool) -> Iterator[Way]:
    """Split by type: a reader may have an alternative for each."""
    unique = tuple({id(node): node for node in nodes}.values())
    types = frozenset(TYPES.intersection(*(node.types for node in unique)))
    groups = [types] if types == TYPES else [frozenset((kind,)) for kind in sorted(types - NUMBER)]
    if types != TYPES and types & NUMBER:
        groups.append(types & NUMBER)
    for group in groups:
        way = Way(unique, group, closed)
        if way.values != ():
            yield way


def _everywhere(nodes: Iterable[Node]) -> Iterator[Node]:
    """Yield the schemas and all their parts for the same value, each once; of `oneOf` only the one that is chosen."""
    waiting = list(nodes)
    chosen = set(waiting)
    seen: set[Node] = set()
    while waiting:
        node = waiting.pop()
        if node not in seen:
            seen.add(node)
            yield node
            alternatives = set(node.all("oneOf")) - chosen if chosen.intersection(node.all("oneOf")) else set()
            waiting += [part for part in node.parts() if part not in alternatives]
