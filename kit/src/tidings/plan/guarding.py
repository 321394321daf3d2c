"""The one place where judging an object may fail: that is a finding on the object, and the others are planned."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from tidings.resources.findings import Finding, worst_first
from tidings.resources.model import Resource

MAX_REASON = 300
MOST = 50
"""Findings on one object that are kept."""
T = TypeVar("T")


def judged(
    resource: Resource[Any], judge: Callable[[], tuple[T, Iterable[Finding]]], otherwise: T
) -> tuple[T, list[Finding]]:
    """Return what a judgement gives; where it raises, `otherwise` and an error."""
    try:
        result, findings = judge()
        return result, _bounded(resource, list(findings))
    except Exception as error:  # noqa: BLE001 - whatever it is, it concerns this object only
        return otherwise, [failure(resource, error)]


def _bounded(resource: Resource[Any], findings: list[Finding]) -> list[Finding]:
    """Keep the worst findings on an object: thousands of filters must not make a status or a refusal of megabytes."""
    if len(findings) <= MOST:
        return findings
    message = f"{len(findings) - MOST} more findings are left out"
    return [*worst_first(findings)[:MOST], resource.finding("warning", "more-findings", message, "Mend these first.")]


def failure(resource: Resource[Any], error: Exception) -> Finding:
    """Make the finding about an object whose judgement failed."""
    message = f"It cannot be judged: {type(error).__name__}: {error}"[:MAX_REASON]
    return resource.finding("error", "not-judged", message, "Simplify it, and please report this.")
