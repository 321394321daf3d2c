"""Says whether what the cluster way needs is here, and for each thing that is missing what fixes it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

MEMORY = 8
"""GiB that a kind node with everything on it needs: 11 services with sidecars, Dapr, a broker and a store."""
SECONDS = 15

Ask = Callable[[Sequence[str]], tuple[int, str]]
"""Runs a program; its exit code and the last line it said."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at; `fix` is the command that helps, empty where it is well."""

    what: str
    said: str
    fix: str = ""


def ask(command: Sequence[str]) -> tuple[int, str]:
    """Run a program that must answer soon."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)
    except FileNotFoundError:
        return 127, "not found"
    except subprocess.TimeoutExpired:
        return 124, f"no answer within {SECONDS} s"
    lines = (done.stdout if done.returncode == 0 else done.stderr or done.stdout).strip().splitlines()
    return done.returncode, lines[-1] if lines else ""


def put(name: str) -> str:
    """Return the command that brings a program onto PATH, where skaffold and whoever types its name look for it."""
    sudo = "" if os.geteuid() == 0 else "sudo "
    return f'{sudo}ln -sf "$(.venv/bin/tidings tools {name} | cut -f2)" /usr/local/bin/{name}'


def memory() -> float:
    """GiB of memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def examine(
    run: Ask = ask, where: Callable[[str], str | None] = shutil.which, gib: float | None = None
) -> list[Finding]:
    """Look at everything, in the order in which it is mended."""
    found = [_docker(run)]
    tools = {name: where(name) for name in ("kind", "kubectl", "helm", "skaffold")}
    found += [Finding(name, path) if path else Finding(name, "not on PATH", put(name)) for name, path in tools.items()]
    found += _cluster(run, tools["kubectl"] or "kubectl")
    gib = memory() if gib is None else gib
    enough = f"{gib:.0f} GiB"
    short = f"give Docker at least {MEMORY} GiB (Docker Desktop: Settings, Resources), or run `make run`: no cluster"
    return [*found, Finding("memory", enough, "" if gib >= MEMORY else short)]


def _docker(run: Ask) -> Finding:
    code, said = run(["docker", "version", "--format", "{{.Server.Version}}"])
    fixes = {127: "install Docker: apt-get install docker.io, or brew install --cask docker"}
    fix = fixes.get(code, "start it: sudo systemctl start docker, or open Docker Desktop")
    return Finding("Docker", said, "" if code == 0 else fix)


def _cluster(run: Ask, kubectl: str) -> list[Finding]:
    code, context = run([kubectl, "config", "current-context"])
    if code != 0 or not context.startswith("kind-"):
        said = f"the current context is {context}" if code == 0 else context
        return [Finding("cluster", said, "kind create cluster --name tidings"), _unknown()]
    code, said = run([kubectl, "get", "--raw", "/readyz"])
    if code != 0:
        fix = f"kind delete cluster --name {context.removeprefix('kind-')} && kind create cluster --name tidings"
        return [Finding("cluster", said, fix), _unknown()]
    code, said = run([kubectl, "get", "crd", "subscriptions.dapr.io", "-o", "name"])
    return [Finding("cluster", context), Finding("Dapr", said, "" if code == 0 else DAPR)]


DAPR = "dapr init -k --wait (or Dapr's Helm chart into the namespace dapr-system)"


def _unknown() -> Finding:
    return Finding("Dapr", "needs the cluster first", DAPR)


def main() -> None:
    """Print what was found; the exit code says whether all is well."""
    findings = examine()
    for each in findings:
        sys.stdout.write(f"{'MISSING' if each.fix else 'ok':8}{each.what:10}{each.said}\n")
        if each.fix:
            sys.stdout.write(f"{'':18}-> {each.fix}\n")
    sys.exit(any(each.fix for each in findings))


if __name__ == "__main__":
    os.chdir(Path(__file__).resolve().parents[1])
    main()
