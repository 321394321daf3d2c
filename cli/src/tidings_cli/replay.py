"""`tidings replay`: replay archived events to one consumer."""

import time
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.progress import Progress

from tidings_cli import output
from tidings_cli.archive import DEFAULT, Archive, DryRun, Url, Yes, confirm, me
from tidings_cli.output import Format, refusal

_POLL = 0.5  # seconds between two requests for the progress
_FORMATS = ["%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d"]
Types = Annotated[
    list[str] | None,
    typer.Option(
        "--type", help="orders.orderPlaced, orders.orderConfirmed.v1 or orders.*; may be repeated. Default: all types."
    ),
]
Since = Annotated[datetime | None, typer.Option(formats=_FORMATS, help="Only events of this time (UTC) or later.")]
Until = Annotated[datetime | None, typer.Option(formats=_FORMATS, help="Only events before this time (UTC).")]


def replay(
    consumer: Annotated[str, typer.Argument(help="App to replay the events to.")],
    subscription: Annotated[
        str | None, typer.Option(help="Only to this EventSubscription. Default: all that read the event type.")
    ] = None,
    types: Types = None,
    since: Since = None,
    until: Until = None,
    correlation_id: Annotated[str | None, typer.Option(help="Only events with this correlation id.")] = None,
    rate: Annotated[float | None, typer.Option(min=0.1, help="Maximum number of events per second.")] = None,
    dry_run: DryRun = False,
    wait: Annotated[bool, typer.Option(help="Wait for the end of the replay and the consumer's confirmations.")] = True,
    timeout: Annotated[float, typer.Option(min=0, help="Seconds to wait for the next confirmation.")] = 60.0,
    yes: Yes = False,
    archive: Url = DEFAULT,
    output_format: Format = "table",
) -> None:
    """Replay archived events to one consumer, which ignores those it has handled before.

    Exit code 0: all events were handled, or the replay was started with --no-wait; 1: the replay was refused or
    cancelled or has failed, or an event was skipped, failed, was not confirmed in time, or is not read by the given
    --subscription.
    """
    body = {
        "consumer": consumer,
        "subscription": subscription,
        "types": types or [],
        "since": _timestamp(since),
        "until": _timestamp(until),
        "correlationId": correlation_id,
        "ratePerSecond": rate,
        "by": me(),
    }
    plain = output_format == "json"
    _send(Archive(archive), body, dry_run=dry_run, wait=wait, timeout=timeout, yes=yes, plain=plain)


def _send(
    client: Archive, body: dict[str, Any], *, dry_run: bool, wait: bool, timeout: float, yes: bool, plain: bool
) -> None:
    """Show what a replay would send; then send it and show its end."""
    counted = client.post("/replays", body, dryRun="true")
    if not plain:
        console = output.console()
        for kind, count in counted["counts"].items():
            console.print(output.literal(f"{count:>9}  {kind}"))
        console.print(f"{counted['matched']:>9}  in all", style="bold")
    elif dry_run:
        output.dump(counted)
    if dry_run:
        return
    confirm(f"Send {counted['matched']} events to {body['consumer']}?", yes=yes)
    ended = _follow(client, client.post("/replays", body), wait=wait, timeout=timeout, silent=plain)
    if plain:
        output.dump(ended)
    else:
        counts = [f"{ended[name]} {name}" for name in _COUNTS if ended[name]]
        sent = f"{ended['sent']} of {ended['matched']} sent"
        output.console().print(output.literal(f"{ended['replayId']}: {', '.join([ended['state'], sent, *counts])}"))
    if wait and (problem := _problem(ended)):
        raise refusal(problem)


def _timestamp(value: datetime | None) -> str | None:
    if value is None:
        return None
    return (value if value.tzinfo else value.replace(tzinfo=UTC)).isoformat()


_COUNTS = ("skipped", "handled", "failed", "unread", "dropped", "unconfirmed")


_UNSOLVED = {
    "failed": "failed again: see `tidings dlq list`.",
    "unread": "were read by no consumer: {consumer} has no handler for their version.",
    "skipped": "could not be sent: see the archive's audit log.",
    "unconfirmed": "were sent but not confirmed in time: check whether {consumer} runs.",
}


def _problem(ended: dict[str, Any]) -> str:
    """Return why a replay was not a complete success; empty if it was."""
    if ended["state"] == "cancelled":
        return "The replay was cancelled: see the archive's audit log."
    if ended["state"] == "failed":
        return f"The replay failed: {ended['reason']}"
    for name, meaning in _UNSOLVED.items():
        # Without --subscription, unread events only mean that the selection was wider than the subscriptions.
        if ended[name] and (name != "unread" or ended["subscription"] != "*"):
            return f"{ended[name]} {meaning.format(consumer=ended['consumer'])}"
    return ""


def _follow(client: Archive, started: dict[str, Any], *, wait: bool, timeout: float, silent: bool) -> dict[str, Any]:
    """Wait until a replay has ended and all sent events are confirmed, or no confirmation arrives for `timeout`."""
    state, progressed = started, time.monotonic()
    with Progress(console=output.console(error=True), disable=silent, transient=True) as progress:
        task = progress.add_task("sending", total=max(started["matched"], 1))
        while wait and (state["state"] == "running" or state["unconfirmed"]):
            if state["state"] != "running" and time.monotonic() - progressed >= timeout:
                break
            time.sleep(_POLL)
            before, state = state, client.get(f"/replays/{started['replayId']}")
            if (before["sent"], before["unconfirmed"]) != (state["sent"], state["unconfirmed"]):
                progressed = time.monotonic()
            progress.update(task, completed=state["sent"])
    return state
