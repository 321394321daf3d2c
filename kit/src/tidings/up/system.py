"""What would be started, decided from the project's files alone: nothing is started, written or fetched here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tidings import resources
from tidings.plan import Plan, plan, system_map
from tidings.resources.findings import Finding
from tidings.up import project
from tidings.up.backends import BROKERS, STORES, Backend, choose
from tidings.up.errors import UpError
from tidings.up.processes import Instance, companions, instances, wanted_ports
from tidings.up.project import Home, Program


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How the system is started; what is left out comes from `tidings.yaml`."""

    broker: str = ""
    """`nats`, `redis`, or an address such as `nats://10.0.0.7:4222`."""
    state: str = ""
    """`sqlite`, `redis`, `postgres`, or an address."""
    only: tuple[str, ...] = ()
    """Start these services and programs alone, with the broker and the store."""
    replicas: Mapping[str, int] = field(default_factory=dict)
    run_dir: Path | None = None
    """By default `.run` in the project."""
    port_base: int | None = None
    """Fixed ports become this one and those after it."""
    free_ports: bool = False
    """No fixed ports at all: for tests, many of which run side by side."""
    fresh: bool = False
    """Forget the data of earlier runs."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Added to the environment of every service; wins over `tidings.yaml`."""


class PlanRefused(UpError):
    """The EventTypes and EventSubscriptions have errors; the message lists them with file, line and column."""

    def __init__(self, findings: Iterable[Finding]) -> None:
        self.findings = tuple(findings)
        super().__init__(
            "\n".join(["the events cannot be planned, so nothing was started:", *map(describe, self.findings)])
        )


@dataclass(frozen=True, slots=True)
class System:
    """A project, planned."""

    home: Home
    plan: Plan
    instances: tuple[Instance, ...]
    programs: tuple[Program, ...]
    broker: Backend
    store: Backend
    wanted_ports: Mapping[str, int | None]
    map: Mapping[str, Any] = field(default_factory=dict)
    """What a page about the whole system is drawn from (`tidings.plan.system_map`)."""

    @property
    def tools(self) -> tuple[str, ...]:
        daprd = ("daprd",) if any(each.service.sidecar for each in self.instances) else ()
        return tuple(dict.fromkeys((*daprd, *self.broker.programs, *self.store.programs)))

    @property
    def apps(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(each.service.name for each in self.instances if each.service.sidecar))

    @property
    def keeping(self) -> tuple[str, ...]:
        backends = (each.process for each in (self.broker, self.store) if each.process)
        return (*backends, *(each.service.name for each in self.instances), *(each.name for each in self.programs))

    @property
    def fixed_ports(self) -> list[str]:
        started = {*(each.name for each in self.instances), *(each.name for each in self.programs)}
        return [
            name for name, port in self.wanted_ports.items() if port is not None and name.partition(".")[0] in started
        ]

    def subscriptions(self) -> dict[str, frozenset[tuple[str, str]]]:
        """Planned (pubsub, topic) pairs of every app."""
        return {
            name: frozenset((each["spec"]["pubsubname"], each["spec"]["topic"]) for each in app.subscriptions)
            for name, app in self.plan.apps.items()
        }

    def app_resources(self, app: str) -> list[Mapping[str, Any]]:
        """What the plan gives this app's sidecar to load."""
        planned = self.plan.apps.get(app)
        if planned is None:
            return []
        return [*planned.subscriptions, *([planned.resiliency] if planned.resiliency else [])]

    def policy(self, app: str) -> Mapping[str, Any]:
        """What the kit reads."""
        planned = self.plan.apps.get(app)
        return planned.policy if planned else {"app": app}


def read(root: Path, options: Options) -> System:
    """Read and plan the project in `root`.

    Raises:
        ProjectError: `tidings.yaml` is wrong.
        PlanRefused: an EventType or EventSubscription is.
        UpError: an option names something that is not there.

    """
    home = project.load(root)
    broker = choose(options.broker or home.project.broker, BROKERS, "broker")
    brought = home.root / home.project.components / broker.kind.name
    inventory = resources.load(map(_near, [*home.contracts, *([brought] if brought.is_dir() else [])]))
    planned = plan(inventory)
    errors = [finding for finding in planned.findings if finding.severity == "error"]
    if errors:
        raise PlanRefused(errors)
    started = instances(home, options.only, options.replicas)
    for instance in started:
        project.check_code(home, instance.service)
    store = choose(options.state or home.project.state, STORES, "state")
    wanted = wanted_ports(home, started, {backend.process for backend in (broker, store) if backend.process})
    if options.free_ports:
        wanted = dict.fromkeys(wanted)
    drawn = system_map(inventory, planned)
    return System(home, planned, tuple(started), tuple(companions(home, options.only)), broker, store, wanted, drawn)


def _near(path: Path) -> Path:
    """The path as somebody in the present folder would write it: findings are shown with it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def describe(finding: Finding) -> str:
    """A finding as one line: where, what, and how to mend it."""
    where = f"{finding.location}: " if str(finding.location) else ""
    mend = f" ({finding.mend})" if finding.mend else ""
    return f"{where}{finding.severity}: {finding.message}{mend} [{finding.rule}]"
