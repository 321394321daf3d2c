"""The distributions, built and installed into an empty environment that knows nothing of the repository."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DISTRIBUTIONS = ("tidings", "tidings-plan", "tidings-cli", "tidings-operator", "tidings-archive")
EVERY_MODULE = """
import importlib, pkgutil, tidings
for module in pkgutil.walk_packages(tidings.__path__, "tidings."):
    importlib.import_module(module.name)
    print(module.name)
"""

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]


def run(*command: str | Path, folder: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def clean() -> dict[str, str]:
    """Return the environment of a shell in which nothing of the repository is known."""
    unwanted = ("PYTHONPATH", "VIRTUAL_ENV", "UV_")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
    return clean | {"PATH": os.pathsep.join(path for path in os.get_exec_path() if not path.startswith(str(ROOT)))}


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory, clean: dict[str, str]) -> Path:
    """Return every distribution, built the way a release builds it: the wheel from the source distribution."""
    folder = tmp_path_factory.mktemp("wheels")
    uv = shutil.which("uv", path=str(Path(sys.prefix, "bin"))) or "uv"
    for name in DISTRIBUTIONS:
        run(uv, "build", "--quiet", "--package", name, "--out-dir", folder, folder=ROOT, environment=clean)
    return folder


def install(folder: Path, wheels: Path, clean: dict[str, str], *requirements: str) -> Path:
    """Make an environment and install into it; other packages come from where pip gets them."""
    uv = shutil.which("uv", path=str(Path(sys.prefix, "bin"))) or "uv"
    run(uv, "venv", "--quiet", "--python", sys.executable, folder, folder=folder.parent, environment=clean)
    python = folder / "bin" / "python"
    options: tuple[str | Path, ...] = ("--quiet", "--python", python, "--find-links", wheels)
    run(uv, "pip", "install", *options, *requirements, folder=folder.parent, environment=clean)
    return folder / "bin"


def test_the_command_line_works_without_the_repository(wheels: Path, tmp_path: Path, clean: dict[str, str]) -> None:
    requirements = ("tidings[fastapi,otlp,personal,sql,testing]", "tidings-cli", "pytest", "pytest-asyncio")
    programs = install(tmp_path / "env", wheels, clean, *requirements)
    shop = tmp_path / "shop"
    shop.mkdir()
    assert run(programs / "tidings", "--version", folder=shop, environment=clean).startswith("tidings ")
    run(programs / "tidings", "new", "service", "surveys", folder=shop, environment=clean)
    assert (shop / "components/nats/pubsub.yaml").is_file()
    assert (shop / "components/state-sqlite/state.yaml").is_file()
    assert "no problems" in run(programs / "tidings", "lint", folder=shop, environment=clean)
    assert "1 passed" in run(programs / "python", "-m", "pytest", "services/surveys", folder=shop, environment=clean)
    modules = run(programs / "python", "-c", EVERY_MODULE, folder=shop, environment=clean).split()
    source = ROOT / "kit/src/tidings"
    assert len(modules) == len([path for path in source.rglob("*.py") if path != source / "__init__.py"])


def test_the_sdk_alone_is_enough_for_a_service(wheels: Path, tmp_path: Path, clean: dict[str, str]) -> None:
    programs = install(tmp_path / "env", wheels, clean, "tidings[fastapi]")
    script = (
        "from tidings import Service; from tidings.fastapi import create_app; print(create_app(Service('a')).title)"
    )
    assert run(programs / "python", "-c", script, folder=tmp_path, environment=clean) == "a\n"
