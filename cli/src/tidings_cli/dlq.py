"""`tidings dlq`: list, show, replay and discard dead letters."""

import itertools
import time
from collections import Counter
from collections.abc import Callable
from typing import Annotated, Any, Literal

import typer
from rich.highlighter import JSONHighlighter
from rich.table import Table
from rich.text import Text

from tidings.conventions import ARCHIVE_APP
from tidings_cli import output
from tidings_cli.archive import DEFAULT, Archive, DryRun, Url, Yes, confirm, me
from tidings_cli.output import Format, refusal

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Dead letters: list, read, replay, discard.")

Numbers = Annotated[list[int] | None, typer.Argument(help="Numbers from `tidings dlq list`.")]
App = Annotated[str | None, typer.Option(help="Only of this app.")]
Subscription = Annotated[str | None, typer.Option(help="Only of this EventSubscription.")]
Type = Annotated[str | None, typer.Option("--type", help="Only of this event type.")]
All = Annotated[bool, typer.Option("--all", help="All open dead letters.")]
Rate = Annotated[float, typer.Option(min=0.1, help="Maximum number per second.")]
State = Literal["open", "sent", "handled", "dropped", "discarded", "any"]
_POLL = 0.5  # seconds between two requests for the consumers' confirmations


@app.command("list")
def show_all(
    app: App = None,
    subscription: Subscription = None,
    type_: Type = None,
    state: Annotated[State, typer.Option(help="In this state.")] = "open",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Maximum number; the latest are shown.")] = 50,
    archive: Url = DEFAULT,
    output_format: Format = "table",
) -> None:
    """List dead letters, latest first."""
    found = Archive(archive).pages(
        "/deadletters", "deadLetters", limit + 1, app=app, subscription=subscription, type=type_, state=state
    )
    letters = list(itertools.islice(found, limit))
    if output_format == "json":
        output.dump(letters)
        return
    output.console().print(_table(letters))
    if own := [letter for letter in letters if letter["app"] == ARCHIVE_APP and letter["state"] == "open"]:
        count = f"{len(own)} dead letter{'s' * (len(own) != 1)}"
        output.console().print(f"{count} of the archive itself: it could not keep or carry out these events.")
    if next(found, None) is not None:
        output.console().print(f"There are more than {limit}: use a filter, or --limit.", style="dim")


@app.command()
def show(
    number: Annotated[int, typer.Argument(help="Number from `tidings dlq list`.")],
    archive: Url = DEFAULT,
    output_format: Format = "table",
) -> None:
    """Show a dead letter: the reason, the event, and the actions taken."""
    letter = Archive(archive).get(f"/deadletters/{number}")
    if output_format == "json":
        output.dump(letter)
        return
    console = output.console()
    table = Table(box=None, show_header=False)
    for name in ("number", "state", "app", "subscription", "eventId", "subject", "correlationId", "topic"):
        table.add_row(name, _text(letter[name]))
    table.add_row("type", _text(_label(letter)))
    if sent := letter["replay"]:
        why = f": {sent['reason']}" if sent["reason"] else ""
        table.add_row(
            "latest replay", _text(f"{_MEANING.get(sent['outcome'], sent['outcome'])}{why}, sent {sent['sentAt']}")
        )
    table.add_row("reason", _text(f"{letter['error']}: {letter['reason']}" if letter["error"] else letter["reason"]))
    table.add_row("attempts", _text(f"{letter['attempts']}, from {letter['firstAttempt']} to {letter['lastAttempt']}"))
    console.print(table)
    console.print(JSONHighlighter()(output.as_json(letter["event"])))
    for action in letter["audit"]:
        console.print(output.literal(f"{action['at']}  {action['who']}  {action['action']}  {action['detail']}", "dim"))


@app.command()
def replay(
    numbers: Numbers = None,
    app: App = None,
    subscription: Subscription = None,
    type_: Type = None,
    every: All = False,
    to: Annotated[
        str | None,
        typer.Option(
            help="EventSubscription to replay to, if the sidecar dead-lettered the event and none is recorded."
        ),
    ] = None,
    rate: Rate = 20.0,
    dry_run: DryRun = False,
    timeout: Annotated[
        float, typer.Option(min=0, help="Seconds to wait for the consumers' confirmations after sending the last one.")
    ] = 60.0,
    yes: Yes = False,
    archive: Url = DEFAULT,
    output_format: Format = "table",
) -> None:
    """Replay dead letters, each to the consumer that failed on it, and show the outcomes.

    A consumer that has handled the event in the meantime ignores the duplicate. Exit code 0: all were handled, or
    dropped by their handlers; 1: a replay was refused, failed again, was read by no consumer, or was not confirmed in
    time.
    """
    client = Archive(archive)
    letters = _select(client, numbers, app, subscription, type_, every)
    body = {"by": me(), **({"subscription": to} if to else {})}
    results = _carry_out(
        letters,
        "replay",
        lambda number: client.try_post(f"/deadletters/{number}/replay", body),
        rate=rate,
        dry_run=dry_run,
        yes=yes,
        output_format=output_format,
    )
    if not dry_run:
        results = _await_confirmations(client, results, timeout)
    _report(results, "replay", dry_run=dry_run, output_format=output_format)


