"""An archive suspends the subscriptions of its namespace, with the rights of its chart, and changes nothing else."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.operator import shop
from tests.operator.cluster import Cluster, path_of
from tests.operator.webhooks import Guarded, guarded
from tests.support.charts import of_kind, rendered

from tidings_archive.suspensions import Cluster as Suspensions
from tidings_archive.suspensions import NotConfigured, SuspensionError, Unavailable, UnknownSubscription

__all__ = ["guarded"]
pytestmark = pytest.mark.real


@pytest.fixture
def account(cluster: Cluster, namespace: str, tmp_path: Path) -> Path:
    """What the kubelet puts into the archive's pod."""
    resources = rendered("tidings", {"archive": {"namespaces": [namespace]}})
    for kind in ("Role", "RoleBinding"):
        cluster.apply(of_kind(resources, kind)["archive"])
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts"
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "archive", "namespace": namespace}}
    cluster.apply(account)
    asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
    token = cluster.request("POST", f"{path}/archive/token", asked)["status"]["token"]
    tmp_path.joinpath("token").write_text(token)
    tmp_path.joinpath("ca.crt").write_bytes((cluster.folder / "certs" / "apiserver.crt").read_bytes())
    return tmp_path


@pytest.fixture
def suspensions(cluster: Cluster, namespace: str, account: Path) -> Suspensions:
    return Suspensions(namespace, cluster.url, account)


def patched(cluster: Cluster, account: Path, resource: dict[str, Any], patch: dict[str, Any]) -> Any:
    return cluster.request(
        "PATCH",
        path_of(resource),
        patch,
        token=account.joinpath("token").read_text(),
        headers={"Content-Type": "application/merge-patch+json"},
    )


async def test_a_subscription_is_suspended_and_resumed(
    cluster: Cluster, namespace: str, guarded: Guarded, suspensions: Suspensions
) -> None:
    cluster.apply(shop.event_type(namespace))
    resource = cluster.apply(shop.subscription(namespace))
    name = resource["metadata"]["name"]
    await guarded()
    assert await suspensions.names() == set()
    await suspensions.change(name, suspend=True)
    assert await suspensions.names() == {name}
    assert cluster.get(path_of(resource))["spec"]["suspend"] is True
    await suspensions.change(name, suspend=False)
    assert await suspensions.names() == set()


@pytest.mark.parametrize(
    "patch",
    [
        {"spec": {"consumer": {"appId": "thief"}}},
        {"spec": {"suspend": True, "routes": {"default": "/elsewhere"}}},
        {"spec": {"delivery": {"deadLetter": {"topic": "payments.paymentAuthorised.v1"}}}},
        {"metadata": {"annotations": {"tidings.dev/await-type": "true"}}},
        {"metadata": {"labels": {"team": "thieves"}}},
        {"metadata": {"finalizers": ["tidings.dev/kept"]}},
    ],
    ids=str,
)
async def test_the_archive_changes_nothing_else(
    cluster: Cluster, namespace: str, guarded: Guarded, account: Path, patch: dict[str, Any]
) -> None:
    cluster.apply(shop.event_type(namespace))
    resource = cluster.apply(shop.subscription(namespace))
    await guarded()
    with pytest.raises(Exception, match=r"may change spec\.suspend of an EventSubscription and nothing else"):
        await asyncio.to_thread(patched, cluster, account, resource, patch)
    assert cluster.get(path_of(resource))["spec"] == resource["spec"]


@pytest.mark.parametrize("kind", ["eventtypes", "eventreplays", "secrets", "configmaps"])
async def test_the_archive_reads_nothing_else(cluster: Cluster, namespace: str, account: Path, kind: str) -> None:
    group = "/apis/tidings.dev/v1alpha1" if kind.startswith("event") else "/api/v1"
    with pytest.raises(Exception, match="is forbidden"):
        cluster.request("GET", f"{group}/namespaces/{namespace}/{kind}", token=account.joinpath("token").read_text())


async def test_what_prevents_a_change_is_told(
    cluster: Cluster, namespace: str, suspensions: Suspensions, account: Path, tmp_path: Path
) -> None:
    with pytest.raises(UnknownSubscription, match='"nobody" not found'):
        await suspensions.change("nobody", suspend=True)
    with pytest.raises(NotConfigured, match=r"forbidden.*archive\.suspendSubscriptions=true"):
        await Suspensions("default", cluster.url, account).names()
    with pytest.raises(Unavailable, match="the API server does not answer"):
        await Suspensions(namespace, "https://127.0.0.1:1", account).names()
    account.joinpath("token").write_text("expired")
    with pytest.raises(NotConfigured, match="Unauthorized"):
        await suspensions.names()
    account.joinpath("token").unlink()
    with pytest.raises(NotConfigured, match="token"):
        await suspensions.names()


async def test_one_of_several_on_a_topic_is_refused_with_the_fix(
    cluster: Cluster, namespace: str, guarded: Guarded, suspensions: Suspensions
) -> None:
    cluster.apply(shop.event_type(namespace))
    for name in ("one", "two"):
        filters = [{"exact": {"subject": name}}]
        cluster.apply(shop.subscription(namespace, name, filters=filters, routes={"default": f"/{name}"}))
    await guarded()
    with pytest.raises(SuspensionError, match="a topic is suspended as a whole"):
        await suspensions.change("one", suspend=True)
    assert await suspensions.names() == set()
