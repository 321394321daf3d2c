"""The chart pizza on a real API server: what it makes at random once is kept. Without a cluster there is no lookup."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest
import yaml
from charts.rendered import APIS, CHARTS, KUBERNETES
from tests.operator.cluster import ADMIN, Cluster

from tidings_cli.programs import ensure

pytestmark = pytest.mark.real
OPERATOR_NAMESPACE = "tidings-kept"


def secrets(cluster: Cluster, namespace: str) -> dict[str, Any]:
    """The Secrets that the next upgrade would write, by namespace and name."""
    command = [str(ensure("helm")["helm"]), "template", "pizza", str(CHARTS / "pizza"), "--namespace", namespace,
               "--dry-run=server", "--kubeconfig", str(cluster.kubeconfig(ADMIN)),
               "--set", f"postgres.enabled=true,operator.namespace={OPERATOR_NAMESPACE}"]  # fmt: skip
    command += ["--kube-version", KUBERNETES, *(word for api in APIS for word in ("--api-versions", api))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = [each for each in yaml.safe_load_all(done.stdout) if each and each["kind"] == "Secret"]
    for each in found:
        each["metadata"].setdefault("namespace", namespace)
    return {f"{each['metadata']['namespace']}/{each['metadata']['name']}": each for each in found}


def test_every_password_and_token_is_kept_over_upgrades(cluster: Cluster, namespace: str) -> None:
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": OPERATOR_NAMESPACE}})
    first, other = secrets(cluster, namespace), secrets(cluster, namespace)
    assert {f"{namespace}/pizza-archive-token", f"{OPERATOR_NAMESPACE}/archive-token-{namespace}"} <= first.keys()
    assert all(first[name]["stringData"] != other[name]["stringData"] for name in first), "they are made at random"
    for each in first.values():
        cluster.apply(each)
    kept = secrets(cluster, namespace)
    assert {name: each["stringData"] for name, each in kept.items()} == {
        name: each["stringData"] for name, each in first.items()
    }
    # Two releases beside each other share nothing.
    apart = secrets(cluster, "default")
    assert not {str(each["stringData"]) for each in apart.values()} & {
        str(each["stringData"]) for each in kept.values()
    }
    assert not apart.keys() & kept.keys()
