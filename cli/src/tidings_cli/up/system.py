"""Planning of a run from the project's files; nothing is started, written or downloaded."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from tidings.consume.policy import Policy
from tidings_cli.up import project
from tidings_cli.up.backends import BROKERS, STORES, Backend, choose
from tidings_cli.up.errors import UpError
from tidings_cli.up.processes import Instance, companions, instances, requested_ports
from tidings_cli.up.project import Home, Program
from tidings_plan import Plan, plan, resources, system_map
from tidings_plan.resources.findings import Finding
from tidings_plan.resources.inventory import Inventory


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Options of a run; `tidings.yaml` has the defaults."""

    broker: str = ""
    """`nats`, `redis`, or a URL such as `nats://10.0.0.7:4222`."""
    state: str = ""
    """`sqlite`, `redis`, `postgres`, or a URL."""
    only: tuple[str, ...] = ()
    """Start only these services and programs, with the broker and the store."""
    replicas: Mapping[str, int] = field(default_factory=dict)
    run_dir: Path | None = None
    """Run folder; by default `.run` in the project."""
    port_base: int | None = None
    """Number the fixed ports from this one."""
    free_ports: bool = False
    """Use free ports only, for tests that run in parallel."""
    fresh: bool = False
    """Delete the data of earlier runs."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Added to the environment of all services; overrides `tidings.yaml`."""


class PlanRefused(UpError):
    """The EventTypes and EventSubscriptions have errors; the message lists them with file, line and column."""

    def __init__(self, findings: Iterable[Finding]) -> None:
        self.findings = tuple(findings)
        super().__init__(
            "\n".join(["the events cannot be planned, so nothing was started:", *map(describe, self.findings)])
        )


@dataclass(frozen=True, slots=True)
class System:
    """A planned project."""

    home: Home
    plan: Plan
    instances: tuple[Instance, ...]
    programs: tuple[Program, ...]
    broker: Backend
    store: Backend
    requested_ports: Mapping[str, int | None]
    map: Mapping[str, Any] = field(default_factory=dict)
    """System map for the console (`tidings_plan.system_map`)."""
    inventory: Inventory = field(default_factory=Inventory)
    """The EventTypes and EventSubscriptions as the files have them."""

    def suspending(self, names: Collection[str]) -> System:
        """Return the system planned with these subscriptions suspended, besides those whose files say so.

        Raises:
            PlanRefused: One of them shares a topic with an active subscription.

        """
        named = [suspended for suspended in self.inventory.subscriptions.values() if suspended.metadata.name in names]
        for suspended in named:
            self.inventory.put(replace(suspended, spec=msgspec.structs.replace(suspended.spec, suspend=True)))
        try:
            planned = _plan(self.inventory)
            return replace(self, plan=planned, map=system_map(self.inventory, planned))
        finally:
            for suspended in named:
                self.inventory.put(suspended)

    @property
    def tools(self) -> tuple[str, ...]:
        daprd = ("daprd",) if any(instance.service.sidecar for instance in self.instances) else ()
        return tuple(dict.fromkeys((*daprd, *self.broker.programs, *self.store.programs)))

    @property
    def apps(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(instance.service.name for instance in self.instances if instance.service.sidecar))

    @property
    def data_owners(self) -> tuple[str, ...]:
        backends = (backend.process for backend in (self.broker, self.store) if backend.process)
        services = (instance.service.name for instance in self.instances)
        return (*backends, *services, *(program.name for program in self.programs))

    @property
    def fixed_ports(self) -> list[str]:
        # Services that are not started have port numbers for references, but their ports need not be free.
        started = {*(instance.name for instance in self.instances), *(program.name for program in self.programs)}
        return [
            name
            for name, port in self.requested_ports.items()
            if port is not None and name.partition(".")[0] in started
        ]

    def subscriptions(self) -> dict[str, frozenset[tuple[str, str]]]:
        """Return the planned (pubsub, topic) pairs of each app."""
        return {
            name: frozenset((item["spec"]["pubsubname"], item["spec"]["topic"]) for item in app.subscriptions)
            for name, app in self.plan.apps.items()
        }

    def app_resources(self, app: str) -> list[Mapping[str, Any]]:
        """Return the Dapr resources for the sidecar of an app."""
        planned = self.plan.apps.get(app)
        if planned is None:
            return []
        return [*planned.subscriptions, *([planned.resiliency] if planned.resiliency else [])]

    def parallel(self, app: str) -> Collection[str]:
        """Names of the further components through which an app reads several events of a topic at once."""
        planned = self.plan.apps.get(app)
        return planned.parallel.keys() if planned else ()

    def policy(self, app: str) -> Mapping[str, Any]:
        """Return the consumer policy of an app."""
        planned = self.plan.apps.get(app)
        document: dict[str, Any] = msgspec.to_builtins(planned.policy if planned else Policy(app))
        return document


def read(root: Path, options: Options) -> System:
    """Load and plan the project in `root`.

    Raises:
        ProjectError: `tidings.yaml` is invalid.
        PlanRefused: An EventType or EventSubscription is invalid.
        UpError: An option names an unknown service, program or server.

    """
    home = project.load(root)
    broker = choose(options.broker or home.project.broker, BROKERS, "broker")
    component_set = home.root / home.project.components / broker.kind.name
    folders = [*home.contracts, *([component_set] if component_set.is_dir() else [])]
    here = Path.cwd()  # findings show the paths, relative to it if possible
    inventory = resources.load(path.relative_to(here) if path.is_relative_to(here) else path for path in folders)
    planned = _plan(inventory)
    started = instances(home, options.only, options.replicas)
    for instance in started:
        project.check_code(home, instance.service)
    store = choose(options.state or home.project.state, STORES, "state")
    ports = requested_ports(home, started, {name for backend in (broker, store) for name in backend.port_names})
    if options.free_ports:
        ports = dict.fromkeys(ports)
    programs = tuple(companions(home, options.only))
    return System(
        home, planned, tuple(started), programs, broker, store, ports, system_map(inventory, planned), inventory
    )


def _plan(inventory: Inventory) -> Plan:
    planned = plan(inventory)
    errors = [finding for finding in planned.findings if finding.severity == "error"]
    if errors:
        raise PlanRefused(errors)
    return planned


def describe(finding: Finding) -> str:
    """Describe a finding in one line: location, message, and fix."""
    where = f"{finding.location}: " if str(finding.location) else ""
    fix = f" ({finding.fix})" if finding.fix else ""
    return f"{where}{finding.severity}: {finding.message}{fix} [{finding.rule}]"
