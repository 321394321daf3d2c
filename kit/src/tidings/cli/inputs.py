"""What the commands on files have in common: which files, and where earlier states of them are found."""

import io
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from tidings.resources import Inventory, load

DEFAULT = "services/*/contracts"

Paths = Annotated[
    list[Path] | None,
    typer.Argument(help=f"Files or folders with YAML. By default {DEFAULT}.", show_default=False),
]
Against = Annotated[
    list[str] | None,
    typer.Option(
        "--against",
        help="An earlier state that changed schemas are held against: a folder with the same files, or a git "
        "revision. May be repeated, the oldest first.",
    ),
]


def chosen(paths: list[Path] | None) -> list[Path]:
    """Return the paths to read; raise a usage error (exit code 2) where one does not exist or none is found."""
    for path in paths or ():
        if not path.exists():
            raise typer.BadParameter(f"{path} does not exist", param_hint="PATHS")
    found = paths or sorted(Path().glob(DEFAULT))
    if not found:
        raise typer.BadParameter(f"nothing at {DEFAULT} below {Path.cwd()}: name files or folders", param_hint="PATHS")
    return found


def history(against: list[str] | None, paths: list[Path]) -> list[Inventory]:
    """Load the earlier states that `--against` names."""
    states = []
    for state in against or ():
        if Path(state).exists():
            states.append(load([state]))
        else:
            with _checked_out(state, paths) as folder:
                states.append(load([folder]))
    return states


@contextmanager
def _checked_out(revision: str, paths: list[Path]) -> Iterator[Path]:
    """Lay the paths as they were at a git revision into a temporary folder; paths that were not there are left out."""
    tracked = _git("ls-tree", "-r", "--name-only", "-z", revision, "--", *map(str, paths), revision=revision)
    names = [name for name in tracked.decode().split("\0") if name]
    with tempfile.TemporaryDirectory(prefix="tidings-") as folder:
        if names:
            archive = _git("archive", "--format=tar", revision, "--", *names, revision=revision)
            with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
                tar.extractall(folder, filter="data")
        yield Path(folder)


def _git(*arguments: str, revision: str) -> bytes:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, check=True)
    except FileNotFoundError as error:
        raise typer.BadParameter("git is not installed, and no such folder exists", param_hint="--against") from error
    except subprocess.CalledProcessError as error:
        reason = error.stderr.decode(errors="replace").strip()
        raise typer.BadParameter(
            f"neither a folder nor a git revision: {revision}: {reason}", param_hint="--against"
        ) from error
    return done.stdout
