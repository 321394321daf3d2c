from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "images"
_PIN = re.compile(r"^([a-z0-9._-]+)==(\S+)(?: ;.*)? \\$((?:\n    --hash=sha256:[0-9a-f]{64}(?: \\)?$)+)", re.MULTILINE)


def _pins(path: Path) -> dict[str, tuple[str, frozenset[str]]]:
    return {
        name: (version, frozenset(re.findall(r"sha256:([0-9a-f]{64})", hashes)))
        for name, version, hashes in _PIN.findall(path.read_text())
    }


@pytest.mark.parametrize("lock", ["services", "operator"])
def test_an_image_holds_a_part_of_the_one_lock(lock: str) -> None:
    every, these = _pins(ROOT / "requirements.lock"), _pins(IMAGES / f"{lock}.lock")
    assert len(these) == (IMAGES / f"{lock}.lock").read_text().count("==") - _markers(lock)
    assert {name: pin for name, pin in these.items() if every.get(name) != pin} == {}, "run `make lock`"


def _markers(lock: str) -> int:
    """Comparisons in environment markers are no pins."""
    return len(re.findall(r" ; .*?==", (IMAGES / f"{lock}.lock").read_text()))


@pytest.mark.parametrize("lock", ["services", "operator"])
def test_no_tool_of_developers_is_in_an_image(lock: str) -> None:
    assert not _pins(IMAGES / f"{lock}.lock").keys() & {"pytest", "mypy", "ruff", "playwright", "hypothesis", "pip"}


@pytest.mark.parametrize("name", ["service", "operator", "simulators"])
def test_a_dockerfile_keeps_the_rules(name: str) -> None:
    text = (IMAGES / f"{name}.Dockerfile").read_text()
    last = text.rpartition("\nFROM ")[2]
    assert text.count("\nFROM ${BASE}") == 2
    assert "ARG BASE=python:3.11-slim-bookworm" in text
    assert "--require-hashes" in text
    assert "--only-binary :all:" in text
    assert "USER 10001:10001" in last
    assert "HEALTHCHECK" in last
    assert "org.opencontainers.image.title" in last
    assert "--mount" not in text, "the classic builder has no such thing"
    assert "ADD " not in text


def test_the_sidecar_stands_on_the_base_of_the_services() -> None:
    sidecar, service = ((IMAGES / f"{name}.Dockerfile").read_text() for name in ("sidecar", "service"))
    base = re.compile(r"^ARG BASE=(\S+)$", re.MULTILINE)
    assert base.findall(sidecar) == base.findall(service)
    assert "USER 65532:65532" in sidecar, "as Dapr's own, which the injector's security context fits"
    assert 'ENTRYPOINT ["/daprd"]' in sidecar


def test_services_and_simulators_share_the_layer_of_their_packages() -> None:
    first = [
        re.sub(r"^#.*\n", "", (IMAGES / f"{name}.Dockerfile").read_text(), flags=re.MULTILINE).partition("\n\nFROM")[2]
        for name in ("service", "simulators")
    ]
    assert first[0].partition("\n\n")[0] == first[1].partition("\n\n")[0]


def test_skaffold_builds_what_the_charts_run() -> None:
    config = next(yaml.safe_load_all((ROOT / "skaffold.yaml").read_text()))
    built = {each["image"].rpartition("/")[2]: each for each in config["build"]["artifacts"]}
    services = {path.name for path in (ROOT / "services").iterdir() if (path / "pyproject.toml").exists()}
    assert built.keys() == services | {"operator", "simulators"}
    for name, artifact in built.items():
        assert (ROOT / artifact["docker"]["dockerfile"]).exists()
        for rule in artifact.get("sync", {}).get("manual", ()):
            assert list(ROOT.glob(rule["src"])), f"{name}: {rule['src']}"
    releases = {each["name"]: each for each in config["deploy"]["helm"]["releases"]}
    assert [*releases] == ["tidings", "pizza"]
    assert {profile["name"] for profile in config["profiles"]} == {"redis", "rabbitmq", "kafka", "ha", "debug"}
