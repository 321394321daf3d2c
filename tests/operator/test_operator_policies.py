"""The policies: an archive may suspend subscriptions and change nothing else; a replay names who asked for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from tests.operator import shop
from tests.operator.cluster import Cluster, path_of
from tests.operator.conftest import manifest, until
from tests.operator.webhooks import Guarded, asked, guarded
from tests.support.charts import of_kind, rendered

from tidings_archive.suspensions import Cluster as Suspensions
from tidings_archive.suspensions import NotConfigured, SuspensionError, Unavailable, UnknownSubscription

__all__ = ["guarded"]
pytestmark = pytest.mark.real


@pytest.fixture
def account(cluster: Cluster, namespace: str, tmp_path: Path) -> Path:
    """Return the files that the kubelet mounts into the archive's pod."""
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


@pytest_asyncio.fixture
async def policies(cluster: Cluster, namespace: str, account: Path) -> AsyncIterator[None]:
    """Yield the operator's policies, in force."""
    made = manifest("policies")
    for item in made:
        await asyncio.to_thread(cluster.apply, item)
    probe = await asyncio.to_thread(cluster.apply, shop.subscription(namespace, "probe"))

    def refuses() -> bool:
        try:
            patched(cluster, account, probe, {"metadata": {"labels": {"looked": "yes"}}})
        except httpx2.HTTPStatusError:
            return True
        cluster.patch(path_of(probe), {"metadata": {"labels": {"looked": None}}})
        return False

    try:
        await until(refuses, "the policies are in force")
        yield
    finally:
        for item in made:
            await asyncio.to_thread(cluster.delete, path_of(item))
        # They stay in force for a moment, in which tests that come later could not create replays.
        await until(lambda: not _is_refused(cluster, shop.replay(namespace, "later")), "the policies are gone")


def _is_refused(cluster: Cluster, resource: dict[str, Any]) -> str:
    try:
        cluster.apply(resource)
    except httpx2.HTTPStatusError as error:
        return str(error)
    return ""


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
@pytest.mark.usefixtures("policies")
async def test_without_an_operator_the_archive_changes_nothing_else(
    cluster: Cluster, namespace: str, account: Path, patch: dict[str, Any]
) -> None:
    resource = await asyncio.to_thread(cluster.apply, shop.subscription(namespace))
    with pytest.raises(
        httpx2.HTTPStatusError, match=r"may change spec\.suspend of an EventSubscription and nothing else"
    ):
        await asyncio.to_thread(patched, cluster, account, resource, patch)
    assert cluster.get(path_of(resource))["spec"] == resource["spec"]
    for suspend in (True, False, None):
        await asyncio.to_thread(patched, cluster, account, resource, {"spec": {"suspend": suspend}})


@pytest.mark.usefixtures("policies")
async def test_without_an_operator_a_replay_has_its_requester(cluster: Cluster, namespace: str) -> None:
    unnamed = shop.replay(namespace)
    del unnamed["spec"]["requestedBy"]
    for resource in (shop.replay(namespace), unnamed, shop.replay(namespace, requestedBy="admin ")):
        refused = await asyncio.to_thread(_is_refused, cluster, resource)
        assert "spec.requestedBy must be the user of the request, and no operator answers" in refused
        assert "write admin" in refused
    assert not await asyncio.to_thread(_is_refused, cluster, shop.replay(namespace, requestedBy="admin"))


@pytest.mark.usefixtures("policies")
async def test_with_an_operator_a_replay_names_no_one(cluster: Cluster, namespace: str, guarded: Guarded) -> None:
    cluster.apply(shop.event_type(namespace))
    cluster.apply(shop.subscription(namespace))
    await guarded()
    for name in ("ada", ""):
        kept, _ = await asked(cluster, shop.replay(namespace, f"again-{name}".rstrip("-"), requestedBy=name))
        assert kept["spec"]["requestedBy"] == "admin"


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
