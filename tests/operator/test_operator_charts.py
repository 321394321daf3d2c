"""Charts on a real API server: upgrades keep random Secrets. Without a cluster, Helm cannot look them up."""

from __future__ import annotations

import asyncio
import subprocess
from typing import Any

import pytest
import yaml
from charts.rendered import APIS, CHARTS, KUBERNETES
from tests.operator.cluster import ADMIN, Cluster
from tests.operator.conftest import login

from tidings_cli.programs import ensure
from tidings_operator import contracts
from tidings_operator.client import OWN, Client

pytestmark = pytest.mark.real
OPERATOR_NAMESPACE = "tidings-kept"


def secrets(cluster: Cluster, namespace: str) -> dict[str, Any]:
    """Return the Secrets that the next upgrade of both charts would write, by namespace and name."""
    result = [
        *_secrets(cluster, "pizza", namespace, f"postgres.enabled=true,operator.namespace={OPERATOR_NAMESPACE}"),
        *_secrets(cluster, "tidings", OPERATOR_NAMESPACE, f"crds.enabled=false,archive.namespaces={{{namespace}}}"),
    ]
    return {f"{item['metadata']['namespace']}/{item['metadata']['name']}": item for item in result}


def _secrets(cluster: Cluster, chart: str, namespace: str, values: str) -> list[Any]:
    command = [str(ensure("helm")["helm"]), "template", chart, str(CHARTS / chart), "--namespace", namespace,
               "--dry-run=server", "--kubeconfig", str(cluster.kubeconfig(ADMIN)), "--set", values]  # fmt: skip
    command += ["--kube-version", KUBERNETES, *(word for api in APIS for word in ("--api-versions", api))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    documents = [document for document in yaml.safe_load_all(done.stdout) if document and document["kind"] == "Secret"]
    for item in documents:
        item["metadata"].setdefault("namespace", namespace)
    return documents


def test_every_password_and_token_is_kept_over_upgrades(cluster: Cluster, namespace: str) -> None:
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": OPERATOR_NAMESPACE}})
    first, other = secrets(cluster, namespace), secrets(cluster, namespace)
    assert f"{namespace}/archive-token" in first
    assert f"{OPERATOR_NAMESPACE}/tidings-archive-tokens" in first
    assert all(first[name]["stringData"] != other[name]["stringData"] for name in first), "they are made at random"
    for entry in first.values():
        cluster.apply(entry)
    kept = secrets(cluster, namespace)
    assert {name: item["stringData"] for name, item in kept.items()} == {
        name: item["stringData"] for name, item in first.items()
    }
    # Two releases beside each other share nothing.
    apart = {
        name: item for name, item in secrets(cluster, "default").items() if not name.startswith(OPERATOR_NAMESPACE)
    }
    assert not {str(item["stringData"]) for item in apart.values()} & {
        str(item["stringData"]) for item in kept.values()
    }
    assert not apart.keys() & kept.keys()


async def test_the_archives_contracts_are_applied_and_belong_to_the_release(cluster: Cluster, namespace: str) -> None:
    """The Job starts before the ConfigMap that owns them exists, runs again after an upgrade, and changes nothing."""
    text = (CHARTS / "tidings/files/contracts/archive.yaml").read_text()
    resources = [document for document in yaml.safe_load_all(text) if document]
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "archive-contracts", "namespace": namespace}}
    async with Client(login(cluster, ADMIN)) as client:
        applying = asyncio.create_task(contracts.apply(client, namespace, "archive-contracts", resources))
        await asyncio.sleep(0)
        uid = cluster.apply(owner)["metadata"]["uid"]
        await asyncio.wait_for(applying, 60)
        first = await _applied(client, namespace, resources)
        assert {item["metadata"]["ownerReferences"][0]["uid"] for item in first} == {uid}
        await contracts.apply(client, namespace, "archive-contracts", resources)
        assert await _applied(client, namespace, resources) == first


async def _applied(client: Client, namespace: str, resources: list[Any]) -> list[Any]:
    return [await client.get(OWN[resource["kind"]], namespace, resource["metadata"]["name"]) for resource in resources]
