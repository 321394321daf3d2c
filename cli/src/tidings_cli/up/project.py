"""Parser of `tidings.yaml`, which lists a system's services and programs. Errors name line, column and field."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from tidings_cli.up.errors import ProjectError
from tidings_plan.resources import reading
from tidings_plan.resources.parsing import convert

FILE_NAME = "tidings.yaml"
NAME = re.compile(r"[a-z][a-z0-9-]*\Z")
Scalar = str | int | float | bool
Field = tuple[str | int, ...]
"""Path of a field."""


class Service(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A service, started from its folder with a Dapr sidecar (unless `sidecar` is false)."""

    name: str
    """Also the Dapr app id."""
    folder: str = ""
    """Folder relative to the project; by default found through `folders`."""
    module: str = ""
    """Python package whose `main.app` is the ASGI application; by default the name, with `_` for `-`."""
    command: list[str] = []
    """Command to start instead of uvicorn; may contain `${...}` references."""
    port: int | None = None
    """HTTP port of the first replica; by default a free one. Further replicas always get free ones."""
    replicas: int = 1
    sidecar: bool = True
    ready: str = "/healthz"
    """Path that answers 2xx once the service is ready; also Dapr's health check."""
    environment: dict[str, Scalar] = {}

    @property
    def package(self) -> str:
        return self.module or self.name.replace("-", "_")


class Program(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Another program of the system, such as a simulator of a third-party service."""

    name: str
    command: list[str]
    folder: str = "."
    port: int | None = None
    ports: dict[str, int | None] = {}
    """Further ports by name; `${port:NAME.key}` refers to them. Null requests a free one."""
    ready: str | None = None
    """Path of the HTTP readiness probe on `port`; by default, accepting connections is enough."""
    environment: dict[str, Scalar] = {}


class Project(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Content of `tidings.yaml`."""

    name: str
    folders: list[str] = []
    """Globs of service folders. Each folder is a service of the same name; `services` overrides settings."""
    services: list[Service] = []
    programs: list[Program] = []
    environment: dict[str, Scalar] = {}
    """Environment of all services and programs; their own settings take precedence."""
    components: str = "components"
    """Folder of the Dapr component sets."""
    broker: str = "nats"
    state: str = "sqlite"
    open: str = ""
    """Service whose URL is printed when the system is ready."""


@dataclass(frozen=True, slots=True)
class Home:
    """A project with its root folder; all services have their folders set."""

    root: Path
    project: Project
    services: tuple[Service, ...]

    @property
    def programs(self) -> tuple[Program, ...]:
        return tuple(self.project.programs)

    def folder(self, part: Service | Program) -> Path:
        """Return the absolute folder of a service or program."""
        return (self.root / part.folder).resolve()

    @property
    def contracts(self) -> list[Path]:
        folders = (self.folder(service) / "contracts" for service in self.services)
        return [folder for folder in folders if folder.is_dir()]


def load(root: Path) -> Home:
    """Load the project in `root`.

    Raises:
        ProjectError: The file is missing or not YAML, a field is unknown or invalid, a name is not unique, or a
            service has no folder.

    """
    file = root / FILE_NAME
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        message = f"{file} does not exist; change to the project's folder, or create it (see docs/reference/up.md)"
        raise ProjectError(message) from None
    return complete(root.resolve(), parse(text, str(file)))


def parse(text: str, file: str) -> Project:
    """Parse YAML; `file` is used in error messages only."""
    documents, findings = reading.parse(text, file)
    if not findings and len(documents) != 1:
        raise ProjectError(f"{file}:1:1: write one YAML document; it begins with `name:`")
    project: Project | None = None
    if not findings:
        project, findings = convert(documents[0].data, Project, (), documents[0].origin)
    if findings or project is None:
        raise ProjectError("\n".join(f"{item.location}: {item.message}. {item.fix}" for item in findings))
    for path, problem in _problems(project):
        raise ProjectError(f"{documents[0].origin.at(*path)}: {problem}")
    return project


def complete(root: Path, project: Project) -> Home:
    """Resolve the folders of all services."""
    declared = {service.name: service for service in project.services}
    folders = {
        folder.name: folder
        for pattern in project.folders
        for folder in sorted(root.glob(pattern))
        if folder.is_dir() and ((folder / "pyproject.toml").is_file() or (folder / "src").is_dir())
    }
    services = [service for name, service in declared.items() if name not in folders]
    for name, folder in folders.items():
        service = declared.get(name) or Service(name=name)
        place = service.folder or folder.relative_to(root).as_posix()
        services.append(msgspec.structs.replace(service, folder=place))
    for service in services:
        if not service.folder:
            raise ProjectError(
                f"service {service.name}: no folder in `folders` has this name; "
                "set its `folder:`, or remove it from `services`"
            )
        if not (root / service.folder).is_dir():
            raise ProjectError(
                f"service {service.name}: the folder {root / service.folder} does not exist; correct its `folder:`"
            )
    order = {name: index for index, name in enumerate(declared)}
    services.sort(key=lambda service: (order.get(service.name, len(order)), service.name))
    return Home(root, project, tuple(services))


def check_code(home: Home, service: Service) -> None:
    """Check that the service has code to start.

    Raises:
        ProjectError: There is no `main.py`, and no `command:`.

    """
    folder = home.folder(service)
    main = folder / "src" / service.package / "main.py"
    if not service.command and not main.is_file() and not (folder / service.package / "main.py").is_file():
        raise ProjectError(f"service {service.name}: {main} does not exist; create it, or set `module:` or `command:`")


def _problems(project: Project) -> Iterator[tuple[Field, str]]:
    parts: list[tuple[Field, Service | Program]] = [
        *((("services", index), service) for index, service in enumerate(project.services)),
        *((("programs", index), program) for index, program in enumerate(project.programs)),
    ]
    names = Counter(part.name for _, part in parts)
    for at, part in parts:
        if not NAME.match(part.name):
            problem = "is not a valid name: use lower-case letters, digits and `-`, starting with a letter"
            yield (*at, "name"), f"{part.name!r} {problem}"
        if names[part.name] > 1:
            yield (*at, "name"), f"the name {part.name} is not unique"
        if isinstance(part, Service) and part.replicas < 1:
            yield (*at, "replicas"), "replicas must be 1 or more; leave a service out with --only"
        if isinstance(part, Program) and not part.command:
            yield (*at, "command"), "command must not be empty"
        if part.port is not None and not 0 < part.port < 1 << 16:
            yield (*at, "port"), f"{part.port} is not a port: use 1 to 65535"
