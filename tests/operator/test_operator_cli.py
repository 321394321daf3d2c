"""The command line and the GitOps health checks on a real API server, beside a real operator."""

from __future__ import annotations

import asyncio
import functools
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.operator import shop
from tests.operator.cluster import ADMIN, Cluster, path_of
from tests.operator.conftest import Start, until
from tests.unit.test_gitops_health import argo, flux
from typer.testing import CliRunner, Result

from tidings_cli.commands import app
from tidings_operator.children import SYSTEM_MAP

pytestmark = pytest.mark.real


@pytest.fixture
def manifests(tmp_path: Path, namespace: str, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with a type and a subscription that name no namespace, and a kubeconfig of the cluster."""
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig(ADMIN)))
    documents = [shop.event_type(namespace), shop.subscription(namespace, maxConcurrency=3)]
    for document in documents:
        document["metadata"].pop("namespace")
    path = tmp_path / "wishes" / "all.yaml"
    path.parent.mkdir()
    path.write_text(yaml.safe_dump_all(documents))
    return path


async def tidings(*arguments: object) -> Result:
    """Run a command in a thread: the operator lives in this loop."""
    return await asyncio.to_thread(CliRunner().invoke, app, [str(argument) for argument in arguments])


def edit(path: Path, before: str, after: str) -> None:
    path.write_text(path.read_text().replace(before, after))


def applied(cluster: Cluster, path: Path, namespace: str) -> list[dict[str, Any]]:
    """Return the objects that `kubectl apply -n` creates from a file."""
    documents = list(yaml.safe_load_all(path.read_text()))
    for item in documents:
        item["metadata"]["namespace"] = namespace
    return [cluster.apply(document) for document in documents]


async def programmed(cluster: Cluster, resources: list[dict[str, Any]]) -> None:
    for resource in resources:
        await until(
            functools.partial(_is_ready, cluster, resource),
            f"{resource['metadata']['name']} is Ready",
        )


def _is_ready(cluster: Cluster, resource: dict[str, Any]) -> bool:
    return bool(shop.conditions(cluster, resource).get("Ready", {}).get("status") == "True")


async def test_a_plan_comes_true(cluster: Cluster, namespace: str, operator: Start, manifests: Path):
    """The planned objects are created; a second plan is empty until a file changes."""
    before = await tidings("plan", manifests, "-n", namespace, "-o", "json")
    assert before.exit_code == 3, before.output
    planned = {change["object"] for change in json.loads(before.stdout)["changes"]}
    await operator()
    await programmed(cluster, applied(cluster, manifests, namespace))
    after = await tidings("plan", manifests, "-n", namespace)
    assert (after.exit_code, after.stdout) == (0, "No change.\n"), after.output
    existing = {
        f"{kind}/{namespace}/{name}"
        for kind, result in (
            ("Subscription", shop.dapr_subscriptions(cluster, namespace)),
            ("Resiliency", shop.resiliencies(cluster, namespace)),
            ("ConfigMap", shop.config_maps(cluster, namespace)),
        )
        for name in result
        if name != SYSTEM_MAP  # shows the plan, and no sidecar or app depends on it
    }
    assert existing == {item for item in planned if not item.startswith("Event")}

    edit(manifests, "maxConcurrency: 3", "maxConcurrency: 4")
    changed = await tidings("plan", manifests, "-n", namespace, "-o", "json")
    assert [change["object"].partition("/")[0] for change in json.loads(changed.stdout)["changes"]] == [
        "EventSubscription",
        "ConfigMap",
    ]
    await programmed(cluster, applied(cluster, manifests, namespace))
    assert (await tidings("plan", manifests, "-n", namespace)).exit_code == 0


async def test_consumers_and_health_show_the_statuses_of_the_operator(
    cluster: Cluster, namespace: str, operator: Start, manifests: Path
):
    good = applied(cluster, manifests, namespace)
    bad = cluster.apply(shop.subscription(namespace, "broken", versions=["v9"], consumer={"appId": "broken"}))
    assert {argo(cluster.get(path_of(item)))[0] for item in (*good, bad)} == {"Progressing"}
    await operator()
    await programmed(cluster, good)
    await until(lambda: shop.conditions(cluster, bad), "the broken one has a status")

    result = await tidings("consumers", "orders.orderConfirmed", "-n", namespace, "-o", "json")
    assert result.exit_code == 0, result.output
    (results,) = json.loads(result.stdout)
    assert [(consumer["subscription"], consumer["ready"]) for consumer in results["consumers"]] == [
        ("kitchen-order-confirmed", "True")
    ]
    for entry in good:
        existing = cluster.get(path_of(entry))
        assert (argo(existing)[0], flux(existing)) == ("Healthy", "Current"), existing
    existing = cluster.get(path_of(bad))
    assert (argo(existing)[0], flux(existing)) == ("Degraded", "Failed"), existing
    assert "v9" in argo(existing)[1]
