"""Findings and tables for people, JSON for programs."""

import json
import sys
from collections import Counter
from collections.abc import Iterable
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.text import Text

from tidings import terminal
from tidings.resources import Finding, Severity, has_errors

Format = Annotated[Literal["table", "json"], typer.Option("-o", "--output", help="For people, or for programs.")]
COLOURS: dict[Severity, str] = {"error": "bold red", "warning": "yellow", "info": "cyan"}


def console(*, error: bool = False) -> Console:
    """Return the console. Into a pipe nothing is wrapped or cut: a line stays a line there."""
    made = Console(stderr=error, highlight=False)
    return made if made.is_terminal else Console(stderr=error, highlight=False, width=10_000)


def printable(value: object, *, lines: bool = False) -> str:
    """Return data as text that a terminal shows and does not obey; line breaks and tabs stay where `lines` is set."""
    return terminal.printable(str(value), keep="\n\t" if lines else "")


def literal(value: object, style: str = "") -> Text:
    """Return data for a console or a table: printable, and never read as markup."""
    return Text(printable(value), style=style)


def show(findings: Iterable[Finding], to: Console) -> None:
    """Print findings as compilers do: place, severity, message, rule; below it what to do."""
    for finding in findings:
        place = str(finding.location) or finding.resource
        to.print(
            literal(f"{place}: "),
            Text(finding.severity, style=COLOURS[finding.severity]),
            literal(f": {finding.message} "),
            Text(f"[{finding.rule}]", style="dim"),
            sep="",
        )
        if finding.mend:
            to.print(literal(f"    {finding.mend}", "dim"))


def summary(findings: Iterable[Finding]) -> str:
    """Count findings by severity: `2 errors, 1 warning`."""
    counts = Counter(finding.severity for finding in findings)
    named = [f"{counts[each]} {each}{'s' * (counts[each] != 1)}" for each in ("error", "warning") if counts[each]]
    return ", ".join(named) or "nothing wrong"


def as_json(value: Any) -> str:
    """Return indented JSON; a character that a terminal would act on is escaped, which is the same JSON."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return "".join(_json_escaped(each) if each != "\n" and terminal.is_unsafe(each) else each for each in text)


def dump(value: Any) -> None:
    """Print JSON."""
    sys.stdout.write(as_json(value) + "\n")


def _json_escaped(character: str) -> str:
    escaped = json.dumps(character)[1:-1]
    return escaped if escaped != character else f"\\u{ord(character):04x}"


def refusal(message: str) -> typer.Exit:
    """Print why a command cannot be carried out, and return what to raise: exit code 1."""
    console(error=True).print(Text(printable(message, lines=True), style="bold red"))
    return typer.Exit(1)


def leave(findings: Iterable[Finding]) -> None:
    """End the command with exit code 1 if a finding is an error."""
    if has_errors(findings):
        raise typer.Exit(1)
