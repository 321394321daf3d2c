"""Conditions for kstatus and people, derived from findings; their times change only with their status."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tidings_plan.resources import Finding

Truth = Literal["True", "False", "Unknown"]


@dataclass(frozen=True, slots=True)
class Condition:
    """One statement about an object."""

    type: str
    status: Truth
    reason: str
    message: str = ""

    @property
    def holds(self) -> bool:
        """True if the status is "True"."""
        return self.status == "True"


def reason(rule: str) -> str:
    """Format a finding's rule as a reason: `unknown-type` becomes `UnknownType`."""
    return "".join(word.capitalize() for word in rule.split("-"))


def format_finding(finding: Finding) -> str:
    """Format a finding in one line: field, problem and fix."""
    field = finding.location.field
    named = finding.message if not field or field in finding.message else f"{field}: {finding.message}"
    end = "" if named.endswith(".") else "."
    return f"{named}{end} {finding.fix}".strip()


def judged(kind: str, findings: Sequence[Finding], good: tuple[str, str]) -> Condition:
    """Return False for the first error, otherwise True with the first warning's reason or with `good`."""
    for severity, status in (("error", "False"), ("warning", "True")):
        worst = next((finding for finding in findings if finding.severity == severity), None)
        if worst:
            return Condition(kind, "False" if status == "False" else "True", reason(worst.rule), format_finding(worst))
    return Condition(kind, "True", *good)


def kstatus(ready: Condition, *, reconciling: bool) -> list[Condition]:
    """Return Ready with the two conditions that generic tools evaluate."""
    stalled = ready.status == "False" and not reconciling
    progress = Condition("Reconciling", "True" if reconciling else "False", ready.reason if reconciling else "Done")
    end = Condition("Stalled", "True" if stalled else "False", ready.reason if stalled else "Progressing")
    return [ready, progress, end if stalled or reconciling else Condition("Stalled", "False", "Done")]


def dated(
    conditions: Iterable[Condition], before: Mapping[str, Any], generation: int, now: str
) -> list[dict[str, Any]]:
    """Format conditions for the API; keep the time of those whose status has not changed."""
    since = {
        (condition.get("type"), condition.get("status")): condition.get("lastTransitionTime", now)
        for condition in before.get("conditions") or ()
    }
    return [
        {
            "type": condition.type,
            "status": condition.status,
            "observedGeneration": generation,
            "lastTransitionTime": since.get((condition.type, condition.status), now),
            "reason": condition.reason,
            "message": condition.message,
        }
        for condition in conditions
    ]
