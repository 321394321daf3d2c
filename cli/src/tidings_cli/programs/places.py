"""Finds installed programs: in PATH, this environment, known folders and the cache. Installs nothing."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from tidings_cli.programs.pins import PROGRAMS, Program

if TYPE_CHECKING:
    from collections.abc import Iterator

VERSION_SECONDS = 30  # timeout for printing the version, after which the program is skipped
_ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
_VERSION = re.compile(r"(?<![\w.])v?=?(\d+(?:\.\d+)+)(-\w)?")


def target() -> tuple[str, str]:
    """Return the operating system and architecture of this machine, as in names of releases and in Go."""
    machine = platform.machine().lower()
    return platform.system().lower(), _ARCHITECTURES.get(machine, machine)


def cache_folder() -> Path:
    """$TIDINGS_CACHE, else $XDG_CACHE_HOME/tidings, else ~/.cache/tidings."""
    if own := os.environ.get("TIDINGS_CACHE"):
        return Path(own)
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache") / "tidings"


def packaged(file: str) -> bytes:
    """Return the content of a file of this package."""
    return files("tidings_cli.programs").joinpath(file).read_bytes()


def cached(program: Program) -> Path:
    """The file that the cache holds, or would hold, `program` in.

    Its name carries the version, and a digest of our own sources where some are compiled in: whoever edits them gets
    a new build.
    """
    own = [packaged(file) for file in program.module.overlay.values()] if program.module else []
    if program.module:
        own += [f"{path}{version}".encode() for path, version in program.module.replacements.items()]
    suffix = f"-{hashlib.sha256(b''.join(own)).hexdigest()[:8]}" if own else ""
    return cache_folder() / "bin" / f"{program.name}-{program.version}{suffix}"


def parse_version(text: str) -> tuple[int, ...] | None:
    """Return the first version in a program's output; None if there is none or it is a pre-release."""
    match = _VERSION.search(text)
    return tuple(int(part) for part in match[1].split(".")) if match and not match[2] else None


def fits(program: Program, path: Path) -> bool:
    """Return True if the program at `path` has a suitable version."""
    if not program.version_command:
        return True
    try:
        answer = subprocess.run(
            [path, *program.version_command],
            capture_output=True,
            text=True,
            timeout=VERSION_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    actual, expected = parse_version(answer.stdout + answer.stderr), parse_version(program.version)
    if answer.returncode != 0 or actual is None or expected is None:
        return False
    return actual == expected if program.pinned else actual >= expected


def _candidates(program: Program) -> Iterator[Path]:
    if on_path := shutil.which(program.name):
        yield Path(on_path)
    if program.wheel:
        yield Path(sys.prefix) / "bin" / program.name
    for pattern in program.folders:
        absolute = str(Path(pattern).expanduser()).lstrip("/")
        for folder in sorted(Path("/").glob(absolute), reverse=True):
            yield folder / program.name


def _jar_folders(program: Program) -> Iterator[Path]:
    """Yield folders that may hold Kafka's jars: an installed one's, then the cache. Homebrew keeps them in libexec."""
    if home := os.environ.get("KAFKA_HOME"):
        yield Path(home) / "libs"
    for script in ("kafka-server-start.sh", "kafka-server-start"):
        if path := shutil.which(script):
            root = Path(path).resolve().parent.parent
            yield from (root / "libs", root / "libexec/libs")
    yield cached(program)


def _has_jar(program: Program, folder: Path) -> bool:
    oldest = parse_version(program.version) or ()
    return any(
        (parse_version(match[1]) or ()) >= oldest
        for path in folder.glob("*.jar")
        if (match := re.fullmatch(program.jar, path.name))
    )


def locate(name: str) -> Path | None:
    """The program `name` in a version that will do, or None. Looks only; downloads and builds nothing.

    Of a program that consists of jars, it is their folder. Raises KeyError for a name that is not in the table.
    """
    program = PROGRAMS[name]
    if program.jar:
        return next((folder for folder in _jar_folders(program) if _has_jar(program, folder)), None)
    for path in _candidates(program):
        if os.access(path, os.X_OK) and fits(program, path):
            return path
    path = cached(program)
    return path if path.is_file() else None
