"""`tidings replay`: archived events to one consumer again."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.progress import Progress

from tidings.cli import output
from tidings.cli.archive import DEFAULT, Archive, DryRun, Url, Yes, confirm, me
from tidings.cli.output import Format, refusal

_LOOK = 0.5  # seconds between looks at how far it is
_FORMATS = ["%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d"]
Types = Annotated[
    list[str] | None,
    typer.Option(
        "--type", help="orders.orderPlaced, orders.orderConfirmed.v1 or orders.*; several; without, every type."
    ),
]
Since = Annotated[datetime | None, typer.Option(formats=_FORMATS, help="Happened then or later (UTC).")]
Until = Annotated[datetime | None, typer.Option(formats=_FORMATS, help="Happened before (UTC).")]


def replay(
    consumer: Annotated[str, typer.Argument(help="The app that is to have the events again.")],
    subscription: Annotated[
        str | None, typer.Option(help="Only this one of its EventSubscriptions; else whichever reads the type.")
    ] = None,
    types: Types = None,
    since: Since = None,
    until: Until = None,
    correlation_id: Annotated[str | None, typer.Option(help="Only of this business transaction.")] = None,
    rate: Annotated[float | None, typer.Option(min=0.1, help="At most so many events a second.")] = None,
    dry_run: DryRun = False,
    wait: Annotated[bool, typer.Option(help="Wait until it has ended.")] = True,
    yes: Yes = False,
    archive: Url = DEFAULT,
    output_format: Format = "table",
) -> None:
    """Send archived events to one consumer again; what it has handled before it drops.

    Exit code 0: it was carried out, or has begun with --no-wait; 1: it was refused or cancelled.
    """
    client = Archive(archive)
    body = {
        "consumer": consumer,
        "subscription": subscription,
        "types": types or [],
        "since": _moment(since),
        "until": _moment(until),
        "correlationId": correlation_id,
        "ratePerSecond": rate,
        "by": me(),
    }
    counted = client.post("/replays", {**body, "dryRun": True})
    plain = output_format == "json"
    if not plain:
        _show(counted)
    if dry_run:
        if plain:
            output.dump(counted)
        return
    confirm(f"Send {counted['matched']} events to {consumer}?", yes=yes)
    ended = _followed(client, client.post("/replays", body), wait=wait, silent=plain)
    if plain:
        output.dump(ended)
    else:
        output.console().print(f"{ended['replayId']}: {ended['state']}, {ended['sent']} of {ended['matched']} sent")
    if ended["state"] == "cancelled":
        raise refusal("Somebody cancelled it: see the archive's audit.")


def _moment(given: datetime | None) -> str | None:
    if given is None:
        return None
    return (given if given.tzinfo else given.replace(tzinfo=UTC)).isoformat()


def _show(counted: dict[str, Any]) -> None:
    console = output.console()
    for kind, count in counted["counts"].items():
        console.print(output.literal(f"{count:>9}  {kind}"))
    console.print(f"{counted['matched']:>9}  in all", style="bold")


def _followed(client: Archive, begun: dict[str, Any], *, wait: bool, silent: bool) -> dict[str, Any]:
    """Look on until a replay has ended."""
    state = begun
    with Progress(console=output.console(error=True), disable=silent, transient=True) as progress:
        task = progress.add_task("sending", total=max(begun["matched"], 1))
        while wait and state["state"] == "running":
            time.sleep(_LOOK)
            state = client.get(f"/replays/{begun['replayId']}")
            progress.update(task, completed=state["sent"])
    return state
