"""`tidings impact`: who breaks if the changed schemas are published."""

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from tidings.cli import applying, cluster, inputs, output
from tidings.cli.cluster import Context, Live, Namespace
from tidings.cli.inputs import Against, Paths
from tidings.cli.output import Format
from tidings.plan.impact import Impact, impacts
from tidings.resources import Inventory, load, worst_first

AFTER = {"readers": "who reads it today", "replay": "archived events"}
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
    """Show each changed version: what differs, who reads it, who breaks, and what to do.

    Changed is what differs from --against, or from the cluster with --live; the cluster's own subscriptions count
    as readers then. `lint` asks whether a change is allowed, this asks whom it hits.
    Exit code 0: nobody breaks; 1: somebody does, or a file has an error; 2: wrong usage.
    """
    found, inventory = compared(paths, against, live=live, context=context, namespace=namespace)
    found = [each for each in found if only in ("", each.event_type.spec.type)]
    if output_format == "json":
        output.dump([each.to_dict() for each in found])
    else:
        for each in found:
            _show(each)
        output.console().print(_summary(found))
    output.show(worst_first(inventory.findings), output.console(error=True))
    if any(each.breaks for each in found):
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
    """Compare the files with an earlier state or with a cluster, which also tells more readers.

    Raises:
        typer.BadParameter: There is nothing to compare with.

    """
    files = inputs.chosen(paths)
    if asked := cluster.chosen(live=live, context=context, namespace=namespace):
        there = asked.state().inventory
        inventory, _ = applying.applied(there, files, asked.namespace)
        history = [*inputs.history(against, files), there]
    else:
        inventory, history = load(files), inputs.history(against, files)
    if not history:
        raise typer.BadParameter(
            "say what the files are compared with: a git revision or a folder, or the cluster with --live",
            param_hint="--against",
        )
    return impacts(inventory, history), inventory


def _show(found: Impact) -> None:
    console = output.console()
    mark = Text("breaks", "bold red") if found.breaks else Text("breaks nobody", "green")
    owner = found.event_type.spec.owner
    asked = f"{owner.team} {owner.contact}".strip()
    console.print(
        Text(f"{found.event_type.spec.type} {found.version}", "bold"), f"{found.effect}:", mark, f"(owner: {asked})"
    )
    for difference in found.differences:
        ruled = f", ruled out by {found.event_type.spec.compatibility}" if difference.forbidden else ""
        console.print(
            f"    {difference.field} {difference.message}", f"({AFTER[difference.side]}{ruled})", markup=False
        )
    for reader in found.readers:
        how = "observes it" if reader.observes else f"reads it, criticality {reader.criticality}"
        asked = " ".join(filter(None, (reader.owner, reader.contact))) or "no owner named"
        console.print(Text(f"    {reader.who} {how}: {asked}", "dim" if reader.observes else ""))
    for line in found.advice:
        console.print(Text(f"    -> {line}", "cyan"))


def _summary(found: list[Impact]) -> str:
    broken = {reader.who for each in found if each.breaks for reader in each.consumers}
    versions = f"{len(found)} changed version{'s' * (len(found) != 1)}"
    advice = ". `tidings rfc new TYPE` writes a request for comments" if broken else ""
    return f"{versions}, {len(broken)} subscription{'s' * (len(broken) != 1)} to break{advice}"
