"""Builds programs from the Go module proxy if no release is available."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tidings_cli.programs.errors import ProgramError
from tidings_cli.programs.places import packaged

if TYPE_CHECKING:
    from collections.abc import Callable

    from tidings_cli.programs.pins import GoModule, Program

TICK = 5  # seconds between two progress lines
TAIL = 20  # lines of the compiler's output that an error shows
SUMS = "sums/go.sum"
"""Checksums of the modules that are built, and of those missing in the modules' own go.sum files."""
UNCHECKED = ("GONOSUMDB", "GONOSUMCHECK", "GOINSECURE", "GOPRIVATE", "GONOPROXY")
_GO_MISSING = (
    "install Go {go} or newer from https://go.dev/dl (macOS: `brew install go`; the `golang` of Debian 12 and of "
    "Ubuntu 22.04 is too old), or put {name} {version} on PATH"
)
OLDEST_GO = (1, 21)
"""The first Go version that downloads the newer Go required by a module."""


def environment() -> dict[str, str]:
    """Return Go's environment, without variables that disable checksum verification or change a go.sum."""
    kept = {name: value for name, value in os.environ.items() if name not in UNCHECKED}
    return kept | {"CGO_ENABLED": "0", "GOWORK": "off", "GO111MODULE": "on", "GOFLAGS": "-mod=readonly"}


def _run(command: list[str], folder: Path, what: str, report: Callable[[str], None]) -> str:
    """Run Go in `folder`, reporting as it goes; its standard output. Raises ProgramError with its last lines."""
    started = time.monotonic()
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(
            command, cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=log, text=True
        ) as process,
    ):
        while True:
            try:
                output, _ = process.communicate(timeout=TICK)
                break
            except subprocess.TimeoutExpired:
                report(f"{what}: {time.monotonic() - started:.0f} s")
            except BaseException:  # including Ctrl-C: do not leave the process running
                process.kill()
                raise
        log.seek(0)
        messages = log.read()
    if process.returncode == 0:
        return output
    lines = [line for line in messages.splitlines() if not line.startswith("go: downloading")]
    tail = "\n".join(f"    {line}" for line in [*lines, *output.splitlines()][-TAIL:])
    raise ProgramError(
        f"{what} failed: `{' '.join(command[:2])}` ended with {process.returncode}:\n{tail}",
        remedy="if the module proxy is unreachable, set GOPROXY to a reachable one; "
        "if Go is too old for the module, install a newer version",
    )


def _source(module: GoModule, version: str, folder: Path, what: str, report: Callable[[str], None]) -> Path:
    """The module's own folder in Go's module cache, fetched where it is not there yet. Read only.

    Go holds what it fetches against the go.sum of the module that it is called in, so there is one.
    """
    caller = folder / "caller"
    caller.mkdir()
    (caller / "go.mod").write_text("module caller\n")
    (caller / "go.sum").write_bytes(packaged(SUMS))
    if f"{module.path} v{version} h1:".encode() not in packaged(SUMS):
        raise ProgramError(
            f"no checksum of {module.path} v{version} is pinned in {SUMS}",
            remedy="run `make pins`, and review the changes",
        )
    answer = _run(["go", "mod", "download", "-json", f"{module.path}@v{version}"], caller, what, report)
    return Path(json.loads(answer)["Dir"])


def _overlaid(source: Path, module: GoModule, folder: Path) -> Path:
    """A copy of the module in which our own files stand in for some folders' content, with its replacements.

    Go refuses to build a changed module in its cache, and `-overlay` may not touch it either.
    """
    tree = folder / "source"
    shutil.copytree(
        source,
        tree,
        ignore=shutil.ignore_patterns("*_test.go", "testdata"),
        copy_function=shutil.copyfile,  # the cache's files are read-only, the copy is not
    )
    for target, file in module.overlay.items():
        shutil.rmtree(tree / target)
        (tree / target).mkdir()
        (tree / target / Path(file).name).write_bytes(packaged(file))
    with (tree / "go.mod").open("a") as go_mod:
        go_mod.writelines(f"replace {path} => {path} {version}\n" for path, version in module.replacements.items())
    with (tree / "go.sum").open("ab") as go_sum:
        go_sum.write(packaged(SUMS))  # of the replacements, which its own does not have
    return tree


def _require_go(program: Program) -> None:
    """Raise ProgramError where Go is missing or too old."""
    problem = "Go is not installed"
    if shutil.which("go") is not None:
        answer = subprocess.run(["go", "env", "GOVERSION"], capture_output=True, text=True, check=False)
        match = re.search(r"go(\d+)\.(\d+)", answer.stdout)
        if match is None or (int(match[1]), int(match[2])) >= OLDEST_GO:  # a development version names none
            return
        problem = f"Go {match[1]}.{match[2]} is too old"
    oldest = ".".join(map(str, OLDEST_GO))
    raise ProgramError(
        f"{program.name} {program.version} must be built, and {problem}",
        remedy=_GO_MISSING.format(go=oldest, name=program.name, version=program.version),
    )


def build(program: Program, module: GoModule, folder: Path, report: Callable[[str], None]) -> Path:
    """The program, built in `folder`. Raises ProgramError where Go is missing or the build fails."""
    version = program.version
    _require_go(program)
    what = f"building {program.name} {version} from the Go module proxy"
    report(what)
    source = _source(module, version, folder, what, report)
    if module.overlay or module.replacements:
        source = _overlaid(source, module, folder)
    elif module.wrapped:
        # A module that has this one as its dependency: its go.mod and go.sum are kept in this package.
        source = folder / "source"
        source.mkdir()
        (source / "go.mod").write_bytes(packaged(f"sums/{module.wrapped}"))
        (source / "go.sum").write_bytes(packaged(SUMS))
    variables = [f"-X {name}={value.format(version=version)}" for name, value in module.variables.items()]
    built = folder / program.name
    flags = ["-trimpath", "-buildvcs=false", f"-ldflags=-s -w {' '.join(variables)}", f"-o={built}"]
    _run(["go", "build", *flags, module.package], source, what, report)
    return built
