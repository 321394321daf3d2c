"""Equality of schemas: equal keywords, ignoring annotations and following references."""

from collections.abc import Mapping
from typing import Any

from tidings_plan.jsonschema.node import Node, is_equal

_Pair = tuple[int, int]


class Sameness:
    """Equality check that caches results, so that every pair of schemas is compared once."""

    def __init__(self) -> None:
        self.same: set[_Pair] = set()
        self.different: set[_Pair] = set()

    def nodes(self, one: Node, other: Node) -> bool:
        """Compare two schemas; those that are being compared already are taken for the same."""
        if one is other or (id(one), id(other)) in self.same:
            return True
        if (id(one), id(other)) in self.different:
            return False
        assumed: set[_Pair] = set()
        waiting = [(one, other)]
        while waiting:
            left, right = waiting.pop()
            pair = (id(left), id(right))
            if left is right or pair in self.same or pair in assumed:
                continue
            assumed.add(pair)
            if pair in self.different or not _collect(left.keywords, right.keywords, waiting):
                self.different.add((id(one), id(other)))
                return False
        self.same |= assumed
        return True

    def values(self, one: Any, other: Any) -> bool:
        """Compare what two schemas say under one keyword."""
        waiting: list[tuple[Node, Node]] = []
        return _collect(one, other, waiting) and all(self.nodes(*pair) for pair in waiting)

    def in_any_order(self, some: tuple[Node, ...], right: tuple[Node, ...]) -> bool:
        """Compare two lists of schemas, whatever their order."""
        left = list(right)
        for node in some:
            match = next((place for place, other in enumerate(left) if self.nodes(node, other)), None)
            if match is None:
                return False
            del left[match]
        return not left


def _collect(one: Any, other: Any, waiting: list[tuple[Node, Node]]) -> bool:
    """Compare two values, and leave the schemas in them for later."""
    if isinstance(one, Node) or isinstance(other, Node):
        waiting += [(one, other)] if isinstance(one, Node) and isinstance(other, Node) else []
        return type(one) is type(other)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_collect(one[name], other[name], waiting) for name in one)
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(_collect(*pair, waiting) for pair in zip(one, other, strict=True))
    return type(one) is not tuple and type(other) is not tuple and is_equal(one, other)
