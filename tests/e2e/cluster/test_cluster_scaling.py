"""Replicas follow the events that wait at the broker: KEDA and the HorizontalPodAutoscaler that it writes."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from tests.e2e.cluster.conftest import Guest, Installed
from tests.e2e.cluster.test_cluster_running import reads
from tests.support.definitions import KEDA, module_folder
from tests.support.livecluster import Cluster, check_images, until

SUBSCRIPTION, LAG, MOST = "loyalty-order-completed", 4, 3
WEBHOOKS = "keda-admission"
"""KEDA's webhooks check ScaledObjects only, and are one more image."""


@pytest.fixture(scope="module")
def keda(installed: Installed) -> Iterator[Cluster]:
    """Install KEDA from the manifests of its Go module."""
    cluster = Cluster(installed.apps.context, "keda")
    manifests = defaultdict[str, list[dict[str, Any]]](list)
    for resource in yaml.safe_load_all(cluster.kubectl("kustomize", str(module_folder(KEDA) / "config/default"))):
        if WEBHOOKS not in resource["metadata"]["name"]:
            manifests[resource["metadata"].get("namespace", cluster.namespace)].append(_pinned(resource))
    check_images(cluster.context, yaml.safe_dump_all(manifests[cluster.namespace]))

    def each(*words: str) -> None:
        for namespace, resources in manifests.items():
            Cluster(cluster.context, namespace).kubectl(*words, "-f", "-", stdin=yaml.safe_dump_all(resources))

    try:
        each("apply", "--server-side", "--force-conflicts")
        for name in ("keda-operator", "keda-metrics-apiserver"):
            cluster.kubectl("rollout", "status", f"deployment/{name}", "--timeout=300s")
        cluster.kubectl(
            "wait", "--for=condition=Available", "apiservice/v1beta1.external.metrics.k8s.io", "--timeout=300s"
        )
        yield cluster
    finally:
        # An API service without a server behind it would keep every namespace from being deleted.
        each("delete", "--ignore-not-found", "--timeout=300s")


def _pinned(resource: dict[str, Any]) -> dict[str, Any]:
    """Name the release's image instead of that of the main branch, which a node always pulls."""
    if resource["kind"] == "Deployment":
        for container in resource["spec"]["template"]["spec"]["containers"]:
            container["image"] = f"{container['image'].rpartition(':')[0]}:{KEDA.rpartition('@v')[2]}"
            container["imagePullPolicy"] = "IfNotPresent"
    return resource


@pytest.fixture
def scaled(installed: Installed, keda: Cluster) -> Iterator[None]:
    """Let KEDA scale loyalty."""
    values = {"kind": "keda", "minReplicas": 1, "maxReplicas": MOST, "targetLag": LAG}
    installed.install_pizza("--set-json", f"services.loyalty.autoscaling={json.dumps(values)}")
    yield
    _suspend(installed.apps, suspend=False)
    installed.install_pizza()
    installed.apps.roll_out()


def test_replicas_follow_the_events_that_wait(installed: Installed, guest: Guest, scaled: None) -> None:
    cluster = installed.apps
    cluster.kubectl("wait", "--for=condition=Ready", "scaledobject/loyalty", "--timeout=120s")
    # Kubernetes waits five minutes before it removes replicas, unless told otherwise.
    quick = {
        "advanced": {"horizontalPodAutoscalerConfig": {"behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}}}}
    }
    cluster.kubectl("patch", "scaledobject/loyalty", "--type=merge", "-p", json.dumps({"spec": quick}))

    _suspend(cluster, suspend=True)
    until("loyalty's sidecar reads no more", lambda: "orders.orderCompleted" not in reads(cluster, "loyalty"))
    orders = [guest.order(deliver=number % 2 == 0) for number in range(LAG * MOST)]
    guest.eaten(*orders)
    until("there are as many replicas as the lag asks for", lambda: _replicas(cluster) == MOST, patience=240)

    _suspend(cluster, suspend=False)
    until("all have their points", lambda: all(map(guest.has_points, orders)), patience=240)
    until("one replica is left", lambda: _replicas(cluster) == 1, patience=300)


def _suspend(cluster: Cluster, *, suspend: bool) -> None:
    cluster.kubectl("patch", "esub", SUBSCRIPTION, "--type=merge", "-p", json.dumps({"spec": {"suspend": suspend}}))


def _replicas(cluster: Cluster) -> int:
    deployment = json.loads(cluster.kubectl("get", "deployment/loyalty", "-o", "json"))
    return int(deployment["status"].get("readyReplicas", 0))
