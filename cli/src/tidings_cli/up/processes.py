"""Planning of a project's processes: arguments, environment, ports. Pure: nothing is started or written."""

import os
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tidings.conventions import (
    APP_API_TOKEN,
    DAPR_API_TOKEN,
    DAPR_GRPC_PORT,
    TIDINGS_DATA,
    TIDINGS_INSTANCE,
    TIDINGS_KEYS,
    TIDINGS_METRICS_PORT,
    TIDINGS_POLICY,
)
from tidings_cli.up.errors import UpError
from tidings_cli.up.folder import RunFolder
from tidings_cli.up.ports import HOST
from tidings_cli.up.probes import Answers, Listens, SidecarServes
from tidings_cli.up.process import Process
from tidings_cli.up.project import Home, Program, Scalar, Service
from tidings_cli.up.references import fill
from tidings_plan.resources.did_you_mean import did_you_mean

SIDECAR_PORTS = ("http", "grpc", "internal", "metrics")
UVICORN = (
    *("${python}", "-m", "uvicorn", "--host", HOST, "--port", "${port}", "--lifespan", "on"),
    *("--no-access-log", "--log-level", "warning", "--http", "tidings.web.protocol:BoundedProtocol"),
    # Clients could otherwise choose their address (X-Forwarded-For), by which their streams are limited.
    "--no-proxy-headers",
    # Open event streams to browsers would block a stop indefinitely: close them after this many seconds.
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
# Dapr pauses the subscriptions of a service whose health probe fails. Events in flight then stay unacknowledged until
# the broker's acknowledgement wait is over (20 s). A killed service is back within three seconds, so the threshold is
# six failed probes: until then Dapr retries these events, and they arrive as soon as the service is back (measured: 2 s
# after a kill, against 25 s with a threshold of two). A longer outage pauses the subscriptions and uses no retries.
HEALTH_FLAGS = (
    ("--app-health-probe-interval", "1"),
    ("--app-health-probe-timeout", "1000"),
    ("--app-health-threshold", "6"),
    ("--enable-app-health-check",),
)
SERVICE_GRACE = 15.0
"""Seconds; longer than the SDK's drain time (TIDINGS_DRAIN, 10 s)."""
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
class RunContext:
    """Data shared by all processes of a run."""

    home: Home
    folder: RunFolder
    ports: Mapping[str, int]
    tools: Mapping[str, Path]
    environ: Mapping[str, str]
    """Environment of `tidings up`; `${env:NAME}` refers to it."""
    dapr_api_token: str = field(repr=False)
    app_api_token: str = field(repr=False)
    subscriptions: Mapping[str, frozenset[tuple[str, str]]] = field(default_factory=dict)
    """Planned (pubsub, topic) pairs per app."""
    cores: int = os.cpu_count() or 1
    pauses: bool = True
    """True if sidecars may pause their subscriptions while the service is unavailable: see `Kind.pauses`."""

    @property
    def cores_per_service(self) -> int:
        return max(self.cores // max(len(self.home.services), 1), 1)


def instances(home: Home, only: Collection[str], replicas: Mapping[str, int]) -> list[Instance]:
    """Return the replicas to start: of all services, or of those in `only`, which may also name programs.

    Raises:
        UpError: A name in `only` or `replicas` is unknown.

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
    """Return the programs to start: all, or those in `only`."""
    return [program for program in home.programs if not only or program.name in only]


def _check_names(names: Collection[str], known: Sequence[str]) -> None:
    for name in names:
        if name not in known:
            raise UpError(f"unknown service or program {name}. {did_you_mean(name, known)}")


def requested_ports(home: Home, started: Sequence[Instance], backends: Collection[str]) -> dict[str, int | None]:
    """Return all ports by name, with the requested number, or None for any free one.

    Services that are not started are included, so that references to their ports can be resolved.
    """
    requested: dict[str, int | None] = {service.name: service.port for service in home.services}
    requested |= {instance.name: None for instance in started if instance.replica}
    requested |= {f"{instance.name}.metrics": None for instance in started}
    for program in home.programs:
        requested[program.name] = program.port
        requested |= {f"{program.name}.{key}": port for key, port in program.ports.items()}
    requested |= dict.fromkeys(sorted(backends))
    requested |= {
        f"{instance.sidecar}.{key}": None for instance in started if instance.service.sidecar for key in SIDECAR_PORTS
    }
    return requested


def programs(started: Sequence[Program], run_context: RunContext) -> list[Process]:
    """Return the processes of programs, such as simulators."""
    planned: list[Process] = []
    for program in started:
        own = _reference_values(program.name, f"{program.name}-0", run_context)
        ports = {"app": run_context.ports[program.name]}
        ports |= {key: run_context.ports[f"{program.name}.{key}"] for key in program.ports}
        process = Process(
            name=program.name,
            role="program",
            app=program.name,
            argv=_filled_command(program.command, own, run_context, program.name),
            ready=Answers(f"http://{HOST}:{ports['app']}{program.ready}") if program.ready else Listens(ports["app"]),
            cwd=run_context.home.folder(program),
            env=_environment(program.environment, own, run_context, program.name) | _common(own, run_context),
            ports=ports,
        )
        planned.append(process)
    return planned


def services(started: Sequence[Instance], run_context: RunContext) -> list[Process]:
    """Return the processes of replicas and their sidecars."""
    planned: list[Process] = []
    for instance in started:
        planned.append(_service(instance, run_context))
        if instance.service.sidecar:
            planned.append(_sidecar(instance, run_context))
    return planned


def _service(instance: Instance, run_context: RunContext) -> Process:
    service, port = instance.service, run_context.ports[instance.name]
    metrics = run_context.ports[f"{instance.name}.metrics"]
    own = _reference_values(instance.name, instance.stable, run_context, service.name)
    command = service.command or [*UVICORN, f"{service.package}.main:app"]
    source = run_context.home.folder(service) / "src"
    paths = [str(source), *filter(None, [run_context.environ.get("PYTHONPATH")])]
    of_sidecar = (
        {
            "APP_ID": service.name,
            "DAPR_HTTP_PORT": str(run_context.ports[f"{instance.sidecar}.http"]),
            DAPR_GRPC_PORT: str(run_context.ports[f"{instance.sidecar}.grpc"]),
            DAPR_API_TOKEN: run_context.dapr_api_token,
            APP_API_TOKEN: run_context.app_api_token,
            TIDINGS_POLICY: str(run_context.folder.policy(service.name)),
        }
        if service.sidecar
        else {}
    )
    return Process(
        name=instance.name,
        role="service",
        app=service.name,
        argv=_filled_command(command, own, run_context, service.name),
        ready=Answers(f"http://{HOST}:{port}{service.ready}"),
        cwd=run_context.home.folder(service),
        env={"PYTHONPATH": ":".join(paths), TIDINGS_KEYS: str(run_context.folder.keys)}
        | _environment(service.environment, own, run_context, service.name)
        | _common(own, run_context)
        | {TIDINGS_METRICS_PORT: str(metrics)}
        | of_sidecar,
        ports={"app": port, "metrics": metrics},
        grace=SERVICE_GRACE,
    )


def _sidecar(instance: Instance, run_context: RunContext) -> Process:
    service = instance.service
    ports = {key: run_context.ports[f"{instance.sidecar}.{key}"] for key in SIDECAR_PORTS}
    flags = (
        ("--app-id", service.name),
        ("--app-port", str(run_context.ports[instance.name])),
        ("--resources-path", str(run_context.folder.resources(service.name))),
        ("--dapr-http-port", str(ports["http"])),
        ("--dapr-grpc-port", str(ports["grpc"])),
        ("--dapr-internal-grpc-port", str(ports["internal"])),
        ("--metrics-port", str(ports["metrics"])),
        *((("--app-health-check-path", service.ready), *HEALTH_FLAGS) if run_context.pauses else ()),
        *SIDECAR_FLAGS,
    )
    return Process(
        name=instance.sidecar,
        role="sidecar",
        app=service.name,
        argv=(str(run_context.tools["daprd"]), *(word for flag in flags for word in flag)),
        ready=SidecarServes(
            f"http://{HOST}:{ports['http']}",
            run_context.dapr_api_token,
            run_context.subscriptions.get(service.name, frozenset()),
        ),
        cwd=run_context.folder.path,
        env={
            "DAPR_HOST_IP": HOST,
            DAPR_API_TOKEN: run_context.dapr_api_token,
            APP_API_TOKEN: run_context.app_api_token,
            # Go's threads look for work on every core: of ten sidecars on two cores that takes a quarter of their time.
            "GOMAXPROCS": run_context.environ.get("GOMAXPROCS", str(run_context.cores_per_service)),
        },
        ports=ports,
        grace=SIDECAR_GRACE,
    )


def _reference_values(name: str, instance: str, run_context: RunContext, app: str = "") -> dict[str, str]:
    return {
        "name": name,
        "instance": instance,
        "port": str(run_context.ports[name]),
        "run": str(run_context.folder.path),
        "map": str(run_context.folder.map),
        "data": str(run_context.folder.data(app or name)),
        "python": sys.executable,
    }


def _common(own: Mapping[str, str], run_context: RunContext) -> dict[str, str]:
    return {
        "APP_PORT": own["port"],
        TIDINGS_INSTANCE: own["instance"],
        "TIDINGS_RUN_DIR": str(run_context.folder.path),
        TIDINGS_DATA: own["data"],
        "PYTHONUNBUFFERED": "1",
        # If set, each start compiles all modules again: 3.2 s of CPU time per service instead of 1.2 s.
        "PYTHONDONTWRITEBYTECODE": "",
    }


def _filled_command(
    command: Sequence[str], own: Mapping[str, str], run_context: RunContext, name: str
) -> tuple[str, ...]:
    where = f"tidings.yaml: command of {name}"
    return tuple(fill(word, own, run_context.ports, run_context.environ, where=where) for word in command)


def _environment(
    special: Mapping[str, Scalar], own: Mapping[str, str], run_context: RunContext, name: str
) -> dict[str, str]:
    merged = {**run_context.home.project.environment, **special}
    texts = {key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in merged.items()}
    return {
        key: fill(text, own, run_context.ports, run_context.environ, where=f"tidings.yaml: {key} of {name}")
        for key, text in texts.items()
    }
