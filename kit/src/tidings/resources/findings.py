"""What reading and planning have to say about a resource, and where in which file."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Severity = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")


@dataclass(frozen=True, slots=True, order=True)
class Location:
    """A place in a file (line and column from 1) or, without a file, only the field of a resource."""

    file: str = ""
    line: int = 0
    column: int = 0
    field: str = ""

    def __str__(self) -> str:
        """`file:line:column`, as editors and compilers write it; the field where there is no file."""
        return f"{self.file}:{self.line}:{self.column}" if self.file else self.field


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong or worth knowing. `rule` is a stable id, `mend` says what to do about it."""

    severity: Severity
    rule: str
    message: str
    mend: str = ""
    location: Location = Location()
    resource: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return what `-o json` prints."""
        place = {
            "file": self.location.file,
            "line": self.location.line,
            "column": self.location.column,
            "field": self.location.field,
        }
        return {
            "severity": self.severity,
            "rule": self.rule,
            "message": self.message,
            "mend": self.mend,
            "location": place,
            "resource": self.resource,
        }


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Order findings by severity, then by place: the same input gives the same list, without doubles."""
    rank: Mapping[str, int] = {severity: place for place, severity in enumerate(SEVERITIES)}
    return sorted(
        dict.fromkeys(findings),
        key=lambda found: (
            rank[found.severity],
            found.location,
            found.resource,
            found.rule,
            found.message,
        ),
    )


def has_errors(findings: Iterable[Finding]) -> bool:
    """Tell whether anything in the list forbids going on."""
    return any(found.severity == "error" for found in findings)
