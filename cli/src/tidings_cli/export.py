"""`tidings export`: write the JSON Schemas of a module's events."""

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from tidings.errors import DefinitionError
from tidings.messages.events import json_schema, message_type


def declared(module: str) -> dict[str, type[Any]]:
    """Return the event classes defined in a module, by type and version.

    Raises:
        ModuleNotFoundError: The module does not exist.

    """
    classes: dict[str, type[Any]] = {}
    for value in vars(importlib.import_module(module)).values():
        if isinstance(value, type) and value.__module__ == module:
            try:
                classes[message_type(value).label] = value
            except DefinitionError:
                continue  # not an event class
    return classes


def text(cls: type[Any]) -> str:
    """Return the content of the schema file of an event class."""
    return json.dumps(json_schema(cls), indent=2, ensure_ascii=False) + "\n"


def stale(module: str, folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield the schema files in `folder` that differ from the module's classes, with the expected content."""
    for label, cls in declared(module).items():
        path = folder / f"{label}.json"
        expected = text(cls)
        if not path.is_file() or path.read_text() != expected:
            yield path, expected


def export(
    modules: Annotated[list[str], typer.Argument(help="Modules that declare events, such as orders.events")],
    folder: Annotated[Path, typer.Option(help="Folder of the schema files")] = Path("contracts/schemas"),
    *,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit with 1 if a file is stale")] = False,
) -> None:
    """Write the JSON Schemas of the events declared in modules."""
    outdated = [entry for module in modules for entry in stale(module, folder)]
    for path, expected in outdated:
        typer.echo(f"{path} {'is stale' if check else 'written'}")
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(expected)
    if check and outdated:
        raise typer.Exit(1)