@app.command()
def discard(
    reason: Annotated[str, typer.Option(help="Why it is not needed; kept in the audit log.")],
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
    """Discard dead letters. They stay readable, but are no longer open."""
    client = Archive(archive)
    letters = _select(client, numbers, app, subscription, type_, every)
    body = {"by": me(), "reason": reason}
    results = _carry_out(
        letters,
        "discard",
        lambda number: client.try_post(f"/deadletters/{number}/discard", body),
        rate=float("inf"),
        dry_run=dry_run,
        yes=yes,
        output_format=output_format,
    )
    _report(results, "discard", dry_run=dry_run, output_format=output_format)


def _select(
    client: Archive,
    numbers: list[int] | None,
    app: str | None,
    subscription: str | None,
    type_: str | None,
    every: bool,
) -> list[dict[str, Any]]:
    """Return the selected dead letters, oldest first: by number, or the open ones that match a filter."""
    filtered = any((app, subscription, type_, every))
    if bool(numbers) == filtered:
        raise typer.BadParameter("select dead letters either by number, or with --app, --subscription, --type or --all")
    if numbers:
        return [client.get(f"/deadletters/{number}") for number in dict.fromkeys(numbers)]
    pages = client.pages("/deadletters", "deadLetters", app=app, subscription=subscription, type=type_)
    return sorted(pages, key=lambda letter: int(letter["number"]))


def _carry_out(
    letters: list[dict[str, Any]],
    action: str,
    do: Callable[[int], tuple[dict[str, Any], str]],
    *,
    rate: float,
    dry_run: bool,
    yes: bool,
    output_format: str,
) -> list[dict[str, Any]]:
    console = output.console(error=output_format == "json")
    if not letters:
        console.print("No dead letters: nothing to do.")
    elif output_format != "json" or not yes:
        console.print(_table(letters))
    if letters and not dry_run:
        confirm(f"{action.capitalize()} {_number(letters)}?", yes=yes)
    results: list[dict[str, Any]] = []
    for letter in letters:
        started = time.monotonic()
        answer, refused = ({}, "") if dry_run else do(letter["number"])
        result = {"number": letter["number"], "state": answer.get("state", letter["state"])}
        if action == "replay" and answer:
            result |= answer["replay"]
        results.append(result | ({"refused": refused} if refused else {}))
        if not dry_run and letter is not letters[-1]:
            time.sleep(max(1 / rate - (time.monotonic() - started), 0.0))
    return results


def _await_confirmations(client: Archive, results: list[dict[str, Any]], timeout: float) -> list[dict[str, Any]]:
    """Wait for the consumers' confirmations, at most `timeout` seconds after the last dead letter was sent."""
    deadline = time.monotonic() + timeout
    while True:
        for result in results:
            if result.get("outcome") == "unconfirmed":
                letter = client.get(f"/deadletters/{result['number']}")
                if letter["replay"] and letter["replay"]["replayId"] == result["replayId"]:
                    result.update(letter["replay"], state=letter["state"])
        waiting = any(result.get("outcome") == "unconfirmed" for result in results)
        if not waiting or time.monotonic() >= deadline:
            return results
        time.sleep(_POLL)


def _report(results: list[dict[str, Any]], action: str, *, dry_run: bool, output_format: str) -> None:
    counts = Counter("refused" if "refused" in result else result.get("outcome", "done") for result in results)
    if output_format == "json":
        output.dump(results)
    elif dry_run:
        output.console().print(f"Would {action} {_number(results)}.")
    elif results:
        labels = ("done", *_MEANING, "refused")
        parts = [f"{counts[name]} {_MEANING.get(name, name)}" for name in labels if counts[name]]
        output.console().print(f"{action.capitalize()}: {', '.join(parts)}.")
    problems = []
    for result in results:
        outcome = result.get("outcome")
        parts = [_MEANING[outcome], result["reason"]] if outcome in _UNSOLVED else []
        if "refused" in result:
            parts = [result["refused"]]
        if parts:
            problems.append(f"{result['number']}: {': '.join(output.printable(part) for part in parts if part)}")
    if problems and not dry_run:
        raise refusal("\n".join(problems))


_MEANING = {
    "handled": "handled",
    "dropped": "dropped by the handler",
    "failed": "failed again",
    "unread": "read by no consumer",
    "unconfirmed": "sent but not confirmed",
}
_UNSOLVED = ("failed", "unread", "unconfirmed")


def _number(letters: list[dict[str, Any]]) -> str:
    return f"{len(letters)} dead letter{'s' * (len(letters) != 1)}"


def _label(letter: dict[str, Any]) -> str:
    """Return type and version; where no version could be read, that is said instead."""
    return f"{letter['type']}.v{letter['version']}" if letter["version"] else f"{letter['type']} (no version)"


def _table(letters: list[dict[str, Any]]) -> Table:
    table = Table("no", "state", "subscription", "event", "attempts", "last attempt", "reason", box=None)
    for column in table.columns:
        column.overflow = "fold"
    for letter in letters:
        outcome = (letter.get("replay") or {}).get("outcome")
        cells = (
            letter["number"],
            f"{letter['state']} ({_MEANING[outcome]})" if outcome in _UNSOLVED else str(letter["state"]),
            letter["subscription"] or f"? ({letter['app']})",
            f"{_label(letter)} {letter['subject']}".strip(),
            letter["attempts"] or None,
            letter["lastAttempt"] or letter["receivedAt"],
            letter["reason"],
        )
        table.add_row(*(_text(cell) for cell in cells))
    return table


def _text(value: object) -> Text:
    """Return a value as literal text: events may contain markup."""
    return output.literal("?" if value is None else value)
