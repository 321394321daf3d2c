"""Evaluate filters on an event without CEL, for the archive, which filters without a sidecar.

The result equals that of the CEL generated from the same filters (`tidings_plan.filters`). Hand-written CEL is not
supported.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tidings_plan.resources.subscription import Filter

_ABSENT = object()


def matches(filters: Sequence[Filter], event: Mapping[str, Any]) -> bool:
    """Return True if an event, given as its attributes with its data under `data`, matches all filters.

    Raises:
        ValueError: A filter is CEL.

    """
    return all(_holds(condition, event) for condition in filters)


def has_cel(filters: Sequence[Filter]) -> bool:
    """Return True if any filter, however nested, is CEL."""
    return any(
        condition.cel is not None
        or has_cel(condition.all or ())
        or has_cel(condition.any or ())
        or (condition.not_ is not None and has_cel([condition.not_]))
        for condition in filters
    )


def _holds(condition: Filter, event: Mapping[str, Any]) -> bool:
    if condition.cel is not None:
        raise ValueError("CEL is not supported here: use exact, prefix or suffix")
    if condition.all is not None:
        return matches(condition.all, event)
    if condition.any is not None:
        return any(_holds(alternative, event) for alternative in condition.any)
    if condition.not_ is not None:
        return not _holds(condition.not_, event)
    return all(_tests(condition, event))


def _tests(condition: Filter, event: Mapping[str, Any]) -> Iterator[bool]:
    for key, expected in (condition.exact or {}).items():
        actual = _value(event, key)
        # True == 1 in Python, but not in CEL and JSON.
        yield actual == expected and isinstance(actual, bool) == isinstance(expected, bool)
    for key, start in (condition.prefix or {}).items():
        actual = _value(event, key)
        yield isinstance(actual, str) and actual.startswith(start)
    for key, end in (condition.suffix or {}).items():
        actual = _value(event, key)
        yield isinstance(actual, str) and actual.endswith(end)


def _value(event: Mapping[str, Any], key: str) -> Any:
    value: Any = event
    for step in key.split("."):
        value = value.get(step, _ABSENT) if isinstance(value, Mapping) else _ABSENT
    return value
