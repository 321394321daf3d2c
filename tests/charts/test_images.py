from __future__ import annotations

import os
import re
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from charts.rendered import render
from tests.support.charts import VALUE_SETS, of_kind, pods, rendered

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "images"
_PIN = re.compile(r"^([a-z0-9._-]+)==(\S+)(?: ;.*)? \\$((?:\n    --hash=sha256:[0-9a-f]{64}(?: \\)?$)+)", re.MULTILINE)


def _pins(path: Path) -> dict[tuple[str, str], frozenset[str]]:
    """Return hashes by name and version: a package may be pinned twice, for different versions of Python."""
    return {
        (name, version): frozenset(re.findall(r"sha256:([0-9a-f]{64})", hashes))
        for name, version, hashes in _PIN.findall(path.read_text())
    }


@pytest.mark.parametrize("lock", ["services", "operator", "nats"])
def test_an_image_holds_a_part_of_the_one_lock(lock: str) -> None:
    every, these = _pins(ROOT / "requirements.lock"), _pins(IMAGES / f"{lock}.lock")
    assert len(these) == len(re.findall(r"^[a-z0-9._-]+==", (IMAGES / f"{lock}.lock").read_text(), re.MULTILINE))
    assert {pin: hashes for pin, hashes in these.items() if every.get(pin) != hashes} == {}, "run `make lock`"


@pytest.mark.parametrize("lock", ["services", "operator"])
def test_no_tool_of_developers_is_in_an_image(lock: str) -> None:
    names = {name for name, _ in _pins(IMAGES / f"{lock}.lock")}
    assert not names & {"pytest", "mypy", "ruff", "playwright", "hypothesis", "pip"}


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


def test_services_and_simulators_share_the_layer_of_their_packages() -> None:
    first = [
        re.sub(r"^#.*\n", "", (IMAGES / f"{name}.Dockerfile").read_text(), flags=re.MULTILINE).partition("\n\nFROM")[2]
        for name in ("service", "simulators")
    ]
    assert first[0].partition("\n\n")[0] == first[1].partition("\n\n")[0]


SERVICES = {path.parent.name for path in ROOT.glob("services/*/pyproject.toml")} | {"archive"}


def test_skaffold_builds_what_the_charts_run() -> None:
    config = next(yaml.safe_load_all((ROOT / "skaffold.yaml").read_text()))
    built = {item["image"].rpartition("/")[2]: item for item in config["build"]["artifacts"]}
    services = SERVICES
    assert built.keys() == services | {"operator", "simulators", "nats", "redis"}
    for name, artifact in built.items():
        assert (ROOT / artifact["docker"]["dockerfile"]).exists()
        for rule in artifact.get("sync", {}).get("manual", ()):
            assert list(ROOT.glob(rule["src"])), f"{name}: {rule['src']}"
    releases = {release["name"]: release for release in config["deploy"]["helm"]["releases"]}
    assert [*releases] == ["tidings", "pizza"]
    assert _servers_built(config) == {"nats", "redis"}
    assert _servers_built(_with_profile("ha")) == {"nats", "redis", "postgres"}
    assert {profile["name"] for profile in config["profiles"]} == {"redis", "rabbitmq", "kafka", "ha", "debug"}


def _servers_built(config: dict[str, Any]) -> set[str]:
    """Return servers whose image skaffold builds and hands to the chart."""
    built = {item["image"].rpartition("/")[2] for item in config["build"]["artifacts"]}
    values = config["deploy"]["helm"]["releases"][1]["setValueTemplates"]
    return {
        name
        for name in ("nats", "redis", "postgres")
        if name in built and values.get(f"{name}.image") == f"{{{{.IMAGE_FULLY_QUALIFIED_plant_based_pizza_{name}}}}}"
    }


def _with_profile(name: str) -> dict[str, Any]:
    """Return skaffold.yaml with the JSON patches of a profile applied."""
    config = next(yaml.safe_load_all((ROOT / "skaffold.yaml").read_text()))
    (profile,) = [item for item in config["profiles"] if item["name"] == name]
    result: dict[str, Any] = deepcopy(config)
    for patch in profile["patches"]:
        *way, last = patch["path"].strip("/").split("/")
        place: Any = result
        for step in way:
            place = place[int(step)] if isinstance(place, list) else place[step]
        if last == "-":
            place.append(patch["value"])
        else:
            assert patch["op"] == "add" or last in place, f"nothing to replace at {patch['path']}"
            place[last] = patch["value"]
    return result


