from __future__ import annotations

import pytest
from tests.support.livecluster import Refused, chosen, load, missing_images, required_images


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
