"""`tidings new`: write a service, and the project around it where there is none, from the packaged templates."""

import importlib.util
import keyword
import re
import sys
from collections.abc import Iterator, Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any

import jinja2
import msgspec
import typer

from tidings_cli.export import stale
from tidings_cli.up.project import FILE_NAME, NAME
from tidings_plan.channels import channel_of
from tidings_plan.naming import WORDS
from tidings_plan.resources import contracts_folders, load
from tidings_plan.resources.did_you_mean import did_you_mean
from tidings_plan.resources.eventtype import EventType

SUFFIX = ".j2"
SERVICES = "services"
MAX_NAME = 40
"""Longest name of a service: resources of Kubernetes and consumers of brokers add to it."""

app = typer.Typer(no_args_is_help=True, add_completion=False)


class Consumed(msgspec.Struct, frozen=True):
    """The message that the new service consumes."""

    type: str
    version: str
    topic: str
    source: str
    wire_key: str
    """Field of the data that identifies the case."""
    own: bool = False
    """True if the service itself declares the message, a command."""

    @property
    def words(self) -> list[str]:
        return WORDS.findall(self.type.partition(".")[2])

    @property
    def class_name(self) -> str:
        return "".join(word.title() for word in self.words)

    @property
    def function(self) -> str:
        return "_".join(word.lower() for word in self.words)

    @property
    def resource(self) -> str:
        return "-".join(word.lower() for word in self.words)

    @property
    def key(self) -> str:
        """Name of the field in Python."""
        name = "_".join(word.lower() for word in WORDS.findall(self.wire_key))
        return name if name.isidentifier() and not keyword.iskeyword(name) else f"field_{name}"

    @property
    def renamed(self) -> bool:
        """True if the SDK's camelCase of `key` is not the field's name in the data."""
        return _camel(self.key) != self.wire_key

    @property
    def custom_topic(self) -> bool:
        return self.topic != f"{self.type}.v{self.version}"


@app.callback()
def _new() -> None:
    """Write a new service."""


@app.command()
def service(
    name: Annotated[str, typer.Argument(help="Name of the service, also its Dapr app id: surveys, gift-cards.")],
    consumes: Annotated[
        str,
        typer.Option(help="Event type that it consumes, such as orders.orderCompleted; by default its own command."),
    ] = "",
    root: Annotated[Path, typer.Option("--project", help=f"Folder with {FILE_NAME}; created if missing.")] = Path(),
) -> None:
    """Write services/NAME with contracts, examples, handlers, API and a test, ready for `tidings up` and pytest."""
    folder = root / SERVICES / name
    package = name.replace("-", "_")
    _check_name(name, package)
    if folder.exists():
        raise typer.BadParameter(f"{folder} exists already: choose another name, or remove it", param_hint="NAME")
    domain = _camel(package)
    types = {kind.spec.type: kind for kind in load(contracts_folders(root)).types.values()}
    consumed = (
        _consumed(root, types, consumes)
        if consumes
        else Consumed(f"{domain}.openCase", "1", f"{domain}.openCase.v1", name, "caseId", own=True)
    )
    for declared in (f"{domain}.openCase", f"{domain}.caseOpened"):
        if kind := types.get(declared):
            problem = f"{kind.origin.at()} declares {declared} already"
            raise typer.BadParameter(f"{problem}; choose another name", param_hint="NAME")
    project_name = re.sub(r"[^a-z0-9]+", "-", root.resolve().name.lower()).strip("-")
    values = {
        "name": name,
        "package": package,
        "domain": domain,
        "project": project_name if NAME.match(project_name) else "system",
        "folder": f"{SERVICES}/{name}",
        "consumed": consumed,
    }
    project = {} if (root / FILE_NAME).exists() else _rendered("project", root, values)
    _write(project | _rendered("service", folder, values))
    _write(_schemas(folder, package))
    typer.echo(f"\nNext: pytest {folder}; tidings lint; tidings up")


