"""Output of the commands: findings and tables for terminals, JSON for programs."""

import json
import sys
from collections import Counter
from collections.abc import Iterable
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.text import Text

from tidings import terminal
from tidings_plan.resources import Finding, Severity, has_errors

Format = Annotated[Literal["table", "json"], typer.Option("-o", "--output", help="Output format.")]
SUMMARISED: tuple[Severity, ...] = ("error", "warning")
COLOURS: dict[Severity, str] = {"error": "bold red", "warning": "yellow", "info": "cyan"}


def console(*, error: bool = False) -> Console:
    """Return a console. In a pipe, lines are neither wrapped nor truncated."""
    terminal_console = Console(stderr=error, highlight=False)
    return terminal_console if terminal_console.is_terminal else Console(stderr=error, highlight=False, width=10_000)


def printable(value: object, *, lines: bool = False) -> str:
    """Return text without terminal control characters; line breaks and tabs are kept if `lines` is set."""
    return terminal.printable(str(value), keep="\n\t" if lines else "")


def literal(value: object, style: str = "") -> Text:
    """Return printable text for a console or a table that is never parsed as markup."""
    return Text(printable(value), style=style)


def show(findings: Iterable[Finding], to: Console) -> None:
    """Print findings in the style of a compiler: location, severity, message, rule, and the fix on the next line."""
    for finding in findings:
        place = str(finding.location) or finding.resource
        to.print(
            literal(f"{place}: "),
            Text(finding.severity, style=COLOURS[finding.severity]),
            literal(f": {finding.message} "),
            Text(f"[{finding.rule}]", style="dim"),
            sep="",
        )
        if finding.fix:
            to.print(literal(f"    {finding.fix}", "dim"))


def summary(findings: Iterable[Finding]) -> str:
    """Count findings by severity: `2 errors, 1 warning`."""
    counts = Counter(finding.severity for finding in findings)
    parts = [
        f"{counts[severity]} {severity}{'s' * (counts[severity] != 1)}" for severity in SUMMARISED if counts[severity]
    ]
    return ", ".join(parts) or "no problems"


def as_json(value: Any) -> str:
    """Return indented JSON with terminal control characters escaped."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return "".join(
        _json_escaped(character) if character != "\n" and terminal.is_unsafe(character) else character
        for character in text
    )


def dump(value: Any) -> None:
    """Print JSON."""
    sys.stdout.write(as_json(value) + "\n")


def _json_escaped(character: str) -> str:
    escaped = json.dumps(character)[1:-1]
    return escaped if escaped != character else f"\\u{ord(character):04x}"


def refusal(message: str) -> typer.Exit:
    """Print why a command failed, and return the exception to raise, with exit code 1."""
    console(error=True).print(Text(printable(message, lines=True), style="bold red"))
    return typer.Exit(1)


def leave(findings: Iterable[Finding]) -> None:
    """Exit with code 1 if any finding is an error."""
    if has_errors(findings):
        raise typer.Exit(1)
