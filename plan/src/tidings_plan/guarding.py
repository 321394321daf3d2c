"""Isolate failures: an exception while evaluating an object becomes a finding on that object only."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from tidings_plan.resources.findings import Finding, worst_first
from tidings_plan.resources.model import Resource

MAX_REASON = 300
MOST = 50
"""Findings on one object that are kept."""
T = TypeVar("T")


def judged(
    resource: Resource[Any], judge: Callable[[], tuple[T, Iterable[Finding]]], otherwise: T
) -> tuple[T, list[Finding]]:
    """Evaluate an object and return the result with findings; on an exception, `otherwise` with an error."""
    try:
        result, findings = judge()
        return result, bounded(resource, list(findings))
    except Exception as error:  # noqa: BLE001 - a bug triggered by one object must not affect the others
        return otherwise, [failure(resource, error)]


def bounded(resource: Resource[Any], findings: list[Finding]) -> list[Finding]:
    """Keep the worst findings of an object, so that thousands of filters do not inflate a status to megabytes."""
    if len(findings) <= MOST:
        return findings
    message = f"{len(findings) - MOST} more findings are omitted"
    return [*worst_first(findings)[:MOST], resource.finding("warning", "more-findings", message, "Fix these first.")]


def failure(resource: Resource[Any], error: Exception) -> Finding:
    """Create the finding for an object whose evaluation raised."""
    message = f"Cannot be evaluated: {type(error).__name__}: {error}"[:MAX_REASON]
    return resource.finding("error", "not-judged", message, "Simplify it, and please report this.")
