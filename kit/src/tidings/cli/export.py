"""`tidings export`: the JSON Schemas of a module's events, as files beside its contracts."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from tidings.errors import DefinitionError
from tidings.events import json_schema, message_type


def declared(module: str) -> dict[str, type[Any]]:
    """Find the event classes that a module defines itself, by type and version.

    Raises:
        ModuleNotFoundError: There is no such module.

    """
    found: dict[str, type[Any]] = {}
    for value in vars(importlib.import_module(module)).values():
        if isinstance(value, type) and value.__module__ == module:
            try:
                found[message_type(value).label] = value
            except DefinitionError:
                continue  # an ordinary class
    return found


def text(cls: type[Any]) -> str:
    """The schema of an event class as its file has it."""
    return json.dumps(json_schema(cls), indent=2, ensure_ascii=False) + "\n"


def stale(module: str, folder: Path) -> Iterator[tuple[Path, str]]:
    """The schema files in `folder` that are not what the module's classes say, with what they should be."""
    for label, cls in declared(module).items():
        path = folder / f"{label}.json"
        wanted = text(cls)
        if not path.is_file() or path.read_text() != wanted:
            yield path, wanted


def export(
    modules: Annotated[list[str], typer.Argument(help="Modules that declare events, such as orders.events")],
    folder: Annotated[Path, typer.Option(help="Where the schema files stand")] = Path("contracts/schemas"),
    *,
    check: Annotated[bool, typer.Option("--check", help="Change nothing; exit 1 where a file is stale")] = False,
) -> None:
    """Write the JSON Schema of each event that a module declares."""
    found = [each for module in modules for each in stale(module, folder)]
    for path, wanted in found:
        typer.echo(f"{path} {'is stale' if check else 'written'}")
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(wanted)
    if check and found:
        raise typer.Exit(1)