def test_the_profile_debug_has_a_debugger_in_every_service_and_its_port_forwarded() -> None:
    config = _with_profile("debug")
    services = SERVICES
    artifacts = {artifact["image"].rpartition("/")[2]: artifact["docker"] for artifact in config["build"]["artifacts"]}
    assert {name for name, item in artifacts.items() if item.get("buildArgs", {}).get("DEBUGGER") == "1"} == services
    forwarded = [item for item in config["portForward"] if item["port"] == 5678]
    assert {item["resourceName"] for item in forwarded} == services
    assert len({item["localPort"] for item in config["portForward"]}) == len(config["portForward"])
    values = config["deploy"]["helm"]["releases"][1]["setValues"]
    assert (values["dev.debug"], values["dev.reload"]) == (True, False)
    values = config["deploy"]["helm"]["releases"][0]["setValues"]
    assert (values["archive.dev.debug"], values["archive.dev.reload"]) == (True, False)
    archive = of_kind(rendered("tidings", {"archive": {"dev": {"debug": True}}}), "Deployment")["archive"]
    deployments = {**of_kind(rendered("pizza", VALUE_SETS["debug"]), "Deployment"), "archive": archive}
    for name, deployment in deployments.items():
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        if name in services:
            assert container["command"] == [
                "python",
                "-m",
                "debugpy",
                "--listen",
                "127.0.0.1:5678",
                "-m",
                "uvicorn",
                "--host",
                "",
            ]
            assert "livenessProbe" not in container


def test_the_profile_ha_has_two_of_everything_and_a_postgres() -> None:
    tidings, pizza = (release["setValues"] for release in _with_profile("ha")["deploy"]["helm"]["releases"])
    assert tidings["replicas"] == 2
    assert (tidings["archive.replicas"], tidings["archive.databaseSecret"]) == (2, "pizza-postgres")
    assert (pizza["defaults.replicas"], pizza["postgres.enabled"]) == (2, True)


def test_only_images_for_debugging_hold_a_debugger() -> None:
    assert {name for name, _ in _pins(IMAGES / "debugger.lock")} == {"debugpy"}
    text = (IMAGES / "service.Dockerfile").read_text()
    assert "ARG DEBUGGER=\n" in text
    assert 'if [ -n "${DEBUGGER}" ]; then pip' in text


def _shipped() -> set[str]:
    """Return images of others that the charts start."""
    charts = [rendered("tidings", {}), *(rendered("pizza", values) for values in VALUE_SETS.values())]
    images = {
        container["image"]
        for resources in charts
        for _, template in pods(resources)
        for container in (*template["spec"]["containers"], *template["spec"].get("initContainers", ()))
    }
    return {item for item in images if not item.startswith("plant-based-pizza/")}


_IMAGE_VALUE = re.compile(
    r"""(?:^|[\s{,])["']?(?:[\w.]*[.])?image["']?\s*:\s*["']?([a-z0-9][\w./-]*:[\w.-]+(?:@\S+)?)""", re.MULTILINE
)
_BASE = re.compile(r"^(?:ARG BASE=|FROM (?!\$|scratch))(\S+)", re.MULTILINE)
_FULL = re.compile(r"[a-z0-9][\w./-]*:v?\d+(?:\.\d+){1,2}[\w.-]*(?:@sha256:[0-9a-f]{64})?")
_TWO_NUMBERS = ("postgres", "debian")
"""Images whose releases have two numbers; all others have three."""


def _files(*patterns: str) -> list[Path]:
    return [path for pattern in patterns for path in ROOT.glob(pattern)]


def _named_images() -> set[tuple[str, str]]:
    """Return every third-party image that a chart, skaffold, a Dockerfile or a cluster test names, with its file."""
    texts = _files("skaffold.yaml", "charts/**/*.yaml", "operator/manifests/*.yaml", "tests/e2e/**/*.yaml")
    dockerfiles = _files("images/*Dockerfile*", "tests/**/*Dockerfile*", "services/*/Dockerfile*")
    named_in = {(path, image) for path in texts for image in _IMAGE_VALUE.findall(path.read_text())}
    named_in |= {(path, image) for path in dockerfiles for image in _BASE.findall(path.read_text())}
    named_in |= {(ROOT / "charts/pizza", image) for image in _shipped()}
    return {(str(path.relative_to(ROOT)), image) for path, image in named_in if "plant-based-pizza/" not in image}


def _unpinned(image: str) -> bool:
    """Return whether an image has neither a digest nor the full number of its release."""
    name, _, tag = image.partition("@")[0].partition(":")
    numbers = re.match(r"v?\d+(?:\.\d+)*", tag)
    needed = 2 if name.rpartition("/")[2] in _TWO_NUMBERS else 3
    return not _FULL.fullmatch(image) or numbers is None or len(numbers[0].split(".")) != needed


