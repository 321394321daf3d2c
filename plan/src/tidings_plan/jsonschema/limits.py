"""Limits of numbers and sizes that a way of writing satisfies."""

from collections.abc import Iterator
from math import ceil, floor
from typing import Any

from tidings_plan.jsonschema.node import NUMBER, is_nothing
from tidings_plan.jsonschema.values import is_multiple
from tidings_plan.jsonschema.ways import Way

LOWER = ("minLength", "minItems", "minProperties")
UPPER = ("maxLength", "maxItems", "maxProperties")
BOUNDS = ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum")


def keeps(way: Way, keyword: str, limit: Any) -> bool:
    """Return True if all values of a way satisfy a reader's limit."""
    if keyword in BOUNDS:
        return _bound(way, keyword, limit)
    if keyword in LOWER:
        return bool(least(way, keyword) >= limit)
    if keyword in UPPER:
        most_written = most(way, keyword)
        return most_written is not None and most_written <= limit
    return any(is_multiple(multiple, limit) for multiple in way.of("multipleOf")) or (
        way.types == {"integer"} and is_multiple(1, limit)
    )


def least(way: Way, keyword: str) -> int:
    """Return the smallest size: characters, items or properties."""
    sizes = [int(size) for size in way.of(keyword)]
    if keyword == "minProperties":
        sizes.append(len(way.required))
    return max(sizes, default=0)


def most(way: Way, keyword: str) -> int | None:
    """Return the largest size, None without a limit."""
    sizes = [int(size) for size in way.of(keyword)]
    if keyword == "maxItems":
        sizes += [len(node.all("prefixItems")) for node in way.nodes if is_nothing(node.keywords.get("items", node))]
    if keyword == "maxProperties" and not way.is_open and not way.patterns:
        sizes.append(len(way.mentioned))
    return min(sizes, default=None)


def lowest(way: Way) -> tuple[float, bool] | None:
    """Return the lower bound of numbers, and whether it is itself excluded."""
    return max(_bounds(way, "minimum", "exclusiveMinimum"), default=None)


def highest(way: Way) -> tuple[float, bool] | None:
    """Return the upper bound of numbers, and whether it is itself excluded."""
    return min(_bounds(way, "maximum", "exclusiveMaximum"), key=lambda bound: (bound[0], not bound[1]), default=None)


def are_apart(one: Way, other: Way) -> bool:
    """Return True if no value satisfies the limits of both ways, which have the same type."""
    types = one.types & other.types
    if types <= NUMBER:
        return _is_below(one, other) or _is_below(other, one)
    for kind, low, high in zip(("string", "array", "object"), LOWER, UPPER, strict=True):
        if types == {kind}:
            ends = most(one, high), most(other, high)
            return any(
                end is not None and end < start
                for end, start in zip(ends, (least(other, low), least(one, low)), strict=True)
            )
    return False


def _is_below(one: Way, other: Way) -> bool:
    end, start = highest(one), lowest(other)
    if end is None or start is None:
        return False
    return end[0] < start[0] or (end[0] == start[0] and (end[1] or start[1]))


def _bound(way: Way, keyword: str, limit: float) -> bool:
    is_lower, excludes = keyword.endswith("inimum"), keyword.startswith("exclusive")
    bound = lowest(way) if is_lower else highest(way)
    if bound is None:
        return False
    value, excluded = bound
    if way.types == {"integer"} and excludes:  # of whole numbers, more than 4 is at least 5
        excludes, limit = False, floor(limit) + 1 if is_lower else ceil(limit) - 1
    if value == limit:
        return excluded or not excludes
    return value > limit if is_lower else value < limit


def _bounds(way: Way, including: str, excluding: str) -> Iterator[tuple[float, bool]]:
    is_whole, is_lower = way.types == {"integer"}, including == "minimum"
    for keyword, excluded in ((including, False), (excluding, True)):
        for value in way.of(keyword):
            if not is_whole:
                yield value, excluded
            elif is_lower:
                yield (floor(value) + 1 if excluded else ceil(value)), False
            else:
                yield (ceil(value) - 1 if excluded else floor(value)), False
