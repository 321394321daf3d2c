"""Preparations before the first process starts: run folder, programs, ports and files."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

from tidings.brokers import components
from tidings_cli import programs
from tidings_cli.up import backends, kafka, orphans, ports, processes, state, system
from tidings_cli.up.errors import AlreadyRunning, NotRunning
from tidings_cli.up.files import make_own, make_private, write_private
from tidings_cli.up.folder import RUN_DIR, RunFolder
from tidings_cli.up.postgres import init_cluster
from tidings_cli.up.process import Process
from tidings_cli.up.processes import RunContext
from tidings_cli.up.supervisor import Reporter
from tidings_cli.up.system import Options, System
from tidings_plan.resources.brokers import parallel


@dataclass(frozen=True, slots=True)
class Prepared:
    """A system that is ready to start."""

    system: System
    folder: RunFolder
    processes: tuple[Process, ...]
    ports: Mapping[str, int]
    dapr_api_token: str = field(repr=False)
    app_api_token: str = field(repr=False)
    password: str = field(repr=False)
    """Password of the local broker and store."""

    @property
    def broker_url(self) -> str:
        return self.system.broker.url(self.ports, self.password)

    @property
    def pubsubs(self) -> list[dict[str, Any]]:
        sets = self.system.home.root / self.system.home.project.components
        return components.render(
            sets / self.system.broker.kind.name, self.system.broker.values(self.ports, self.password)
        )

    def suspending(self, names: Collection[str]) -> Prepared:
        """Suspend these subscriptions and no others: sidecars reload the files of their Subscriptions.

        Raises:
            tidings_cli.up.system.PlanRefused: One of them shares a topic with an active subscription.

        """
        changed = self.system.suspending(names)
        for app in changed.apps:
            resources = changed.app_resources(app)
            _write_app(self.folder, app, resources, changed.policy(app))
            planned = {_file_name(resource) for resource in resources}
            for file in self.folder.resources(app).glob("subscription-*.yaml"):
                if file.name not in planned:
                    file.unlink()
        write_private(self.folder.map, json.dumps(changed.map, indent=1))
        return replace(self, system=changed)

    @property
    def url(self) -> str:
        name = self.system.home.project.open
        started = {instance.name for instance in self.system.instances}
        return f"http://{ports.HOST}:{self.ports[name]}" if name in started else ""


@contextmanager
def prepared(root: Path, options: Options, report: Reporter) -> Iterator[Prepared]:
    """Prepare the project in `root`; run folder and ports are locked for the duration of the context.

    Raises:
        UpError: The project, its plan, a port or the folder is invalid or in use.
        tidings_cli.programs.ProgramError: A program is missing and cannot be installed.
        tidings.brokers.components.ComponentError: A component set is missing.

    """
    planned = system.read(root, options)
    for finding in planned.plan.findings:
        if finding.severity == "warning":
            report.note(system.describe(finding), level=2)
    place = options.run_dir or planned.home.root / RUN_DIR
    make_own(place)
    folder = RunFolder(place.resolve())
    with _locked(folder, report), ports.block() as free:
        numbers = ports.assign(planned.requested_ports, free, options.port_base)
        ports.check({name: numbers[name] for name in planned.fixed_ports})
        context = RunContext(
            home=planned.home,
            folder=folder,
            ports=numbers,
            tools=programs.ensure(*planned.tools, report=report.note),
            environ=os.environ,
            dapr_api_token=secrets.token_urlsafe(),
            app_api_token=secrets.token_urlsafe(),
            subscriptions=planned.subscriptions(),
            pauses=planned.broker.kind.pauses,
        )
        yield _write(planned, context, options, report)


@contextmanager
def _locked(folder: RunFolder, report: Reporter) -> Iterator[None]:
    with os.fdopen(os.open(folder.lock, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600), "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunning(
                f"a system already runs in {folder.path}: stop it with `tidings down`, or choose another --run-dir"
            ) from None
        with suppress(NotRunning):  # raised on the first run in this folder
            orphans.end(folder.path, state.read(folder.path), report.note)
        yield


def _write(planned: System, context: RunContext, options: Options, report: Reporter) -> Prepared:
    folder = context.folder
    folder.prepare(planned.data_owners, fresh=options.fresh)
    try:
        planned = planned.suspending(names) if (names := folder.suspended_names) else planned
    except system.PlanRefused as error:
        report.note(
            f"all subscriptions are active, because not all in {folder.suspended} can be suspended: {error}", level=2
        )
    password = folder.password
    started = [
        *_servers(planned, context, password),
        *processes.programs(planned.programs, context),
        *processes.services(planned.instances, context),
    ]
    write_private(folder.map, json.dumps(planned.map, indent=1))
    for app in planned.apps:
        resources = [*_components(app, planned, context, password), *planned.app_resources(app)]
        _write_app(folder, app, resources, planned.policy(app))
    mark, extra = {orphans.MARK: str(folder.path)}, {"service": options.environment}
    return Prepared(
        planned,
        folder,
        tuple(replace(item, env={**item.env, **extra.get(item.role, {}), **mark}) for item in started),
        context.ports,
        context.dapr_api_token,
        context.app_api_token,
        password,
    )


def _servers(planned: System, context: RunContext, password: str) -> list[Process]:
    """Configure and initialise the local broker and store."""
    folder, tools = context.folder, context.tools
    servers = backends.processes(planned.broker, planned.store, context.ports, tools, folder.data_root, password)
    backends.configure(servers, password)
    if planned.broker.process == "kafka":
        data = folder.data("kafka")
        kafka.format_storage(tools["kafka"], data / backends.CONFIGURATION, data)
    if planned.store.process == "postgres":
        init_cluster(tools["initdb"], folder, password)
    return servers


def _components(app: str, planned: System, context: RunContext, password: str) -> list[dict[str, Any]]:
    folder, numbers = context.folder, context.ports
    sets = planned.home.root / planned.home.project.components
    # A commit survives the end of any process, as an event in NATS does; only a power cut may undo the last ones.
    state = f"file:{quote(str(folder.data(app) / 'state.db'))}?_pragma=synchronous(NORMAL)"
    own = {"STATE_FILE": state}
    pubsub = components.render(sets / planned.broker.kind.name, {**own, **planned.broker.values(numbers, password)})
    store = components.render(
        sets / f"state-{planned.store.kind.name}", {**own, **planned.store.values(numbers, password)}
    )
    used = {*planned.parallel(app), *(document["metadata"]["name"] for document in pubsub)}
    scoped = []
    for component in (component for document in pubsub for component in parallel(document)):
        name, spec = component["metadata"]["name"], component["spec"]
        if name in used:  # with its publishing and subscription scopes, as on a cluster
            scopes = planned.plan.scopes.get(name)
            metadata = [*spec["metadata"], *(scopes.metadata if scopes else [])]
            scoped.append({**component, "spec": {**spec, "metadata": metadata}})
    return [*scoped, *store]


def _write_app(folder: RunFolder, app: str, resources: Iterable[Mapping[str, Any]], policy: Mapping[str, Any]) -> None:
    """Write the resources of an app's sidecars, and its consumer policy."""
    into = folder.resources(app)
    make_private(into.parent)
    into.mkdir(exist_ok=True)
    for resource in resources:
        file, text = into / _file_name(resource), yaml.safe_dump(dict(resource), sort_keys=False)
        if not file.exists() or file.read_text(encoding="utf-8") != text:  # a sidecar reloads what is written
            write_private(file, text)
    folder.policy(app).parent.mkdir(parents=True, exist_ok=True)
    write_private(folder.policy(app), json.dumps(policy, indent=1))


def _file_name(resource: Mapping[str, Any]) -> str:
    return f"{resource['kind'].lower()}-{resource['metadata']['name']}.yaml"
