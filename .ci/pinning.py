"""Regenerate sums/ after a change of versions in pins.py (`make pins`); review the difference before committing it.

The checksums of Go modules come from Go's checksum database; those of releases are the published ones.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from importlib.resources import files
from itertools import product
from pathlib import Path
from typing import Any

import httpx2
import typer

from tidings_cli.programs.pins import PROGRAMS, GoModule, Program
from tidings_cli.programs.release import TIMEOUT, published_digest

FOLDER = Path(str(files("tidings_cli.programs"))) / "sums"
HEAD = "# The SHA-256 of each release that `tidings tools` may download, and its address: `make pins` writes them.\n"
JARS = "# The SHA-256 of each jar that Kafka consists of, and its path on Maven Central: `make pins` writes them.\n"
TARGETS = [
    {"os": system, "arch": architecture} for system in ("linux", "darwin") for architecture in ("amd64", "arm64")
]
_STAGED = re.compile(r"^\s*(?:replace )?(\S+) => \./staging/", re.MULTILINE)


def wrapper(go_mod: str, module: GoModule, version: str) -> str:
    """Return the go.mod of a module that has `module` as its dependency.

    `go_mod` is the module's own: what it takes from its folder staging/ is taken at v0.<the rest of the version>
    instead, as Kubernetes publishes it.
    """
    staged = "v0." + version.split(".", 1)[1]
    go = re.search(r"^go \S+", go_mod, re.MULTILINE)
    replaced = sorted(set(_STAGED.findall(go_mod)))
    lines = [
        "module wrapper",
        go.group() if go else "go 1.24",
        f"require {module.path} v{version}",
        *(f"replace {path} => {path} {staged}" for path in replaced),
    ]
    return "\n\n".join(lines) + "\n"


def _go(*words: str, folder: Path, **more: str) -> str:
    environment = os.environ | {"GOWORK": "off", "CGO_ENABLED": "0", "GOFLAGS": "-mod=mod"} | more
    done = subprocess.run(["go", *words], cwd=folder, env=environment, text=True, check=True, stdout=subprocess.PIPE)
    return done.stdout


def downloaded(path: str, version: str, folder: Path) -> Mapping[str, Any]:
    """Return what Go says of a module that it has fetched."""
    module: Mapping[str, Any] = json.loads(_go("mod", "download", "-json", f"{path}@{version}", folder=folder))
    return module


def module_sums(programs: Iterable[Program], folder: Path) -> set[str]:
    """Return the lines of go.sum for everything that programs are built from; write the go.mod of wrapped ones."""
    lines: set[str] = set()
    for program in programs:
        module = program.module
        if module is None:
            continue
        versions = {module.path: f"v{program.version}", **module.replacements}
        for path, version in versions.items():
            result = downloaded(path, version, folder)
            lines |= {f"{path} {version} {result['Sum']}", f"{path} {version}/go.mod {result['GoModSum']}"}
        if module.wrapped:
            source = downloaded(module.path, f"v{program.version}", folder)["Dir"]
            tree = folder / module.wrapped.removesuffix(".mod")
            if not tree.exists():
                tree.mkdir()
                (tree / "go.mod").write_text(wrapper((Path(source) / "go.mod").read_text(), module, program.version))
            for target in TARGETS:
                _go("list", "-deps", module.package, folder=tree, GOOS=target["os"], GOARCH=target["arch"])
            (FOLDER / module.wrapped).write_text((tree / "go.mod").read_text())
            lines |= set((tree / "go.sum").read_text().splitlines())
    return lines


def release_sums(programs: Iterable[Program]) -> Iterator[str]:
    """Yield a line for each release whose published checksum can be had."""
    with httpx2.Client(timeout=TIMEOUT, follow_redirects=True) as client:
        releases = [(program, program.release) for program in programs if program.release]
        for (program, release), target in product(releases, TARGETS):
            url = release.url.format(version=program.version, **target)
            text = client.get(release.checksums.format(version=program.version, **target)).raise_for_status().text
            if digest := published_digest(text, url.rpartition("/")[2]):  # not everything is published for each system
                yield f"{digest}  {url}"


_POM = """<project>
<modelVersion>4.0.0</modelVersion><groupId>pins</groupId><artifactId>pins</artifactId><version>1</version>
<packaging>pom</packaging>
<dependencies>
<dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{kafka}</version></dependency>
<dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>{slf4j}</version></dependency>
</dependencies>
</project>
"""
SLF4J = "1.7.36"
"""The version that Kafka depends on; without one of its back ends Kafka logs nothing."""


def jar_sums(folder: Path) -> list[str]:
    """Return a line for each jar that Kafka consists of, as Maven resolves them."""
    (folder / "pom.xml").write_text(_POM.format(kafka=PROGRAMS["kafka"].version, slf4j=SLF4J))
    goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", "-Dmdep.useRepositoryLayout=true"]
    subprocess.run(["mvn", "-q", "-B", *goal, "-DoutputDirectory=jars"], cwd=folder, check=True)
    jars = sorted((folder / "jars").rglob("*.jar"))
    return [f"{hashlib.sha256(jar.read_bytes()).hexdigest()}  {jar.relative_to(folder / 'jars')}" for jar in jars]


def main() -> None:
    """Regenerate all files; keep the pinned checksums of releases that cannot be reached."""
    with tempfile.TemporaryDirectory() as folder:
        lines = module_sums(PROGRAMS.values(), Path(folder))
    (FOLDER / "go.sum").write_text("\n".join(sorted(lines)) + "\n")
    typer.echo(f"{len(lines)} checksums of Go modules")
    if shutil.which("mvn"):
        with tempfile.TemporaryDirectory() as folder:
            jars = jar_sums(Path(folder))
        (FOLDER / "kafka.sum").write_text("\n".join([JARS.strip(), *jars]) + "\n")
        typer.echo(f"{len(jars)} checksums of jars")
    else:
        typer.echo("NOT PINNED: Kafka's jars, because Maven (mvn) is not installed")
    try:
        releases = sorted(release_sums(PROGRAMS.values()))
    except httpx2.HTTPError as error:
        typer.echo(f"NOT PINNED: the checksums of releases cannot be reached from here ({error})")
        return
    (FOLDER / "releases.sum").write_text("\n".join([HEAD.strip(), *releases]) + "\n")
    typer.echo(f"{len(releases)} checksums of releases")


if __name__ == "__main__":
    main()
