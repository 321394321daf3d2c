"""`tidings consumers`: who consumes what, and whom to ask."""

from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from tidings.cli import cluster, inputs, output
from tidings.cli.cluster import Context, Live, Namespace, State
from tidings.cli.output import Format
from tidings.plan.readers import Reader, readers
from tidings.resources import EventType, has_errors, load, worst_first
from tidings.resources.inventory import Inventory, seniority
from tidings.resources.suggesting import did_you_mean

Type = Annotated[
    str,
    typer.Argument(help="orders.orderPlaced, orders.orderConfirmed.v1 or orders.*; without, every type."),
]
Files = Annotated[
    list[Path] | None,
    typer.Option("--filename", "-f", help=f"A file or folder with YAML; several. By default {inputs.DEFAULT}."),
]


def consumers(
    wanted: Type = "*",
    files: Files = None,
    live: Live = False,
    context: Context = None,
    namespace: Namespace = None,
    output_format: Format = "table",
) -> None:
    """Show each version of each event type with its consumers, and who observes it by a pattern.

    Exit code 0: shown; 1: a file has an error, or the cluster cannot be asked; 2: no such type, or wrong usage.
    """
    asked = None if files else cluster.chosen(live=live, context=context, namespace=namespace)
    state = asked.state() if asked else State(load(inputs.chosen(files)))
    rows = [row for row in _rows(state.inventory) if _is_wanted(row, wanted, namespace if asked else None)]
    if not rows and wanted != "*":
        known = {each.spec.type for each in state.inventory.types.values()}
        raise typer.BadParameter(f"no event type is called {wanted}. {did_you_mean(wanted, known)}", param_hint="TYPE")
    if output_format == "json":
        output.dump([_as_dict(*row, state) for row in rows])
    else:
        output.console().print(_table(rows, state, is_live=asked is not None))
    output.show(worst_first(state.inventory.findings), output.console(error=True))
    if not asked and has_errors(state.inventory.findings):
        raise typer.Exit(1)  # on a cluster another tenant's fault is shown, and does not fail this command


_Row = tuple[EventType, str, list[Reader]]


def _rows(inventory: Inventory) -> Iterator[_Row]:
    """Yield every version of every type, sorted by name, with its readers."""
    for event_type in sorted(inventory.types.values(), key=lambda each: (each.spec.type, seniority(each))):
        for version in event_type.spec.versions:
            yield event_type, version.name, readers(event_type, version.name, inventory)


def _is_wanted(row: _Row, pattern: str, namespace: str | None) -> bool:
    event_type, version, _ = row
    names = (event_type.spec.type, f"{event_type.spec.type}.{version}")
    return namespace in (None, event_type.metadata.namespace) and any(fnmatchcase(each, pattern) for each in names)


def _as_dict(event_type: EventType, version: str, found: list[Reader], state: State) -> dict[str, Any]:
    spec = event_type.spec
    said = next(each for each in spec.versions if each.name == version)
    return {
        "type": spec.type,
        "version": version,
        "namespace": event_type.metadata.namespace,
        "state": said.state,
        "removal": str(said.deprecation.removal) if said.deprecation else None,
        "owner": {"team": spec.owner.team, "contact": spec.owner.contact},
        "producers": list(spec.producers),
        "consumers": [_reader(each, state) for each in found if not each.observes],
        "observers": [_reader(each, state) for each in found if each.observes],
    }


def _reader(reader: Reader, state: State) -> dict[str, Any]:
    ready = state.ready.get((reader.namespace, reader.subscription))
    plain = {name: value for name, value in reader.to_dict().items() if name != "observes"}
    return {**plain, **({"ready": ready} if ready else {})}


def _table(rows: list[_Row], state: State, *, is_live: bool) -> Table:
    more = ["ready"] if is_live else []
    table = Table("type", "version", "app", "subscription", "owner", "contact", *more, box=None, header_style="bold")
    for column in table.columns:
        column.overflow = "fold"
    for event_type, version, found in rows:
        said = next(each for each in event_type.spec.versions if each.name == version)
        until = f", ends {said.deprecation.removal}" if said.deprecation else ""
        life = "" if said.state == "Active" else f" {said.state}{until}"
        begin = [output.literal(event_type.spec.type), output.literal(f"{version}{life}", "yellow" if life else "")]
        for reader in found:
            ready = [state.ready.get((reader.namespace, reader.subscription), "")] if is_live else []
            named = f"{reader.subscription}{' (observes)' if reader.observes else ''}"
            style = "dim" if reader.observes else ""
            cells = (reader.app, named, reader.owner, reader.contact, *ready)
            table.add_row(*begin, *(output.literal(each) for each in cells), style=style)
            begin = [Text(""), Text("")]
        if not found:
            table.add_row(*begin, Text("nobody", "dim"))
    return table
