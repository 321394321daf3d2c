"""Compatibility of a writer's array items with a reader's schema."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidings_plan.jsonschema import limits
from tidings_plan.jsonschema.node import ANYTHING, Node
from tidings_plan.jsonschema.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tidings_plan.jsonschema.comparison import Comparison
    from tidings_plan.jsonschema.ways import Way

KEYWORDS = ("items", "prefixItems", "contains", "minContains", "maxContains", "uniqueItems", "unevaluatedItems")


def problems(way: Way, reader: Node, comparison: Comparison) -> Iterator[Problem]:
    """Yield the incompatibilities of a way's items with the reader."""
    yield from _items(way, reader, comparison)
    if "contains" in reader.keywords:
        yield from _contains(way, reader, comparison)
    most = limits.most(way, "maxItems")
    if reader.keywords.get("uniqueItems") is True and True not in way.of("uniqueItems") and (most is None or most > 1):
        yield Problem("", "may hold the same item twice for the writer, but not for the reader")
    if "unevaluatedItems" in reader.keywords and "items" not in reader.keywords:
        yield from _unevaluated(way, reader, comparison)


def _items(way: Way, reader: Node, comparison: Comparison) -> Iterator[Problem]:
    first = max((len(node.all("prefixItems")) for node in (*way.nodes, reader)), default=0)
    most = limits.most(way, "maxItems")
    for place in range(first if most is None else min(first, most)):
        reasons = comparison.between(_at(way, place), _schema(reader, place), closed=way.closed)
        yield from (reason.inside(f"[{place}]") for reason in reasons)
    if most is None or most > first:
        reasons = comparison.between(_at(way, first), _schema(reader, first), closed=way.closed)
        yield from (reason.inside("[]") for reason in reasons)


def _at(way: Way, place: int) -> tuple[Node, ...]:
    return tuple(_schema(node, place) for node in way.nodes)


def _schema(node: Node, place: int) -> Node:
    """Return the schema of the item at an index."""
    first = node.all("prefixItems")
    schema: Node = first[place] if place < len(first) else node.keywords.get("items", ANYTHING)
    return schema


def _contains(way: Way, reader: Node, comparison: Comparison) -> Iterator[Problem]:
    expected, least = reader.keywords["contains"], reader.keywords.get("minContains", 1)
    most = reader.keywords.get("maxContains")
    containing = [node.keywords for node in way.nodes if "contains" in node.keywords]
    enough = least == 0 or any(
        keywords.get("minContains", 1) >= least
        and not comparison.between((keywords["contains"],), expected, closed=False)
        for keywords in containing
    )
    first = max((len(node.all("prefixItems")) for node in way.nodes), default=0)
    if not enough and limits.least(way, "minItems") >= least:
        enough = all(
            not comparison.between(_at(way, place), expected, closed=way.closed)
            for place in range(min(first, least) + 1)
        )
    if not enough:
        yield Problem("", "may lack the item that the reader's `contains` asks for")
    size = limits.most(way, "maxItems")
    if most is None or (size is not None and size <= most):
        return
    if not any(
        keywords.get("maxContains", most + 1) <= most and comparison.same.nodes(keywords["contains"], expected)
        for keywords in containing
    ):
        yield Problem("", "may have more of the reader's `contains` than its maxContains")


def _unevaluated(way: Way, reader: Node, comparison: Comparison) -> Iterator[Problem]:
    """Yield the incompatibilities of items beyond the reader's prefixItems, ignoring items that its parts evaluate."""
    first = len(reader.all("prefixItems"))
    most = limits.most(way, "maxItems")
    ends = max((len(node.all("prefixItems")) for node in way.nodes), default=0)
    for place in range(first, max(first, ends) + 1):
        if most is None or place < most:
            reasons = comparison.between(_at(way, place), reader.keywords["unevaluatedItems"], closed=way.closed)
            yield from (reason.inside(f"[{place}]") for reason in reasons)
