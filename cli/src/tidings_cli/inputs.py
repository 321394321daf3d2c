"""Input files of the commands, and earlier states of them."""

import io
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Annotated

import typer

from tidings_plan import Plan, plan
from tidings_plan.resources import Inventory, contracts_folders, load
from tidings_plan.resources.loading import CONTRACTS

DEFAULT = " and ".join(CONTRACTS)

Paths = Annotated[
    list[Path] | None,
    typer.Argument(help=f"Files or folders with YAML. By default {DEFAULT}.", show_default=False),
]
Against = Annotated[
    list[str] | None,
    typer.Option(
        "--against",
        help="Earlier state to compare schemas with: a folder with the same files, or a git revision. "
        "May be repeated, oldest first.",
    ),
]


def chosen(paths: list[Path] | None) -> list[Path]:
    """Return the paths to read; raise a usage error (exit code 2) if one does not exist or there is none."""
    for path in paths or ():
        if not path.exists():
            raise typer.BadParameter(f"{path} does not exist", param_hint="PATHS")
    existing = paths or contracts_folders(Path())
    if not existing:
        raise typer.BadParameter(f"nothing at {DEFAULT} below {Path.cwd()}: name files or folders", param_hint="PATHS")
    return existing


def planned(paths: list[Path] | None, app: str = "") -> tuple[Inventory, Plan]:
    """Load and plan the chosen paths; raise a usage error if the plan has no such app."""
    inventory = load(chosen(paths))
    result = plan(inventory)
    if app and app not in result.apps:
        raise typer.BadParameter(f"no app {app}; known apps: {', '.join(result.apps)}", param_hint="--app")
    return inventory, result


def history(against: list[str] | None, paths: list[Path]) -> list[Inventory]:
    """Load the earlier states named by `--against`; raise a usage error if one cannot be compared."""
    return [_state(state, paths) for state in against or ()]


def _state(state: str, paths: list[Path]) -> Inventory:
    if not state.strip() or state.startswith("-"):
        raise _unusable(f"{state!r} is neither a folder nor a git revision", "Name one, or leave --against out.")
    is_path = Path(state).exists()
    if is_path and not state.startswith((".", "/")) and _is_revision(state):
        raise _unusable(f"{state} is a folder and a git revision", f"Write ./{state} or refs/heads/{state}.")
    if is_path:
        inventory = load([state])
    else:
        with _checked_out(state, paths) as folder:
            inventory = load([folder])
    if errors := [finding for finding in inventory.findings if finding.severity == "error"]:
        problem = f"{state} has errors: {errors[0].location}: {errors[0].message}"
        raise _unusable(problem, "It cannot be compared: name another state.")
    if not inventory.types:
        problem = f"{state} has no EventType at {', '.join(map(str, paths))}: nothing would be compared"
        fix = "If the files were moved, name a folder with the earlier ones; if all are new, leave --against out."
        raise _unusable(problem, fix)
    return inventory


def _is_revision(state: str) -> bool:
    command = ["git", "rev-parse", "--verify", "--quiet", "--end-of-options", f"{state}^{{commit}}"]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def _unusable(problem: str, fix: str) -> typer.BadParameter:
    return typer.BadParameter(f"{problem}. {fix}", param_hint="--against")


@contextmanager
def _checked_out(revision: str, paths: list[Path]) -> Iterator[Path]:
    """Extract the paths at a git revision into a temporary folder; raise a usage error if one did not exist."""
    names = _names_at(revision, paths)
    with tempfile.TemporaryDirectory(prefix="tidings-") as folder:
        archive = _git("archive", "--format=tar", revision, "--", *names, revision=revision)
        try:
            with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
                # Python before 3.11.4, such as that of Debian 12, has no filters.
                tar.extraction_filter = getattr(tarfile, "data_filter", lambda member, _path: member)
                tar.extractall(folder)  # noqa: S202 - filtered, and git itself stores no paths outside of a folder
        except tarfile.TarError as error:
            raise _unusable(f"{revision} cannot be read: {error}", "Name a folder with the earlier files.") from error
        if missing := [name for name in names if not (Path(folder) / name).exists()]:
            problem = f"git does not export {missing[0]} of {revision}"
            raise _unusable(problem, "See export-ignore in .gitattributes, or name a folder with the earlier files.")
        yield Path(folder)


def _names_at(revision: str, paths: list[Path]) -> list[str]:
    """Return the files at or below the paths at a revision."""
    # The default pattern is expanded at that revision, since services may have been added or removed since.
    is_default = paths == contracts_folders(Path())
    tracked_names: list[str] = []
    for path in [Path()] if is_default else paths:
        tracked = _git("ls-tree", "-r", "--name-only", "-z", revision, "--", str(path), revision=revision)
        names = [name for name in tracked.decode().split("\0") if name]
        if is_default:
            depths = {pattern: pattern.count("/") + 1 for pattern in CONTRACTS}
            names = [
                name
                for name in names
                if any(PurePath(*PurePath(name).parts[:depth]).match(pattern) for pattern, depth in depths.items())
            ]
        if not names:
            problem = f"{path} has no files in {revision}: nothing would be compared"
            raise _unusable(problem, "If it was moved, name a folder with the earlier files; if new, lint it alone.")
        tracked_names += names
    return tracked_names


def _git(*arguments: str, revision: str) -> bytes:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, check=True)
    except FileNotFoundError as error:
        raise typer.BadParameter("git is not installed, and no such folder exists", param_hint="--against") from error
    except subprocess.CalledProcessError as error:
        reason = error.stderr.decode(errors="replace").strip()
        fix = "In a shallow clone, fetch it first: git fetch --unshallow."
        raise _unusable(f"neither a folder nor a git revision: {revision}: {reason}", fix) from error
    return done.stdout
