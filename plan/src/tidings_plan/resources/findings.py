"""Findings: diagnostics about resources, with severity, location and fix."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

Severity = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")


@dataclass(frozen=True, slots=True, order=True)
class Location:
    """A position in a file (1-based line and column) or, without a file, only a field path."""

    file: str = ""
    line: int = 0
    column: int = 0
    field: str = ""

    def __str__(self) -> str:
        """Format as `file:line:column`, or as the field path if there is no file."""
        return f"{self.file}:{self.line}:{self.column}" if self.file else self.field


@dataclass(frozen=True, slots=True)
class Finding:
    """A diagnostic about a resource. `rule` is a stable id, `fix` tells the user how to resolve it."""

    severity: Severity
    rule: str
    message: str
    fix: str = ""
    location: Location = Location()
    resource: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the finding as `-o json` prints it."""
        return asdict(self)


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Sort findings by severity, then by location, and remove duplicates. The result is deterministic."""
    return sorted(
        dict.fromkeys(findings),
        key=lambda finding: (
            SEVERITIES.index(finding.severity),
            finding.location,
            finding.resource,
            finding.rule,
            finding.message,
        ),
    )


def has_errors(findings: Iterable[Finding]) -> bool:
    """Return True if any finding is an error."""
    return any(finding.severity == "error" for finding in findings)
