"""From a project to the processes it needs: arguments, environment, ports. Pure: nothing is started or written here."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tidings.up.errors import UpError
from tidings.up.folder import RunFolder
from tidings.up.ports import HOST
from tidings.up.probes import Answers, Listens, SidecarServes
from tidings.up.process import Process
from tidings.up.project import Home, Program, Scalar, Service
from tidings.up.references import fill

SIDECAR_PORTS = ("http", "grpc", "internal", "metrics")
UVICORN = (
    *("${python}", "-m", "uvicorn", "--host", HOST, "--port", "${port}", "--lifespan", "on"),
    *("--no-access-log", "--log-level", "warning", "--http", "tidings.web.protocol:BoundedProtocol"),
    # An open event stream to a browser must not hold a stop for ever: after this many seconds it is cut.
    *("--timeout-graceful-shutdown", "5"),
)
SIDECAR_FLAGS = (
    ("--app-protocol", "http"),
    ("--app-channel-address", HOST),
    ("--dapr-listen-addresses", HOST),
    ("--dapr-internal-grpc-listen-address", HOST),
    ("--metrics-listen-address", HOST),
    ("--dapr-graceful-shutdown-seconds", "5"),
    ("--log-as-json",),
)
# Dapr pauses the subscriptions of a service that does not answer. Events that are then in flight stay with the
# broker until its acknowledgement wait is over (20 s). A service that was killed is back within three seconds:
# before six failed probes Dapr rather tries those events again, and they arrive as soon as it is there (2 s after
# a kill, measured, against 25 s with two probes). One that stays away longer is paused, and uses up no retries.
HEALTH_FLAGS = (
    ("--app-health-probe-interval", "1"),
    ("--app-health-probe-timeout", "1000"),
    ("--app-health-threshold", "6"),
    ("--enable-app-health-check",),
)
SERVICE_GRACE = 15.0
"""Seconds; longer than the kit's own drain (TIDINGS_DRAIN, 10 s)."""
SIDECAR_GRACE = 8.0


@dataclass(frozen=True, slots=True)
class Instance:
    """One replica of a service."""

    service: Service
    replica: int = 0

    @property
    def name(self) -> str:
        return self.service.name if self.replica == 0 else f"{self.service.name}-{self.replica}"

    @property
    def sidecar(self) -> str:
        return f"{self.name}.daprd"

    @property
    def stable(self) -> str:
        return f"{self.service.name}-{self.replica}"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the processes of one run have in common."""

    home: Home
    folder: RunFolder
    ports: Mapping[str, int]
    tools: Mapping[str, Path]
    environ: Mapping[str, str]
    """The environment `tidings up` has itself; `${env:NAME}` refers to it."""
    dapr_api_token: str = field(repr=False)
    app_api_token: str = field(repr=False)
    subscriptions: Mapping[str, frozenset[tuple[str, str]]] = field(default_factory=dict)
    """Planned (pubsub, topic) pairs per app."""
    pauses: bool = True
    """Whether sidecars may pause their subscriptions while the service is away: see `Kind.pauses`."""


def instances(home: Home, only: Collection[str], replicas: Mapping[str, int]) -> list[Instance]:
    """The replicas to start: of all services, or of those in `only`, which may name programs too.

    Raises:
        UpError: a name in `only` or `replicas` that is not there.

    """
    services = [service.name for service in home.services]
    _check_names(replicas, services)
    _check_names(only, [*services, *(program.name for program in home.programs)])
    return [
        Instance(service, replica)
        for service in home.services
        if not only or service.name in only
        for replica in range(replicas.get(service.name, service.replicas))
    ]


def companions(home: Home, only: Collection[str]) -> list[Program]:
    """The programs to start: all, or those in `only`."""
    return [program for program in home.programs if not only or program.name in only]


def _check_names(names: Collection[str], known: Sequence[str]) -> None:
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
            raise UpError(f"nothing is called {name}; {hint}")


def wanted_ports(home: Home, started: Sequence[Instance], backends: Collection[str]) -> dict[str, int | None]:
    """Every port by name, with the number that is asked for; None takes a free one.

    What is left out keeps its port's name, so that references to it still mean something.
    """
    wanted: dict[str, int | None] = {service.name: service.port for service in home.services}
    wanted |= {instance.name: None for instance in started if instance.replica}
    wanted |= {f"{instance.name}.metrics": None for instance in started}
    for program in home.programs:
        wanted[program.name] = program.port
        wanted |= {f"{program.name}.{key}": port for key, port in program.ports.items()}
    wanted |= dict.fromkeys(sorted(backends))
    wanted |= {
        f"{instance.sidecar}.{key}": None for instance in started if instance.service.sidecar for key in SIDECAR_PORTS
    }
    return wanted


def programs(started: Sequence[Program], surroundings: Surroundings) -> list[Process]:
    """The project's programs, such as simulators."""
    return [_program(each, surroundings) for each in started]


def services(started: Sequence[Instance], surroundings: Surroundings) -> list[Process]:
    """Each replica with its sidecar."""
    found: list[Process] = []
    for instance in started:
        found.append(_service(instance, surroundings))
        if instance.service.sidecar:
            found.append(_sidecar(instance, surroundings))
    return found


