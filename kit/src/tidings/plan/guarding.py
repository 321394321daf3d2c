"""The one place where judging an object may fail: that is a finding on the object, and the others are planned."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from tidings.resources.findings import Finding
from tidings.resources.model import Resource

MAX_REASON = 300
T = TypeVar("T")


def judged(
    resource: Resource[Any], judge: Callable[[], tuple[T, Iterable[Finding]]], otherwise: T
) -> tuple[T, list[Finding]]:
    """Return what a judgement gives; where it raises, `otherwise` and an error."""
    try:
        result, findings = judge()
        return result, list(findings)
    except Exception as error:  # noqa: BLE001 - whatever it is, it concerns this object only
        return otherwise, [failure(resource, error)]


def failure(resource: Resource[Any], error: Exception) -> Finding:
    """Make the finding about an object whose judgement failed."""
    message = f"It cannot be judged: {type(error).__name__}: {error}"[:MAX_REASON]
    return resource.finding("error", "not-judged", message, "Simplify it, and please report this.")
