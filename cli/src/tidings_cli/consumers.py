"""`tidings consumers`: list the consumers of each event type and their owners."""

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from tidings_cli import cluster, inputs, output
from tidings_cli.cluster import Context, Live, Namespace, State
from tidings_cli.output import Format
from tidings_plan.readers import Reader, readers
from tidings_plan.resources import EventType, has_errors, load, worst_first
from tidings_plan.resources.did_you_mean import did_you_mean
from tidings_plan.resources.eventtype import Version
from tidings_plan.resources.inventory import seniority

Type = Annotated[
    str,
    typer.Argument(help="orders.orderPlaced, orders.orderConfirmed.v1 or orders.*; without, every type."),
]
Files = Annotated[
    list[Path] | None,
    typer.Option("--filename", "-f", help=f"A file or folder with YAML; several. By default {inputs.DEFAULT}."),
]


def consumers(
    pattern: Type = "*",
    files: Files = None,
    live: Live = False,
    context: Context = None,
    namespace: Namespace = None,
    output_format: Format = "table",
) -> None:
    """Show each version of each event type with its consumers, and with observers, which subscribe by a pattern.

    Exit code 0: success; 1: a file has an error, or the cluster cannot be read; 2: unknown type or wrong usage.
    """
    live_cluster = None if files else cluster.chosen(live=live, context=context, namespace=namespace)
    state = live_cluster.state() if live_cluster else State(load(inputs.chosen(files)))
    only = namespace if live_cluster else None
    types = sorted(state.inventory.types.values(), key=lambda kind: (kind.spec.type, seniority(kind)))
    rows = [
        (kind, version, readers(kind, version.name, state.inventory))
        for kind in types
        if only in (None, kind.metadata.namespace)
        for version in kind.spec.versions
        if fnmatchcase(kind.spec.type, pattern) or fnmatchcase(f"{kind.spec.type}.{version.name}", pattern)
    ]
    if not rows and pattern != "*":
        known = {kind.spec.type for kind in types}
        raise typer.BadParameter(f"there is no event type {pattern}. {did_you_mean(pattern, known)}", param_hint="TYPE")
    if output_format == "json":
        output.dump([_as_dict(*row, state) for row in rows])
    else:
        output.console().print(_table(rows, state, is_live=live_cluster is not None))
    output.show(worst_first(state.inventory.findings), output.console(error=True))
    if not live_cluster and has_errors(state.inventory.findings):
        raise typer.Exit(1)  # errors on a cluster may be another tenant's and do not fail this command


_Row = tuple[EventType, Version, list[Reader]]


def _as_dict(event_type: EventType, version: Version, readers_of_version: list[Reader], state: State) -> dict[str, Any]:
    spec = event_type.spec
    return {
        "type": spec.type,
        "version": version.name,
        "namespace": event_type.metadata.namespace,
        "state": version.state,
        "removal": str(version.deprecation.removal) if version.deprecation else None,
        "owner": {"team": spec.owner.team, "contact": spec.owner.contact},
        "producers": list(spec.producers),
        "consumers": [_reader(reader, state) for reader in readers_of_version if not reader.observes],
        "observers": [_reader(reader, state) for reader in readers_of_version if reader.observes],
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
    for event_type, version, readers_of_version in rows:
        until = f", ends {version.deprecation.removal}" if version.deprecation else ""
        life = "" if version.state == "Active" else f" {version.state}{until}"
        begin = [output.literal(event_type.spec.type), output.literal(version.name + life, "yellow" if life else "")]
        for reader in readers_of_version:
            ready = [state.ready.get((reader.namespace, reader.subscription), "")] if is_live else []
            named = f"{reader.subscription}{' (observes)' if reader.observes else ''}"
            style = "dim" if reader.observes else ""
            cells = (reader.app, named, reader.owner, reader.contact, *ready)
            table.add_row(*begin, *(output.literal(cell) for cell in cells), style=style)
            begin = [Text(""), Text("")]
        if not readers_of_version:
            table.add_row(*begin, Text("nobody", "dim"))
    return table
