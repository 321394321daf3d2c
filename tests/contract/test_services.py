"""All services have one structure, and a new one is listed in few places outside its folder."""

import importlib.util
import re
import shutil
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FOLDERS = {path.parent.name: path.parent for path in ROOT.glob("services/*/contracts")}
REQUIRED = {"domain", "handlers", "use_cases", "api", "main"}
OPTIONAL = {"consumed", "commands", "settings", "adapters"}
"""Other services' events, commands sent, environment variables, and I/O besides the broker and the state store."""


def load_program(path: Path) -> ModuleType:
    loader = SourceFileLoader(path.name, str(path))
    spec = importlib.util.spec_from_loader(path.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def modules(package: Path) -> set[str]:
    result = {path.stem for path in package.glob("*.py")} | {path.parent.name for path in package.glob("*/__init__.py")}
    return result - {"__init__"}


def test_every_folder_is_a_service_with_contracts_or_the_storefront() -> None:
    assert {path.parent.name for path in ROOT.glob("services/*/pyproject.toml")} == {*FOLDERS, "storefront"}
    assert len(FOLDERS) == 9


@pytest.mark.parametrize("service", sorted(FOLDERS))
def test_a_service_consists_of_modules_with_fixed_names(service: str) -> None:
    result = modules(FOLDERS[service] / "src" / service)
    required = REQUIRED | ({"events"} if (FOLDERS[service] / "contracts/events.yaml").exists() else set())
    assert required <= result
    assert result <= required | OPTIONAL


def test_the_storefront_owns_no_state_and_has_no_domain() -> None:
    assert modules(ROOT / "services/storefront/src/storefront") == {"api", "main", "settings", "adapters"}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Return the repository with a new service: its folder, and the two places outside of it that somebody edits."""
    for name in ("services", "archive", "charts", "components", "operator"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "skaffold.yaml", "tidings.yaml"):
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / ".ci", tmp_path / ".ci")
    folder = tmp_path / "services/surveys"
    shutil.copytree(ROOT / "services/loyalty/src/loyalty", folder / "src/surveys")
    (folder / "contracts").mkdir()
    subscriptions = (ROOT / "services/loyalty/contracts/subscriptions.yaml").read_text()
    (folder / "contracts/subscriptions.yaml").write_text(subscriptions.replace("loyalty", "surveys"))
    (folder / "pyproject.toml").write_text((ROOT / "services/loyalty/pyproject.toml").read_text())
    # Place 1: the local run. Place 2: the cluster.
    tidings = tmp_path / "tidings.yaml"
    tidings.write_text(
        tidings.read_text().replace("  - name: storefront", "  - name: surveys\n    port: 8011\n  - name: storefront")
    )
    values = tmp_path / "charts/pizza/values.yaml"
    values.write_text(values.read_text().replace("  storefront:\n", "  surveys: {}\n  storefront:\n", 1))
    return tmp_path


def test_a_new_service_is_named_in_two_places_outside_its_folder(copy: Path) -> None:
    named = re.compile(r"\bsurveys\b")
    edited = [
        path.relative_to(copy)
        for path in copy.rglob("*")
        if path.is_file() and "services/surveys" not in str(path) and path.suffix in {".yaml", ".toml", ".json", ".py"}
        and named.search(path.read_text())
    ]  # fmt: skip
    assert sorted(map(str, edited)) == ["charts/pizza/values.yaml", "tidings.yaml"]

    sync = load_program(copy / "charts/sync.py")
    written = sync.expected()
    skaffold = yaml.safe_load(written[copy / "skaffold.yaml"])
    assert "plant-based-pizza/surveys" in {artifact["image"] for artifact in skaffold["build"]["artifacts"]}
    forwarded = {patch["value"]["resourceName"]: patch["value"]["localPort"]
                 for profile in skaffold["profiles"] if profile["name"] == "debug"
                 for patch in profile["patches"] if patch["path"] == "/portForward/-"}  # fmt: skip
    assert forwarded["surveys"] == 5711
    assert copy / "charts/pizza/files/contracts/surveys.yaml" in written
    assert '"surveys"' in written[copy / "charts/pizza/files/plan.json"]

    imports = load_program(copy / ".ci/imports")
    assert '"surveys.domain"' in imports.expanded((copy / "pyproject.toml").read_text())


def test_no_list_in_the_project_file_names_a_service() -> None:
    settings = (ROOT / "pyproject.toml").read_text()
    assert [name for name in FOLDERS if re.search(rf'["/]{name}["/.]', settings)] == []
