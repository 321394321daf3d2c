"""`tidings rfc new`: a request for comments on a changed event, filled with what is known already."""

from __future__ import annotations

import getpass
import json
import re
from datetime import UTC, date, datetime, timedelta
from difflib import unified_diff
from pathlib import Path
from typing import Annotated, Any

import typer

from tidings.cli import output
from tidings.cli.cluster import Context, Live, Namespace
from tidings.cli.impact import compared
from tidings.cli.inputs import Against
from tidings.cli.output import Format
from tidings.plan.impact import Impact, next_version
from tidings.resources.eventtype import Version

NOTICE = timedelta(days=182)
"""How long the old version is still published, unless somebody says otherwise: half a year."""
COMMENTS = timedelta(days=14)
_NUMBER = re.compile(r"^(\d{4})-")

app = typer.Typer(no_args_is_help=True, add_completion=False)

Type = Annotated[str, typer.Argument(help="orders.orderConfirmed, or one version of it: orders.orderConfirmed.v3.")]
Files = Annotated[
    list[Path] | None,
    typer.Option("--filename", "-f", help="A file or folder with YAML; several. By default services/*/contracts."),
]
Sunset = Annotated[
    datetime | None,
    typer.Option(
        formats=["%Y-%m-%d"], help="When the old version ends; by default what the EventType says, or 182 days."
    ),
]
Folder = Annotated[Path, typer.Option("--to", help="A folder, which gives the next number; a file; or - to print it.")]


@app.callback()
def _rfc() -> None:
    """Requests for comments on events: a change is discussed with those who read it before it is published."""


@app.command()
def new(
    wanted: Type,
    files: Files = None,
    against: Against = None,
    why: Annotated[str, typer.Option(help="Which need the present version cannot meet.")] = "",
    sunset: Sunset = None,
    to: Folder = Path("docs/rfcs"),
    live: Live = False,
    context: Context = None,
    namespace: Namespace = None,
    output_format: Format = "table",
) -> None:
    """Write a request for comments: the diff, who reads it, how they move, and when the old version ends.

    Exit code 0: written; 1: nothing has changed, or the file exists; 2: wrong usage.
    """
    if sunset and sunset.date() <= datetime.now(UTC).date():
        raise typer.BadParameter(
            "a version that readers still have to leave cannot end by today", param_hint="--sunset"
        )
    found, _ = compared(files, against, live=live, context=context, namespace=namespace)
    concerned = [each for each in found if wanted in (each.event_type.spec.type, _label(each))]
    if not concerned:
        changed = ", ".join(map(_label, found)) or "nothing at all"
        raise output.refusal(
            f"{wanted} is as it was: change its EventType first. Changed: {changed}, as compared with --against."
        )
    path = _place(to, concerned)
    facts = content(concerned, path, datetime.now(UTC).date(), sunset.date() if sunset else None, why)
    if output_format == "json":
        output.dump(facts)
    elif path is None:
        typer.echo(render(facts), nl=False)
    else:
        _write(path, render(facts))
        typer.echo(f"{path} written: say why, then name it under spec.versions[].rfc of the EventType.")


def content(found: list[Impact], path: Path | None, today: date, sunset: date | None, why: str) -> dict[str, Any]:
    """Return what the template is filled with, as plain data; dates are ISO texts."""
    spec = found[0].event_type.spec
    number = _NUMBER.match(path.name) if path else None
    return {
        "number": number[1] if number else None,
        "title": _title(found),
        "type": spec.type,
        "owner": {"team": spec.owner.team, "contact": spec.owner.contact},
        "author": getpass.getuser(),
        "date": str(today),
        "commentsUntil": str(today + COMMENTS),
        "why": why,
        "compatibility": spec.compatibility,
        "changes": [_change(each) for each in found],
        "sunset": [_sunset(each, today, sunset) for each in found if _ends(each)],
    }


def render(facts: dict[str, Any]) -> str:
    """Fill the template."""
    import jinja2  # noqa: PLC0415 - only this command needs it

    # Markdown for people: nothing is to be escaped for HTML.
    environment = jinja2.Environment(  # noqa: S701
        loader=jinja2.PackageLoader("tidings.cli", "templates"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("rfc.md.j2").render(facts)


def _label(impact: Impact) -> str:
    return f"{impact.event_type.spec.type}.{impact.version}"


def _title(found: list[Impact]) -> str:
    spoken = ", ".join(
        f"{version} {effect}" for version, effect in dict.fromkeys((each.version, each.effect) for each in found)
    )
    return f"{found[0].event_type.spec.type}: {spoken}"


def _change(impact: Impact) -> dict[str, Any]:
    source, target = _steps(impact)
    return {
        **impact.to_dict(),
        "from": source,
        "to": target,
        "classes": {"from": _class(impact, source), "to": _class(impact, target)},
        "diff": _diff(impact),
    }


def _steps(impact: Impact) -> tuple[str, str]:
    """Return which version the readers come from and which they are to read: an incompatible change needs a new one."""
    source = impact.old.name if impact.old else impact.version
    if impact.effect in ("added", "drafted"):
        return source, impact.version
    if impact.effect == "changed":
        return source, next_version(impact.event_type) if impact.differences else source
    ends = impact.new.deprecation if impact.new else None
    return source, ends.alternative if ends and ends.alternative else source


def _class(impact: Impact, version: str) -> str:
    fact = impact.event_type.spec.type.rpartition(".")[2]
    return f"{fact[0].upper()}{fact[1:]}{version.upper()}"


def _diff(impact: Impact) -> str:
    old, new = (_text(each) for each in (impact.old, impact.new))
    before, after = (each.name if each else "nothing" for each in (impact.old, impact.new))
    return "\n".join(unified_diff(old, new, before, after, lineterm=""))


def _text(version: Version | None) -> list[str]:
    schema = version.schema if version else None
    return json.dumps(schema, indent=2, ensure_ascii=False).splitlines() if isinstance(schema, dict) else []


def _ends(impact: Impact) -> bool:
    """Whether the compared version has readers to move away from it."""
    source, target = _steps(impact)
    return source != target or impact.effect in ("deprecated", "retired", "removed")


def _sunset(impact: Impact, today: date, sunset: date | None) -> dict[str, str]:
    """Return when the version that readers come from ends: as asked, as the EventType says, or after NOTICE."""
    source, target = _steps(impact)
    said = next((each.deprecation for each in (impact.new, impact.old) if each and each.name == source), None)
    effective = said.effective if said else today + COMMENTS
    removal = sunset or (said.removal if said else effective + NOTICE)
    return {
        "version": source,
        "effective": str(min(effective, removal - timedelta(days=1))),
        "removal": str(removal),
        "alternative": target if target != source else "",
    }


def _place(to: Path, found: list[Impact]) -> Path | None:
    """Return the file to write: in a folder, under the next number; None for standard output."""
    if str(to) == "-":
        return None
    if to.suffix == ".md":
        return to
    taken = [int(number[1]) for each in to.glob("*.md") if (number := _NUMBER.match(each.name))]
    words = re.sub(r"(?<=[a-z0-9])([A-Z])", r"-\1", found[0].event_type.spec.type).lower().replace(".", "-")
    return to / f"{max(taken, default=0) + 1:04d}-{words}-{found[-1].version}.md"


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise output.refusal(f"{path} exists: name another file with --to, or the folder.") from error
