"""Findings and tables for people, JSON for programs."""

import json
import sys
from collections import Counter
from collections.abc import Iterable
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.text import Text

from tidings.resources import Finding, Severity, has_errors

Format = Annotated[Literal["table", "json"], typer.Option("-o", "--output", help="For people, or for programs.")]
COLOURS: dict[Severity, str] = {"error": "bold red", "warning": "yellow", "info": "cyan"}


def console(*, error: bool = False) -> Console:
    """Return the console. Into a pipe nothing is wrapped or cut: a line stays a line there."""
    made = Console(stderr=error, highlight=False)
    return made if made.is_terminal else Console(stderr=error, highlight=False, width=10_000)


def show(findings: Iterable[Finding], to: Console) -> None:
    """Print findings as compilers do: place, severity, message, rule; below it what to do."""
    for finding in findings:
        place = str(finding.location) or finding.resource
        to.print(
            Text(f"{place}: "),
            Text(finding.severity, style=COLOURS[finding.severity]),
            Text(f": {finding.message} "),
            Text(f"[{finding.rule}]", style="dim"),
            sep="",
        )
        if finding.mend:
            to.print(Text(f"    {finding.mend}", style="dim"))


def summary(findings: Iterable[Finding]) -> str:
    """Count findings by severity: `2 errors, 1 warning`."""
    counts = Counter(finding.severity for finding in findings)
    named = [f"{counts[each]} {each}{'s' * (counts[each] != 1)}" for each in ("error", "warning") if counts[each]]
    return ", ".join(named) or "nothing wrong"


def dump(value: Any) -> None:
    """Print JSON."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def refusal(message: str) -> typer.Exit:
    """Print why a command cannot be carried out, and return what to raise: exit code 1."""
    console(error=True).print(message, style="bold red", markup=False)
    return typer.Exit(1)


def leave(findings: Iterable[Finding]) -> None:
    """End the command with exit code 1 if a finding is an error."""
    if has_errors(findings):
        raise typer.Exit(1)