_CORRECTED: dict[str, dict[tuple[int, ...], int]] = {
    # CVE-2025-49844: whoever has the password runs code on the server (6.2.20, 7.2.11, 7.4.6, 8.0.4, 8.2.2).
    # CVE-2026-81934: with TLS, so does whoever has none. 8.0 is not corrected.
    "redis": {(6, 2): 24, (7, 2): 16, (7, 4): 11, (8, 2): 9, (8, 4): 6, (8, 6): 6, (8, 8): 2, (8, 10): 1},
}
"""The first corrected patch of each supported line; older lines are never corrected."""


def _vulnerable(image: str) -> bool:
    """Return whether an image has a known critical vulnerability."""
    name, _, tag = image.partition("@")[0].partition(":")
    lines = _CORRECTED.get(name.rpartition("/")[2])
    if lines is None:
        return False
    major, minor, patch, *_ = (*map(int, re.findall(r"\d+", tag)), 0, 0, 0)
    return patch < lines.get((major, minor), 0 if (major, minor) > max(lines) else 10**6)


_BASES = {
    *(
        (f"images/{name}.Dockerfile", "python:3.11-slim-bookworm")
        for name in ("operator", "archive", "service", "simulators")
    ),
    *(
        (f"tests/e2e/cluster/images/{name}.Dockerfile", "debian:bookworm-slim")
        for name in ("rabbitmq", "kafka", "keda")
    ),
    ("tests/e2e/cluster/foreign/billing.Dockerfile", "debian:bookworm-slim"),
    ("tests/e2e/cluster/foreign/crm.Dockerfile", "python:3.11-slim-bookworm"),
    ("images/nats.Dockerfile", "python:3.11-slim-bookworm"),
    *((f"images/{name}.Dockerfile", "debian:bookworm-slim") for name in ("redis", "postgres")),
}
"""Bases of images that are built where no registry can be reached. A release names its base by digest."""


def test_exceptions_are_still_needed() -> None:
    assert _named_images() >= _BASES


def test_every_external_image_has_a_full_version() -> None:
    named = _named_images()
    places = {path.partition("/")[0] for path, _ in named}
    assert {"charts", "images", "tests"} <= places
    assert {image.partition(":")[0] for _, image in named} >= {
        "nats",
        "redis",
        "postgres",
        "python",
        "debian",
        "rabbitmq",
    }
    assert {item for item in named - _BASES if _unpinned(item[1])} == set()


def test_every_external_image_of_a_chart_has_a_digest() -> None:
    shipped = _shipped()
    assert {image.partition(":")[0] for image in shipped} == {"nats", "redis", "postgres"}
    assert {image for image in shipped if not re.search(r"@sha256:[0-9a-f]{64}$", image)} == set()


def test_no_image_has_a_known_critical_vulnerability() -> None:
    assert {item for item in _named_images() if _vulnerable(item[1])} == set()


@pytest.mark.parametrize(
    ("image", "unpinned", "vulnerable"),
    [
        ("redis:7.0.15", False, True),
        ("redis:7.2.10", False, True),
        ("redis:7.2.15", False, True),
        ("redis:8.0.6", False, True),
        ("docker.io/library/redis:7.2.16", False, False),
        ("redis:7.2.10-alpine", False, True),
        ("redis:8.12.0", False, False),
        ("redis:7.2", True, True),
        ("redis:latest", True, True),
        ("nats:2.12", True, False),
        ("python:3.11-slim-bookworm", True, False),
        ("debian:bookworm-slim", True, False),
        ("nats:2.12.0@sha256:" + "a" * 64, False, False),
        ("nats:2.12.0@sha256:abc", True, False),
    ],
)
def test_unpinned_and_vulnerable_images_are_recognised(image: str, *, unpinned: bool, vulnerable: bool) -> None:
    assert (_unpinned(image), _vulnerable(image)) == (unpinned, vulnerable)


@pytest.mark.parametrize(
    "line",
    ["redis.image: redis:7.0.15", 'redis: {image: "redis:7.0.15"}', "  image: redis:7.0.15", "- image: 'redis:7.0.15'"],
)
def test_the_check_sees_an_image_in_every_notation(line: str) -> None:
    assert _IMAGE_VALUE.findall(line) == ["redis:7.0.15"]


