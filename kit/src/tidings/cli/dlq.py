"""`tidings dlq`: what consumers could not handle, and what becomes of it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Annotated, Any, Literal

import typer
from rich.highlighter import JSONHighlighter
from rich.table import Table
from rich.text import Text

from tidings.cli import output
from tidings.cli.archive import DEFAULT, Archive, DryRun, Url, Yes, confirm, me
from tidings.cli.output import Format, refusal

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Dead letters: list, read, replay, discard.")

Numbers = Annotated[list[int] | None, typer.Argument(help="Numbers, as `tidings dlq list` shows them.")]
App = Annotated[str | None, typer.Option(help="Only of this app.")]
Subscription = Annotated[str | None, typer.Option(help="Only what this EventSubscription failed on.")]
Type = Annotated[str | None, typer.Option("--type", help="Only of this event type.")]
All = Annotated[bool, typer.Option("--all", help="Every open one.")]
Rate = Annotated[float, typer.Option(min=0.1, help="At most so many a second.")]
State = Literal["open", "sent", "handled", "dropped", "discarded", "any"]
_LOOK = 0.5  # seconds between looks at what consumers have confirmed


@app.command("list")
def show_all(
    app: App = None,
    subscription: Subscription = None,
    type_: Type = None,
    state: Annotated[State, typer.Option(help="In this state.")] = "open",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many, the latest.")] = 50,
    archive: Url = DEFAULT,
    output_format: Format = "table",
) -> None:
    """List dead letters, the latest first."""
    found = Archive(archive).get(
        "/deadletters", app=app, subscription=subscription, type=type_, state=state, limit=limit
    )
    if output_format == "json":
        output.dump(found["deadLetters"])
        return
    output.console().print(_table(found["deadLetters"]))
    if found["next"] is not None:
        output.console().print(f"There are more than {limit}: use a filter, or --limit.", style="dim")


@app.command()
def show(
    number: Annotated[int, typer.Argument(help="Its number, as `tidings dlq list` shows it.")],
    archive: Url = DEFAULT,
    output_format: Format = "table",
) -> None:
    """Show a dead letter: why it failed, the event itself, and what was done about it."""
    found = Archive(archive).get(f"/deadletters/{number}")
    if output_format == "json":
        output.dump(found)
        return
    console = output.console()
    table = Table(box=None, show_header=False)
    for name in ("number", "state", "app", "subscription", "eventId", "subject", "correlationId", "topic"):
        table.add_row(name, _text(found[name]))
    table.add_row("type", _text(f"{found['type']}.v{found['version']}"))
    if found["replay"]:
        table.add_row("latest replay", _text(_replay(found["replay"])))
    table.add_row("reason", _text(f"{found['error']}: {found['reason']}" if found["error"] else found["reason"]))
    table.add_row("attempts", _text(f"{found['attempts']}, from {found['firstAttempt']} to {found['lastAttempt']}"))
    console.print(table)
    console.print(JSONHighlighter()(output.as_json(found["event"])))
    for deed in found["audit"]:
        console.print(output.literal(f"{deed['at']}  {deed['who']}  {deed['action']}  {deed['detail']}", "dim"))


@app.command()
def replay(
    numbers: Numbers = None,
    app: App = None,
    subscription: Subscription = None,
    type_: Type = None,
    every: All = False,
    to: Annotated[
        str | None,
        typer.Option(help="The EventSubscription to send it to, where the sidecar gave it up and none is known."),
    ] = None,
    rate: Rate = 20.0,
    dry_run: DryRun = False,
    timeout: Annotated[
        float, typer.Option(min=0, help="Seconds to wait for what consumers confirm after the last was sent.")
    ] = 60.0,
    yes: Yes = False,
    archive: Url = DEFAULT,
    output_format: Format = "table",
) -> None:
    """Send dead letters again, each only to the consumer that failed on it, and show what became of them.

    A consumer that has handled the event meanwhile drops it: nothing happens twice. Exit code 0: all were handled, or
    dropped by their handler; 1: one was refused, failed again, is read by nobody, or was not confirmed in time.
    """
    client = Archive(archive)
    chosen = _chosen(client, numbers, app, subscription, type_, every)
    body = {"by": me(), **({"subscription": to} if to else {})}
    results = _carry_out(
        chosen,
        "replay",
        lambda number: client.tried(f"/deadletters/{number}/replay", body),
        rate=rate,
        dry_run=dry_run,
        yes=yes,
        output_format=output_format,
    )
    if not dry_run:
        results = _confirmed(client, results, timeout)
    _report(results, "replay", dry_run=dry_run, output_format=output_format)


@app.command()
def discard(
    reason: Annotated[str, typer.Option(help="Why nobody needs it; kept in the audit.")],
    numbers: Numbers = None,
    app: App = None,
    subscription: Subscription = None,
    type_: Type = None,
    every: All = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    archive: Url = DEFAULT,
    output_format: Format = "table",
) -> None:
    """Put dead letters away that nobody needs. They can still be read."""
    client = Archive(archive)
    chosen = _chosen(client, numbers, app, subscription, type_, every)
    body = {"by": me(), "reason": reason}
    results = _carry_out(
        chosen,
        "discard",
        lambda number: client.tried(f"/deadletters/{number}/discard", body),
        rate=float("inf"),
        dry_run=dry_run,
        yes=yes,
        output_format=output_format,
    )
    _report(results, "discard", dry_run=dry_run, output_format=output_format)


def _chosen(
    client: Archive,
    numbers: list[int] | None,
    app: str | None,
    subscription: str | None,
    type_: str | None,
    every: bool,
) -> list[dict[str, Any]]:
    """The dead letters that are meant, the oldest first: by number, or the open ones by a filter."""
    filtered = any((app, subscription, type_, every))
    if bool(numbers) == filtered:
        raise typer.BadParameter("name dead letters by number, or by --app, --subscription, --type or --all")
    if numbers:
        return [client.get(f"/deadletters/{number}") for number in dict.fromkeys(numbers)]
    found = client.pages("/deadletters", "deadLetters", app=app, subscription=subscription, type=type_)
    return sorted(found, key=lambda letter: int(letter["number"]))


def _carry_out(
    chosen: list[dict[str, Any]],
    deed: str,
    do: Callable[[int], tuple[dict[str, Any], str]],
    *,
    rate: float,
    dry_run: bool,
    yes: bool,
    output_format: str,
) -> list[dict[str, Any]]:
    console = output.console(error=output_format == "json")
    if not chosen:
        console.print("No dead letters: nothing to do.")
    elif output_format != "json" or not yes:
        console.print(_table(chosen))
    if chosen and not dry_run:
        confirm(f"{deed.capitalize()} {_number(chosen)}?", yes=yes)
    results: list[dict[str, Any]] = []
    for letter in chosen:
        begun = time.monotonic()
        answer, refused = ({}, "") if dry_run else do(letter["number"])
        result = {"number": letter["number"], "state": answer.get("state", letter["state"])}
        if deed == "replay" and answer:
            result |= answer["replay"]
        results.append(result | ({"refused": refused} if refused else {}))
        if not dry_run and letter is not chosen[-1]:
            time.sleep(max(1 / rate - (time.monotonic() - begun), 0.0))
    return results


def _confirmed(client: Archive, results: list[dict[str, Any]], timeout: float) -> list[dict[str, Any]]:
    """Wait until consumers have confirmed what was sent to them; what is not confirmed in time stays as it is."""
    deadline = time.monotonic() + timeout
    while True:
        for each in results:
            if each.get("outcome") == "unconfirmed":
                found = client.get(f"/deadletters/{each['number']}")
                if found["replay"] and found["replay"]["replayId"] == each["replayId"]:
                    each.update(found["replay"], state=found["state"])
        waiting = any(each.get("outcome") == "unconfirmed" for each in results)
        if not waiting or time.monotonic() >= deadline:
            return results
        time.sleep(_LOOK)


def _report(results: list[dict[str, Any]], deed: str, *, dry_run: bool, output_format: str) -> None:
    counts = Counter("refused" if "refused" in each else each.get("outcome", "done") for each in results)
    if output_format == "json":
        output.dump(results)
    elif dry_run:
        output.console().print(f"Would {deed} {_number(results)}.")
    elif results:
        named = ("done", *_MEANING, "refused")
        shown = [f"{counts[name]} {_MEANING.get(name, name)}" for name in named if counts[name]]
        output.console().print(f"{deed.capitalize()}: {', '.join(shown)}.")
    unsolved = [each for each in results if "refused" in each or each.get("outcome") in _UNSOLVED]
    if unsolved and not dry_run:
        raise refusal("\n".join(f"{each['number']}: {_why(each)}" for each in unsolved))


_MEANING = {
    "handled": "handled",
    "dropped": "dropped by the handler",
    "failed": "failed again",
    "unread": "read by nobody",
    "unconfirmed": "sent and not confirmed",
}
_UNSOLVED = ("failed", "unread", "unconfirmed")


def _why(result: dict[str, Any]) -> str:
    if "refused" in result:
        return output.printable(result["refused"])
    return ": ".join(output.printable(each) for each in (_MEANING[result["outcome"]], result["reason"]) if each)


def _number(letters: list[dict[str, Any]]) -> str:
    return f"{len(letters)} dead letter{'s' * (len(letters) != 1)}"


def _table(letters: list[dict[str, Any]]) -> Table:
    table = Table("no", "state", "subscription", "event", "attempts", "last attempt", "reason", box=None)
    for column in table.columns:
        column.overflow = "fold"
    for letter in letters:
        cells = (
            letter["number"],
            _state(letter),
            letter["subscription"] or f"? ({letter['app']})",
            f"{letter['type']}.v{letter['version']} {letter['subject']}".strip(),
            letter["attempts"] or None,
            letter["lastAttempt"] or letter["receivedAt"],
            letter["reason"],
        )
        table.add_row(*(_text(cell) for cell in cells))
    return table


def _replay(replay: dict[str, Any]) -> str:
    why = f": {replay['reason']}" if replay["reason"] else ""
    return f"{_MEANING.get(replay['outcome'], replay['outcome'])}{why}, sent {replay['sentAt']}"


def _state(letter: dict[str, Any]) -> str:
    """Return the state, with what the latest replay came to where that is no success."""
    outcome = (letter.get("replay") or {}).get("outcome")
    return f"{letter['state']} ({_MEANING[outcome]})" if outcome in _UNSOLVED else str(letter["state"])


def _text(value: object) -> Text:
    """A value as it is: what stands in an event is no markup."""
    return output.literal("?" if value is None else value)
