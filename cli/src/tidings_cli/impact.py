"""`tidings impact`: show the consumers that changed schemas would break."""

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from tidings_cli import applying, cluster, inputs, output
from tidings_cli.cluster import Context, Live, Namespace
from tidings_cli.inputs import Against, Paths
from tidings_cli.output import Format
from tidings_plan.impact import Impact, impacts
from tidings_plan.resources import Inventory, load, worst_first

AFTER = {"readers": "current readers", "replay": "archived events"}
Only = Annotated[str, typer.Option("--type", help="Only this event type.", show_default=False)]


def impact(
    paths: Paths = None,
    against: Against = None,
    only: Only = "",
    live: Live = False,
    context: Context = None,
    namespace: Namespace = None,
    output_format: Format = "table",
) -> None:
    """Show each changed version: the differences, its consumers, which of them break, and what to do.

    Versions are compared with --against, or with the cluster given --live; its subscriptions count as consumers then.
    `lint` checks whether a change is allowed, `impact` shows which consumers it affects.
    Exit code 0: no consumer breaks; 1: a consumer breaks, or a file has an error; 2: wrong usage.
    """
    impacts_, inventory = compared(paths, against, live=live, context=context, namespace=namespace)
    impacts_ = [entry for entry in impacts_ if only in ("", entry.event_type.spec.type)]
    if output_format == "json":
        output.dump([entry.to_dict() for entry in impacts_])
    else:
        for entry in impacts_:
            _show(entry)
        broken = {reader.who for change in impacts_ if change.breaks for reader in change.consumers}
        versions = f"{len(impacts_)} changed version{'s' * (len(impacts_) != 1)}"
        output.console().print(f"{versions}, {len(broken)} affected subscription{'s' * (len(broken) != 1)}")
    output.show(worst_first(inventory.findings), output.console(error=True))
    if any(entry.breaks for entry in impacts_):
        raise typer.Exit(1)
    output.leave(inventory.findings)


def compared(
    paths: list[Path] | None,
    against: list[str] | None,
    *,
    live: bool,
    context: str | None,
    namespace: str | None,
) -> tuple[list[Impact], Inventory]:
    """Compare the files with an earlier state or with a cluster, whose subscriptions are added as readers.

    Raises:
        typer.BadParameter: Neither an earlier state nor a cluster was given.

    """
    files = inputs.chosen(paths)
    if live_cluster := cluster.chosen(live=live, context=context, namespace=namespace):
        current = live_cluster.state().inventory
        inventory, _ = applying.applied(current, files, live_cluster.namespace)
        history = [*inputs.history(against, files), current]
    else:
        inventory, history = load(files), inputs.history(against, files)
    if not history:
        raise typer.BadParameter(
            "nothing to compare with: name a git revision or a folder, or use --live to compare with the cluster",
            param_hint="--against",
        )
    return impacts(inventory, history), inventory


def _show(change: Impact) -> None:
    console = output.console()
    mark = Text("breaks", "bold red") if change.breaks else Text("breaks nobody", "green")
    owner = change.event_type.spec.owner
    contact = f"{owner.team} {owner.contact}".strip()
    console.print(
        Text(f"{change.event_type.spec.type} {change.version}", "bold"),
        f"{change.effect}:",
        mark,
        f"(owner: {contact})",
    )
    for difference in change.differences:
        ruled = f", ruled out by {change.event_type.spec.compatibility}" if difference.forbidden else ""
        console.print(
            f"    {difference.field} {difference.message}", f"({AFTER[difference.side]}{ruled})", markup=False
        )
    for reader in change.readers:
        how = "observes it" if reader.observes else f"reads it, criticality {reader.criticality}"
        contact = " ".join(filter(None, (reader.owner, reader.contact))) or "no owner named"
        console.print(Text(f"    {reader.who} {how}: {contact}", "dim" if reader.observes else ""))
    for line in change.advice:
        console.print(Text(f"    -> {line}", "cyan"))
