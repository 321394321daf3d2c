"""`tidings rfc new`: write a request for comments on a changed event, with the known facts filled in."""

from __future__ import annotations

import getpass
import json
import re
from datetime import UTC, date, datetime, timedelta
from difflib import unified_diff
from pathlib import Path
from typing import Annotated, Any

import typer

from tidings_cli import output
from tidings_cli.cluster import Context, Live, Namespace
from tidings_cli.impact import compared
from tidings_cli.inputs import DEFAULT, Against
from tidings_cli.output import Format
from tidings_plan.impact import Impact
from tidings_plan.resources.eventtype import Version

NOTICE = timedelta(days=182)
"""Default time for which the old version is still published: half a year."""
COMMENTS = timedelta(days=14)
_NUMBER = re.compile(r"^(\d{4})-")

app = typer.Typer(no_args_is_help=True, add_completion=False)

Type = Annotated[str, typer.Argument(help="orders.orderConfirmed, or one version of it: orders.orderConfirmed.v3.")]
Files = Annotated[
    list[Path] | None,
    typer.Option("--filename", "-f", help=f"File or folder with YAML; may be repeated. By default {DEFAULT}."),
]
Sunset = Annotated[
    datetime | None,
    typer.Option(
        formats=["%Y-%m-%d"], help="End of the old version; by default as declared in the EventType, or in 182 days."
    ),
]
Folder = Annotated[
    Path, typer.Option("--to", help="Folder, for a file with the next number; file; or - for standard output.")
]


@app.callback()
def _rfc() -> None:
    """Write requests for comments, to discuss a change of an event with its consumers before it is published."""


@app.command()
def new(
    name: Type,
    files: Files = None,
    against: Against = None,
    why: Annotated[str, typer.Option(help="Need that the current version cannot meet.")] = "",
    sunset: Sunset = None,
    to: Folder = Path("docs/rfcs"),
    live: Live = False,
    context: Context = None,
    namespace: Namespace = None,
    output_format: Format = "table",
) -> None:
    """Write a request for comments with the diff, the consumers, the migration, and the end of the old version.

    Exit code 0: written; 1: the type has not changed, or the file exists; 2: wrong usage.
    """
    if sunset and sunset.date() <= datetime.now(UTC).date():
        raise typer.BadParameter(
            "the date must be in the future: consumers have to migrate first", param_hint="--sunset"
        )
    impacts, _ = compared(files, against, live=live, context=context, namespace=namespace)
    concerned = [impact for impact in impacts if name in (impact.event_type.spec.type, _label(impact))]
    if not concerned:
        changed = ", ".join(map(_label, impacts)) or "nothing"
        raise output.refusal(
            f"{name} has not changed: change its EventType first. Changed compared with --against: {changed}."
        )
    path = _place(to, concerned)
    facts = content(concerned, path, datetime.now(UTC).date(), sunset.date() if sunset else None, why)
    if output_format == "json":
        output.dump(facts)
    elif path is None:
        typer.echo(render(facts), nl=False)
    else:
        _write(path, render(facts))
        typer.echo(f"{path} written: add the motivation, then set spec.versions[].rfc of the EventType to this file.")


def content(impacts: list[Impact], path: Path | None, today: date, sunset: date | None, why: str) -> dict[str, Any]:
    """Return the values for the template as plain data; dates are ISO strings."""
    spec = impacts[0].event_type.spec
    number = _NUMBER.match(path.name) if path else None
    changes = ", ".join(
        f"{version} {effect}" for version, effect in dict.fromkeys((entry.version, entry.effect) for entry in impacts)
    )
    return {
        "number": number[1] if number else None,
        "title": f"{spec.type}: {changes}",
        "type": spec.type,
        "owner": {"team": spec.owner.team, "contact": spec.owner.contact},
        "author": getpass.getuser(),
        "date": str(today),
        "commentsUntil": str(today + COMMENTS),
        "why": why,
        "compatibility": spec.compatibility,
        "changes": [_change(impact) for impact in impacts],
        "sunset": [_sunset(impact, today, sunset) for impact in impacts if _ends(impact)],
    }


def render(facts: dict[str, Any]) -> str:
    """Return the rendered template."""
    import jinja2  # noqa: PLC0415 - only this command needs it

    # The result is Markdown, so HTML escaping would be wrong.
    environment = jinja2.Environment(  # noqa: S701
        loader=jinja2.PackageLoader("tidings_cli", "templates"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("rfc.md.j2").render(facts)


def _label(impact: Impact) -> str:
    return f"{impact.event_type.spec.type}.{impact.version}"


def _change(impact: Impact) -> dict[str, Any]:
    source, target = _steps(impact)
    old, new = (_text(version) for version in (impact.old, impact.new))
    before, after = (version.name if version else "nothing" for version in (impact.old, impact.new))
    return {
        **impact.to_dict(),
        "from": source,
        "to": target,
        "classes": {"from": _class(impact, source), "to": _class(impact, target)},
        "diff": "\n".join(unified_diff(old, new, before, after, lineterm="")),
    }


def _steps(impact: Impact) -> tuple[str, str]:
    """Return the versions that consumers migrate from and to. An incompatible change needs a new version."""
    source = impact.old.name if impact.old else impact.version
    if impact.effect in ("added", "drafted"):
        return source, impact.version
    if impact.effect == "changed":
        return source, impact.event_type.spec.next_version if impact.differences else source
    ends = impact.new.deprecation if impact.new else None
    return source, ends.alternative if ends and ends.alternative else source


def _class(impact: Impact, version: str) -> str:
    fact = impact.event_type.spec.type.rpartition(".")[2]
    return f"{fact[0].upper()}{fact[1:]}{version.upper()}"


def _text(version: Version | None) -> list[str]:
    schema = version.schema if version else None
    return json.dumps(schema, indent=2, ensure_ascii=False).splitlines() if isinstance(schema, dict) else []


def _ends(impact: Impact) -> bool:
    """Return whether consumers of the compared version have to migrate."""
    source, target = _steps(impact)
    return source != target or impact.effect in ("deprecated", "retired", "removed")


def _sunset(impact: Impact, today: date, sunset: date | None) -> dict[str, str]:
    """Return the end of the version that consumers migrate from: as requested, as declared, or after NOTICE."""
    source, target = _steps(impact)
    declared = next(
        (version.deprecation for version in (impact.new, impact.old) if version and version.name == source), None
    )
    effective = declared.effective if declared else today + COMMENTS
    removal = sunset or (declared.removal if declared else effective + NOTICE)
    return {
        "version": source,
        "effective": str(min(effective, removal - timedelta(days=1))),
        "removal": str(removal),
        "alternative": target if target != source else "",
    }


def _place(to: Path, impacts: list[Impact]) -> Path | None:
    """Return the file to write, with the next number if `to` is a folder; None for standard output."""
    if str(to) == "-":
        return None
    if to.suffix == ".md":
        return to
    taken = [int(number[1]) for file in to.glob("*.md") if (number := _NUMBER.match(file.name))]
    words = re.sub(r"(?<=[a-z0-9])([A-Z])", r"-\1", impacts[0].event_type.spec.type).lower().replace(".", "-")
    return to / f"{max(taken, default=0) + 1:04d}-{words}-{impacts[-1].version}.md"


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise output.refusal(f"{path} exists: name another file or a folder with --to.") from error