def _program(program: Program, around: Surroundings) -> Process:
    own = _own(program.name, f"{program.name}-0", around)
    ports = {"app": around.ports[program.name]}
    ports |= {key: around.ports[f"{program.name}.{key}"] for key in program.ports}
    return Process(
        name=program.name,
        role="program",
        app=program.name,
        argv=_filled_command(program.command, own, around, program.name),
        ready=Answers(f"http://{HOST}:{ports['app']}{program.ready}") if program.ready else Listens(ports["app"]),
        cwd=around.home.folder(program),
        env=_environment(program.environment, own, around, program.name) | _common(own, around),
        ports=ports,
    )


def _service(instance: Instance, around: Surroundings) -> Process:
    service, port = instance.service, around.ports[instance.name]
    metrics = around.ports[f"{instance.name}.metrics"]
    own = _own(instance.name, instance.stable, around, service.name)
    command = service.command or [*UVICORN, f"{service.package}.main:app"]
    source = around.home.folder(service) / "src"
    paths = [str(source), *filter(None, [around.environ.get("PYTHONPATH")])]
    return Process(
        name=instance.name,
        role="service",
        app=service.name,
        argv=_filled_command(command, own, around, service.name),
        ready=Answers(f"http://{HOST}:{port}{service.ready}"),
        cwd=around.home.folder(service),
        env={"PYTHONPATH": ":".join(paths)}
        | _environment(service.environment, own, around, service.name)
        | _common(own, around)
        | {"TIDINGS_METRICS_PORT": str(metrics)}
        | (_sidecar_environment(instance, around) if service.sidecar else {}),
        ports={"app": port, "metrics": metrics},
        grace=SERVICE_GRACE,
    )


def _sidecar(instance: Instance, around: Surroundings) -> Process:
    service = instance.service
    ports = {key: around.ports[f"{instance.sidecar}.{key}"] for key in SIDECAR_PORTS}
    flags = (
        ("--app-id", service.name),
        ("--app-port", str(around.ports[instance.name])),
        ("--resources-path", str(around.folder.resources(service.name))),
        ("--dapr-http-port", str(ports["http"])),
        ("--dapr-grpc-port", str(ports["grpc"])),
        ("--dapr-internal-grpc-port", str(ports["internal"])),
        ("--metrics-port", str(ports["metrics"])),
        *((("--app-health-check-path", service.ready), *HEALTH_FLAGS) if around.pauses else ()),
        *SIDECAR_FLAGS,
    )
    return Process(
        name=instance.sidecar,
        role="sidecar",
        app=service.name,
        argv=(str(around.tools["daprd"]), *(word for flag in flags for word in flag)),
        ready=SidecarServes(
            f"http://{HOST}:{ports['http']}",
            around.dapr_api_token,
            around.subscriptions.get(service.name, frozenset()),
        ),
        cwd=around.folder.path,
        env={"DAPR_HOST_IP": HOST, "DAPR_API_TOKEN": around.dapr_api_token, "APP_API_TOKEN": around.app_api_token},
        ports=ports,
        grace=SIDECAR_GRACE,
    )


def _own(name: str, instance: str, around: Surroundings, app: str = "") -> dict[str, str]:
    return {
        "name": name,
        "instance": instance,
        "port": str(around.ports[name]),
        "run": str(around.folder.path),
        "map": str(around.folder.map),
        "data": str(around.folder.data(app or name)),
        "python": sys.executable,
    }


def _common(own: Mapping[str, str], around: Surroundings) -> dict[str, str]:
    return {
        "APP_PORT": own["port"],
        "TIDINGS_INSTANCE": own["instance"],
        "TIDINGS_RUN_DIR": str(around.folder.path),
        "TIDINGS_DATA": own["data"],
        "PYTHONUNBUFFERED": "1",
        # Where it is set, every start compiles every module anew: 3.2 s of processor time for a service, against 1.2.
        "PYTHONDONTWRITEBYTECODE": "",
    }


def _sidecar_environment(instance: Instance, around: Surroundings) -> dict[str, str]:
    return {
        "APP_ID": instance.service.name,
        "DAPR_HTTP_PORT": str(around.ports[f"{instance.sidecar}.http"]),
        "DAPR_GRPC_PORT": str(around.ports[f"{instance.sidecar}.grpc"]),
        "DAPR_API_TOKEN": around.dapr_api_token,
        "APP_API_TOKEN": around.app_api_token,
        "TIDINGS_POLICY": str(around.folder.policy(instance.service.name)),
    }


def _filled_command(command: Sequence[str], own: Mapping[str, str], around: Surroundings, name: str) -> tuple[str, ...]:
    where = f"tidings.yaml: command of {name}"
    return tuple(fill(word, own, around.ports, around.environ, where=where) for word in command)


def _environment(
    special: Mapping[str, Scalar], own: Mapping[str, str], around: Surroundings, name: str
) -> dict[str, str]:
    merged = {**around.home.project.environment, **special}
    return {
        key: fill(_text(value), own, around.ports, around.environ, where=f"tidings.yaml: {key} of {name}")
        for key, value in merged.items()
    }


def _text(value: Scalar) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
