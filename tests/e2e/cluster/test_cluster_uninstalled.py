"""Uninstalling leaves only the CustomResourceDefinitions, whose deletion would delete all users' resources."""

from __future__ import annotations

from functools import partial

from tests.e2e.cluster.conftest import NUMBERED, Installed
from tests.support.livecluster import Cluster, until

OTHERS = ("kube-root-ca.crt", "default", "dapr-trust-bundle")
"""What Kubernetes and Dapr put into every namespace."""
NOT_OURS = ("namespace/", "node/", "csinode.", "persistentvolume/", "apiservice.")
"""Of a cluster that is itself named so, and the API that comes with the definitions."""


def test_nothing_is_left_but_the_definitions(installed: Installed) -> None:
    installed.apps.kubectl("delete", "-f", str(NUMBERED / "sender/contracts/events.yaml"))  # the tests' own
    installed.uninstall()
    for cluster in (installed.apps, installed.tidings):
        until(f"nothing in {cluster.namespace}", partial(_is_empty, cluster), patience=90)
    assert _wide(installed.apps) == {
        "customresourcedefinition.apiextensions.k8s.io/eventreplays.tidings.dev",
        "customresourcedefinition.apiextensions.k8s.io/eventsubscriptions.tidings.dev",
        "customresourcedefinition.apiextensions.k8s.io/eventtypes.tidings.dev",
    }


def _is_empty(cluster: Cluster) -> bool:
    return not _left(cluster)


def _left(cluster: Cluster) -> list[str]:
    """Return all objects of the namespace, without events, which expire within an hour."""
    kinds = cluster.kubectl("api-resources", "--namespaced", "--verbs=list", "-o", "name").split()
    asked = ",".join(kind for kind in kinds if kind.partition(".")[0] != "events")
    result = cluster.kubectl("get", asked, "--ignore-not-found", "-o", "name").split()
    return [name for name in result if name.rpartition("/")[2] not in OTHERS]


def _wide(cluster: Cluster) -> set[str]:
    """Return the cluster-scoped objects of Tidings and the pizzeria."""
    kinds = cluster.kubectl("api-resources", "--namespaced=false", "--verbs=list", "-o", "name").split()
    words = cluster.kubectl("get", ",".join(kinds), "--ignore-not-found", "-o", "name").split()
    return {name for name in words if "tidings" in name and not name.startswith(NOT_OURS)}