def _check_name(name: str, package: str) -> None:
    """Raise a usage error unless the name is a valid app id and its package name does not conflict with others."""
    if not NAME.match(name) or len(name) > MAX_NAME or name.endswith("-") or "--" in name:
        problem = f"{name!r} is not a valid name: use up to {MAX_NAME} lower-case letters, digits and single `-`"
        raise typer.BadParameter(f"{problem}, starting with a letter", param_hint="NAME")
    taken = keyword.iskeyword(package) or package in sys.stdlib_module_names
    if taken or importlib.util.find_spec(package) is not None:
        problem = f"Python has another module {package} here, which would be imported instead"
        raise typer.BadParameter(f"{problem}; choose another name", param_hint="NAME")


def _consumed(root: Path, types: Mapping[str, EventType], requested: str) -> Consumed:
    """Return the newest version of a declared fact; raise a usage error if it cannot be consumed."""
    kind = types.get(requested)
    if kind is None:
        hint = did_you_mean(requested, types) or f"There are none below {root.resolve()}."
        raise _unusable(f"no EventType declares {requested}. {hint}")
    if kind.spec.intent == "Command":
        raise _unusable(f"{requested} is a command to {kind.spec.owner.team}: only its owner consumes it. Name a fact.")
    versions = [version for version in kind.spec.versions if version.state == "Active"]
    if not versions:
        raise _unusable(f"{requested} has no active version")
    newest = max(versions, key=lambda version: int(version.major))
    label, schema = f"{kind.spec.type}.{newest.name}", newest.schema
    if not newest.examples:
        raise _unusable(f"{label} has no example, which the generated test would publish: add one to its EventType")
    required = schema.get("required", ()) if isinstance(schema, dict) else ()
    properties = schema.get("properties", {}) if isinstance(schema, dict) else {}
    texts = [field for field in required if properties.get(field, {}).get("type") == "string"]
    keys = [field for field in texts if re.search(r"(?i)id$", field)] or texts
    if not keys:
        raise _unusable(f"{label} has no required field of type string that could identify a case")
    source = next(iter(kind.spec.producers), kind.spec.owner.team)
    return Consumed(kind.spec.type, newest.major, channel_of(kind, newest).topic, source, keys[0])


def _unusable(problem: str) -> typer.BadParameter:
    return typer.BadParameter(problem, param_hint="--consumes")


def _camel(text: str) -> str:
    first, *rest = text.split("_")
    return first + "".join(word.title() for word in rest)


def _rendered(template: str, folder: Path, values: Mapping[str, Any]) -> dict[Path, str]:
    """Render a template; return the content of each file that does not exist yet."""
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)  # noqa: S701 - no HTML
    rendered = {}
    for parts, source in _files(files("tidings_cli").joinpath("templates", template)):
        names = [environment.from_string(part.removesuffix(SUFFIX)).render(values) for part in parts]
        path = folder.joinpath(*names)
        if names[-1] and not path.exists():
            text = source.read_text(encoding="utf-8")
            rendered[path] = environment.from_string(text).render(values) if parts[-1].endswith(SUFFIX) else text
    return rendered


def _write(contents: Mapping[Path, str]) -> None:
    for path, text in contents.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        typer.echo(f"written {path}")


def _files(folder: Traversable, parents: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Traversable]]:
    for entry in sorted(folder.iterdir(), key=lambda path: path.name):
        if entry.is_dir():
            yield from _files(entry, (*parents, entry.name))
        else:
            yield (*parents, entry.name), entry


def _schemas(folder: Path, package: str) -> dict[Path, str]:
    """Export the schemas of the generated event classes, imported for that moment only."""
    sys.path.insert(0, str((folder / "src").resolve()))
    try:
        return dict(stale(f"{package}.events", folder / "contracts" / "schemas"))
    finally:
        sys.path.pop(0)
        for module in [name for name in sys.modules if name.partition(".")[0] == package]:
            del sys.modules[module]
