from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.livecluster import (
    Refused,
    check_images,
    chosen,
    full_name,
    load,
    missing_images,
    required_images,
)


@pytest.mark.parametrize(
    ("named", "current", "actual"),
    [("current", "kind-tidings", "kind-tidings"), ("eu-1", "kind-tidings", "eu-1"), ("eu-1", "eu-1", "eu-1")],
)
def test_the_cluster_is_kind_or_named(named: str, current: str, actual: str) -> None:
    assert chosen(named, current) == actual


@pytest.mark.parametrize("current", ["production", "minikube", "not-kind-x", ""])
def test_nothing_is_done_to_an_unnamed_cluster(current: str) -> None:
    with pytest.raises(Refused, match=f"make e2e CONTEXT={current}"):
        chosen("current", current)


def test_images_are_loaded_into_kind_only() -> None:
    with pytest.raises(Refused, match="REPOSITORY"):
        load("production", "an-image")


MANIFEST = """
spec:
  template:
    metadata:
      annotations:
        dapr.io/sidecar-image: "plant-based-pizza/daprd:0.1.0"
    spec:
      containers:
        - image: plant-based-pizza/orders:0.1.0
        - name: nats
          image: 'nats:2.12.0'
          imagePullPolicy: IfNotPresent
        - image: localhost:5000/untagged
"""


def test_the_images_of_a_manifest_are_listed() -> None:
    assert required_images(MANIFEST) == {
        "plant-based-pizza/daprd:0.1.0",
        "plant-based-pizza/orders:0.1.0",
        "nats:2.12.0",
        "localhost:5000/untagged:latest",
    }


def test_a_node_knows_docker_hubs_images_by_their_full_names() -> None:
    stored = {"docker.io/library/nats:2.12.0", "docker.io/plant-based-pizza/orders:0.1.0"}
    required = {"nats:2.12.0", "plant-based-pizza/orders:0.1.0", "postgres:15.18"}
    assert missing_images(required, stored) == {"postgres:15.18"}


@pytest.mark.parametrize(
    ("image", "full"),
    [
        ("nats:2.15.0", "docker.io/library/nats:2.15.0"),
        ("nats:2.15.0@sha256:abc", "docker.io/library/nats:2.15.0@sha256:abc"),
        ("apache/kafka:4.4.0", "docker.io/apache/kafka:4.4.0"),
        ("ghcr.io/dapr/daprd:1.18.3", "ghcr.io/dapr/daprd:1.18.3"),
        ("localhost/a:1", "localhost/a:1"),
        ("registry:5000/a:1", "registry:5000/a:1"),
    ],
)
def test_an_image_has_its_registry_in_its_full_name(image: str, full: str) -> None:
    assert full_name(image) == full


@pytest.mark.parametrize(
    ("registry", "missing"),
    [("exit 0", {"plant-based-pizza/daprd:0.1.0"}), ("exit 1", {"plant-based-pizza/daprd:0.1.0", "nats:2.12.0"})],
    ids=["with a registry", "without"],
)
def test_images_that_a_node_can_pull_are_not_missing(
    registry: str, missing: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = tmp_path / "asked"
    docker = tmp_path / "docker"
    stored = "docker.io/plant-based-pizza/orders:0.1.0\nlocalhost:5000/untagged:latest"
    docker.write_text(
        f'#!/bin/sh\ncase "$*" in *pull*) echo "$*" >> {asked}; {registry};; esac\nprintf "{stored}\\n"\n'
    )
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(Refused) as refused:
        check_images("kind-tidings", MANIFEST)
    named = str(refused.value).partition("can pull: ")[2].partition(". Run")[0]
    assert set(named.split(", ")) == missing
    assert asked.read_text().split()[-1] == "docker.io/library/nats:2.12.0"
    assert "plant-based-pizza" not in asked.read_text()
