"""Filters held against an event at hand, without CEL: what an archive does, which has no sidecar between.

It decides as the CEL does that filters become (`tidings.plan.filters`). Hand-written CEL it does not read.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tidings.resources.subscription import Filter

_ABSENT = object()


def matches(filters: Sequence[Filter], event: Mapping[str, Any]) -> bool:
    """Whether all filters hold of an event: its attributes, and its data under `data`.

    Raises:
        ValueError: One of them is CEL.

    """
    return all(_holds(each, event) for each in filters)


def has_cel(filters: Sequence[Filter]) -> bool:
    """Whether CEL stands anywhere in them."""
    return any(
        each.cel is not None
        or has_cel(each.all or ())
        or has_cel(each.any or ())
        or (each.not_ is not None and has_cel([each.not_]))
        for each in filters
    )


def _holds(condition: Filter, event: Mapping[str, Any]) -> bool:
    if condition.cel is not None:
        raise ValueError("CEL is not read here: write exact, prefix or suffix")
    if condition.all is not None:
        return matches(condition.all, event)
    if condition.any is not None:
        return any(_holds(each, event) for each in condition.any)
    if condition.not_ is not None:
        return not _holds(condition.not_, event)
    return all(_tests(condition, event))


def _tests(condition: Filter, event: Mapping[str, Any]) -> Iterator[bool]:
    for key, wanted in (condition.exact or {}).items():
        found = _value(event, key)
        # Python takes True for 1; CEL and JSON do not.
        yield found == wanted and isinstance(found, bool) == isinstance(wanted, bool)
    for key, start in (condition.prefix or {}).items():
        found = _value(event, key)
        yield isinstance(found, str) and found.startswith(start)
    for key, end in (condition.suffix or {}).items():
        found = _value(event, key)
        yield isinstance(found, str) and found.endswith(end)


def _value(event: Mapping[str, Any], key: str) -> Any:
    found: Any = event
    for step in key.split("."):
        found = found.get(step, _ABSENT) if isinstance(found, Mapping) else _ABSENT
    return found
