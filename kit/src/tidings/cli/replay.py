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
    wait: Annotated[bool, typer.Option(help="Wait until it has ended and the consumer has confirmed it.")] = True,
    timeout: Annotated[
        float, typer.Option(min=0, help="Seconds to wait for confirmations of what was sent, since the last one.")
    ] = 60.0,
    yes: Yes = False,
    archive: Url = DEFAULT,
    output_format: Format = "table",
) -> None:
    """Send archived events to one consumer again; what it has handled before it drops.

    Exit code 0: it was carried out and every event was handled, or it has begun with --no-wait; 1: it was refused,
    cancelled or has failed, or an event was skipped, failed, was not confirmed in time, or is not read by the
    --subscription that was named.
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
    counted = client.post("/replays", body, dryRun="true")
    plain = output_format == "json"
    if not plain:
        _show(counted)
    if dry_run:
        if plain:
            output.dump(counted)
        return
    confirm(f"Send {counted['matched']} events to {consumer}?", yes=yes)
    ended = _followed(client, client.post("/replays", body), wait=wait, timeout=timeout, silent=plain)
    if plain:
        output.dump(ended)
    else:
        counts = [f"{ended[name]} {name}" for name in _COUNTS if ended[name]]
        sent = f"{ended['sent']} of {ended['matched']} sent"
        output.console().print(output.literal(f"{ended['replayId']}: {', '.join([ended['state'], sent, *counts])}"))
    if wait and (why := _unsolved(ended)):
        raise refusal(why)


def _moment(given: datetime | None) -> str | None:
    if given is None:
        return None
    return (given if given.tzinfo else given.replace(tzinfo=UTC)).isoformat()


def _show(counted: dict[str, Any]) -> None:
    console = output.console()
    for kind, count in counted["counts"].items():
        console.print(output.literal(f"{count:>9}  {kind}"))
    console.print(f"{counted['matched']:>9}  in all", style="bold")


_COUNTS = ("skipped", "handled", "failed", "unread", "dropped", "unconfirmed")


_UNSOLVED = {
    "failed": "failed again: see `tidings dlq list`.",
    "unread": "are read by nobody: no handler of {consumer} takes their version.",
    "skipped": "could not be sent: see the archive's audit.",
    "unconfirmed": "were sent and not confirmed in time: see whether {consumer} runs.",
}


def _unsolved(ended: dict[str, Any]) -> str:
    """Return why a replay was no complete success; empty where it was."""
    if ended["state"] == "cancelled":
        return "Somebody cancelled it: see the archive's audit."
    if ended["state"] == "failed":
        return f"It could not go on: {ended['reason']}"
    for name, meaning in _UNSOLVED.items():
        # Sent to whichever subscription reads it: what none reads was only asked for too generously.
        if ended[name] and (name != "unread" or ended["subscription"] != "*"):
            return f"{ended[name]} {meaning.format(consumer=ended['consumer'])}"
    return ""


def _followed(client: Archive, begun: dict[str, Any], *, wait: bool, timeout: float, silent: bool) -> dict[str, Any]:
    """Look on until a replay has ended and what was sent is confirmed, or no confirmation comes for `timeout`."""
    state, progressed = begun, time.monotonic()
    with Progress(console=output.console(error=True), disable=silent, transient=True) as progress:
        task = progress.add_task("sending", total=max(begun["matched"], 1))
        while wait and (state["state"] == "running" or state["unconfirmed"]):
            if state["state"] != "running" and time.monotonic() - progressed >= timeout:
                break
            time.sleep(_LOOK)
            before, state = state, client.get(f"/replays/{begun['replayId']}")
            if (before["sent"], before["unconfirmed"]) != (state["sent"], state["unconfirmed"]):
                progressed = time.monotonic()
            progress.update(task, completed=state["sent"])
    return state