def _digests(
    folder: Path, crane: str, *arguments: str, program: Path = ROOT / "charts/digests.py"
) -> subprocess.CompletedProcess[str]:
    """Run the pinning with a registry's client that is this shell script."""
    client = folder / "crane"
    client.write_text(f"#!/bin/sh\n{crane}\n")
    client.chmod(0o755)
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    command = [sys.executable, str(program), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


_EVERY_DIGEST = 'echo "sha256:$(echo $2 | sha256sum | cut -c1-64)"'


@pytest.mark.parametrize(("chart", "fewest"), [("pizza", 11), ("tidings", 2)])
def test_digests_are_those_of_the_registry(chart: str, fewest: int, tmp_path: Path) -> None:
    done = _digests(tmp_path, _EVERY_DIGEST, "images", "registry.example/pizza", "1.0.0", str(tmp_path))
    assert done.returncode == 0, done.stderr
    values = ("--values", str(tmp_path / f"digests-{chart}.yaml"))
    names = {
        container["image"]
        for _, template in pods(tuple(yaml.safe_load_all(render(chart, *values).stdout)))
        for container in (*template["spec"]["containers"], *template["spec"].get("initContainers", ()))
    }
    assert len(names) >= fewest
    assert all(re.fullmatch(r"\S+:\S+@sha256:[0-9a-f]{64}", name) for name in names), names


@pytest.mark.parametrize(
    ("crane", "reason"),
    [
        ("echo no route >&2; exit 1", "cannot be pinned: no route"),
        ("true", "cannot be pinned: crane named no digest"),
        ("echo sha256:abc", "cannot be pinned: sha256:abc"),
        (
            f"case $2 in *simulators*) echo gone >&2; exit 1;; esac; {_EVERY_DIGEST}",
            "registry.example/pizza/simulators:1.0.0 cannot be pinned: gone",
        ),
    ],
)
def test_an_image_that_cannot_be_pinned_ends_the_pinning(crane: str, reason: str, tmp_path: Path) -> None:
    done = _digests(tmp_path, crane, "images", "registry.example/pizza", "1.0.0", str(tmp_path / "made"))
    assert (done.returncode, done.stdout) == (1, "")
    assert reason in done.stderr
    assert not (tmp_path / "made").exists()


def test_without_crane_nothing_is_pinned_in_words(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "charts/digests.py"), "pins"]
    environment = {**os.environ, "PATH": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "crane is not on PATH" in done.stderr
    assert "Traceback" not in done.stderr


_PINNED = ("charts/pizza/values.yaml", "images/base.txt")


@pytest.mark.parametrize("answers", [True, False], ids=["answers", "fails for one"])
def test_pins_are_updated_together_or_not_at_all(answers: bool, tmp_path: Path) -> None:
    for name in ("charts/digests.py", *_PINNED):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text((ROOT / name).read_text())
    crane = _EVERY_DIGEST if answers else f"case $2 in python*) echo gone >&2; exit 1;; esac; {_EVERY_DIGEST}"
    done = _digests(tmp_path, crane, "pins", program=tmp_path / "charts/digests.py")
    assert (done.returncode, "python:3.11-slim-bookworm cannot be pinned: gone" in done.stderr) == (
        int(not answers),
        not answers,
    )
    for name in _PINNED:
        before, after = (_by_digest((folder / name).read_text()) for folder in (ROOT, tmp_path))
        assert before.keys() == after.keys() != set()
        assert {image for image in before if before[image] != after[image]} == ({*before} if answers else set())


def _by_digest(text: str) -> dict[str, str]:
    return dict(re.findall(r"(\S+:\S+)@(sha256:[0-9a-f]{64})", text))


def test_the_images_of_a_release_have_the_base_of_development_by_its_digest() -> None:
    name, _, digest = (IMAGES / "base.txt").read_text().strip().partition("@")
    assert f"ARG BASE={name}\n" in (IMAGES / "service.Dockerfile").read_text()
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", digest)


def test_the_local_values_name_the_images_that_are_built_here() -> None:
    values = yaml.safe_load((ROOT / "charts/pizza/values-local.yaml").read_text())
    version = yaml.safe_load((ROOT / "charts/pizza/Chart.yaml").read_text())["appVersion"]
    assert values == {
        server: {"image": f"plant-based-pizza/{server}:{version}"} for server in ("nats", "redis", "postgres")
    }
    makefile = (ROOT / "Makefile").read_text()
    assert f"TAG ?= {version}\n" in makefile
    assert f"SERVERS := {' '.join(values)}\n" in makefile


def test_a_release_has_a_pinned_base_and_the_values_that_pin_its_images() -> None:
    jobs = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text())["jobs"]
    (script,) = [step["run"] for step in jobs["images"]["steps"] if "make images" in step.get("run", "")]
    lines = [line.split() for line in script.splitlines()]
    (images,) = [line for line in lines if line[:2] == ["make", "images"]]
    assert images[-2:] == ['BASE="$(cat', 'images/base.txt)"']
    assert ["make", "digests"] in [line[:2] for line in lines]
    assert "dist/digests-*.yaml" in jobs["release"]["steps"][-1]["run"]
    assert jobs["release"]["needs"] == "pypi"
    assert jobs["pypi"]["needs"] == "images"


def test_debians_redis_is_refused_without_its_corrections() -> None:
    text = (IMAGES / "redis.Dockerfile").read_text()
    oldest = "5:7.0.15-1~deb12u10"
    assert f"""redis-server)" ge {oldest} \\\n""" in text
    assert oldest in (ROOT / "docs/reference/tested-versions.md").read_text()
