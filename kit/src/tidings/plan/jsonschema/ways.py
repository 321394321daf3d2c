"""What a writer may write, as a list of ways: each is a set of schemas that all hold, for some types of value."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

from tidings.plan.jsonschema.node import NUMBER, TYPES, Node, key, type_of
from tidings.plan.jsonschema.values import accepts

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
        """What two ways that are the same have in common."""
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
            lists.append([each for each in (None, True, False) if type_of(each) in self.types])
        if not lists:
            return None
        unique = {key(each): each for each in min(lists, key=len)}
        return tuple(
            each
            for each in unique.values()
            if type_of(each) in self.types and all(accepts(each, node) is not False for node in self.nodes)
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

    def _with_dependent(self, found: set[str]) -> frozenset[str]:
        dependent = list(self.of("dependentRequired"))
        more = found
        while more:
            more = {other for each in dependent for name in more & each.keys() for other in each[name]} - found
            found |= more
        return frozenset(found)

    @cached_property
    def mentioned(self) -> frozenset[str]:
        """The names of properties that any part of the schemas mentions, also under a condition."""
        found = set(self.required)
        for node in _everywhere(self.nodes):
            found |= node.named("properties").keys() | set(node.keywords.get("required", ()))
            for name, others in node.keywords.get("dependentRequired", {}).items():
                found |= {name, *others}
            found |= node.named("dependentSchemas").keys()
        return frozenset(found)

    @cached_property
    def is_open(self) -> bool:
        """Whether properties may be written that are nowhere mentioned: said so, or nothing at all is said."""
        if not self.closed:
            return True
        said = {keyword for node in _everywhere(self.nodes) for keyword in node.keywords}
        return bool(said & {"additionalProperties", "unevaluatedProperties"}) or not (
            said & {"properties", "patternProperties"}
        )

    @cached_property
    def patterns(self) -> Mapping[str, tuple[Node, ...]]:
        """The patterns of names that may be written, with the schemas that then hold for certain."""
        found: dict[str, tuple[Node, ...]] = {}
        for node in _everywhere(self.nodes):
            for pattern, schema in node.named("patternProperties").items():
                found[pattern] = (*found.get(pattern, ()), *([schema] if node in self.nodes else []))
        return found


def ways(nodes: Iterable[Node], *, closed: bool) -> list[Way]:
    """Return the ways to satisfy all the schemas; none where that is impossible."""
    found: list[tuple[Node, ...]] = [()]
    for node in nodes:
        opened = _opened(node)
        found = _joined(found, [opened if len(found) * len(opened) <= MAX_WAYS else [(node,)]])
    return [way for each in found for way in _by_type(each, closed=closed)]


def _joined(found: list[tuple[Node, ...]], choices: Iterable[list[tuple[Node, ...]]]) -> list[tuple[Node, ...]]:
    """Combine each with every choice; a choice that would make too many leaves them as they are."""
    for choice in choices:
        if len(found) * len(choice) <= MAX_WAYS:
            found = [(*one, *other) for one in found for other in choice]
    return found


def _opened(node: Node) -> list[tuple[Node, ...]]:
    """Return the combinations of a schema and the parts of it that hold together."""
    choices = [[part] for part in node.all("allOf")]
    choices += [list(node.all(each)) for each in ("anyOf", "oneOf") if each in node.keywords]
    return _joined([(node,)], ([each for part in choice for each in _opened(part)] for choice in choices))


def _by_type(nodes: tuple[Node, ...], *, closed: bool) -> Iterator[Way]:
    """Split by type: a reader may have an alternative for each."""
    unique = tuple({id(each): each for each in nodes}.values())
    types = frozenset(TYPES.intersection(*(each.types for each in unique)))
    groups = [types] if types == TYPES else [frozenset((each,)) for each in sorted(types - NUMBER)]
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
            others = set(node.all("oneOf")) - chosen if chosen.intersection(node.all("oneOf")) else set()
            waiting += [part for part in node.parts() if part not in others]
