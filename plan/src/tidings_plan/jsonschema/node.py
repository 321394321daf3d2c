"""A schema as a graph: references are followed, and every dialect is brought into the words of draft 2020-12."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

NUMBER = frozenset(("integer", "fraction"))
"""JSON Schema's `number`, in two parts: every number is either a whole one or not."""
TYPES = frozenset(("null", "boolean", "string", "array", "object")) | NUMBER


@dataclass(eq=False)
class Node:
    """One schema. The values of `keywords` are nodes where the keyword holds schemas, plain JSON elsewhere.

    `$ref` is the first part of `allOf`, `items` never holds a list, and limits are always numbers.
    """

    keywords: dict[str, Any] = field(default_factory=dict)

    @property
    def types(self) -> frozenset[str]:
        """The types of value that `type` allows; all without it."""
        named = self.keywords.get("type")
        if named is None:
            return TYPES
        names = [named] if isinstance(named, str) else named
        return frozenset(part for name in names for part in (NUMBER if name == "number" else (name,)))

    @cached_property
    def allowed(self) -> frozenset[Any] | None:
        """The keys of the values that `enum` and `const` allow; None without them."""
        lists = [self.keywords[keyword] for keyword in ("enum",) if keyword in self.keywords]
        lists += [(self.keywords[keyword],) for keyword in ("const",) if keyword in self.keywords]
        sets = [frozenset(key(value) for value in values) for values in lists]
        return frozenset.intersection(*sets) if sets else None

    def all(self, keyword: str) -> tuple["Node", ...]:
        """Return the schemas of a keyword that holds a list of them."""
        schemas: tuple[Node, ...] = self.keywords.get(keyword, ())
        return schemas

    def named(self, keyword: str) -> Mapping[str, "Node"]:
        """Return the schemas of a keyword that holds them by name."""
        schemas: Mapping[str, Node] = self.keywords.get(keyword, {})
        return schemas

    def parts(self) -> Iterator["Node"]:
        """Yield every schema that is applied to the same value, whatever the condition."""
        for keyword in ("allOf", "anyOf", "oneOf"):
            yield from self.all(keyword)
        yield from self.named("dependentSchemas").values()
        yield from (self.keywords[keyword] for keyword in ("if", "then", "else") if keyword in self.keywords)


ANYTHING = Node()
NOTHING = Node({"enum": ()})


def is_nothing(node: Node) -> bool:
    """Return True for the schema `false`."""
    return node.keywords.get("enum") == ()


def key(value: Any) -> Any:
    """Return a hashable key that is equal for equal JSON values."""
    if isinstance(value, bool) or value is None:
        return (value,)
    if isinstance(value, dict):
        return ("object", frozenset((name, key(item)) for name, item in value.items()))
    if isinstance(value, list | tuple):
        return ("array", tuple(key(item) for item in value))
    return value


def is_equal(one: Any, other: Any) -> bool:
    """Return True if two JSON values are equal: 1 equals 1.0, but not true."""
    return bool(key(one) == key(other))


def type_of(value: Any) -> str:
    """Return the type of a JSON value, in the terms of `TYPES`."""
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "integer" if value == int(value) else "fraction"
    names = {str: "string", dict: "object", list: "array", tuple: "array", type(None): "null"}
    return names[type(value)]
