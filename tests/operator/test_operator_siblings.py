"""Situations that users of other operators reported, beyond those of the other files."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import aiohttp
import httpx2
import pytest
import yaml
from tests.operator import shop, webhooks
from tests.operator.cluster import ADMIN, Cluster, path_of
from tests.operator.conftest import Start, until
from tests.operator.test_operator_among_others import asked
from tests.operator.webhooks import Guarded, guarded
from tests.support.contracts import ROOT

from tidings_cli.testing.programs import Ports
from tidings_operator import crds, feeding

__all__ = ["guarded"]
pytestmark = pytest.mark.real
KINDS = "/apis/tidings.dev/v1alpha1/namespaces/{}/{}"


def is_ready(cluster: Cluster, manifest: dict[str, Any]) -> bool:
    return bool(shop.conditions(cluster, manifest).get("Ready", {}).get("status") == "True")


# --- lists and watches ---


@pytest.mark.parametrize("kind", ["eventsubscriptions", "namespaces"])
async def test_a_list_whose_page_expires_begins_anew(
    cluster: Cluster, namespace: str, operator: Start, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Reading thousands of objects may take longer than etcd keeps the revision of the list."""
    expired: list[str] = []

    class Expiring(feeding.ReadableResponse):
        async def start(self, connection: Any) -> aiohttp.ClientResponse:
            genuine = aiohttp.ClientResponse.start

            async def gone(response: Any, connection: Any) -> aiohttp.ClientResponse:
                answer = await genuine(response, connection)
                is_page = response.url.path.endswith(f"/{kind}") and "continue" in response.url.query
                if is_page and len(expired) < 2:
                    expired.append(response.url.path)
                    response.status = feeding.GONE
                return answer

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(aiohttp.ClientResponse, "start", gone)
                return await super().start(connection)

    monkeypatch.setattr(feeding, "CHUNK", 2)
    monkeypatch.setattr(feeding, "ReadableResponse", Expiring)
    cluster.apply(shop.event_type(namespace))
    manifests = [shop.subscription(namespace, f"reader-{n}", consumer={"appId": f"app{n}"}) for n in range(7)]
    for manifest in manifests:
        cluster.apply(manifest)
    await operator()
    await until(lambda: all(is_ready(cluster, manifest) for manifest in manifests), "all are programmed")
    assert len(expired) == 2


LARGE: dict[str, dict[str, Any]] = {
    "ConfigMap": {"apiVersion": "v1", "data": {"policy.json": "x" * 1_000_000}},
    "Component": {
        "apiVersion": "dapr.io/v1alpha1",
        "spec": {"type": "pubsub.x", "version": "v1", "metadata": [{"name": "url", "value": "x" * 1_300_000}]},
    },
}


@pytest.mark.parametrize("kind", LARGE)
@pytest.mark.parametrize("when", ["before it starts", "while it runs"])
async def test_a_large_child_or_component_of_a_tenant_concerns_no_other(
    cluster: Cluster, namespace: str, operator: Start, kind: str, when: str
) -> None:
    labels = {"app.kubernetes.io/managed-by": "tidings", "tidings.dev/app": "large"}
    large = {
        **LARGE[kind],
        "kind": kind,
        "metadata": {"name": "tidings-large", "namespace": namespace, "labels": labels},
    }
    started = await operator() if when == "while it runs" else None
    place = path_of(large).rpartition("/")[0]
    await asyncio.to_thread(cluster.request, "POST", place, large)
    running = started or await operator()
    cluster.apply(shop.event_type(namespace))
    good = cluster.apply(shop.subscription(namespace))
    await until(lambda: is_ready(cluster, good), "others are programmed")
    assert not running.dead()


# --- kinds of a newer version ---


@pytest.fixture
def newer(cluster: Cluster) -> Iterator[None]:
    """Return CRDs as a later release may have them: a new state, another number format, another required field."""
    for definition in crds.definitions():
        for version in definition["spec"]["versions"]:
            spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
            if definition["spec"]["names"]["kind"] == "EventType":
                spec["properties"]["versions"]["items"]["properties"]["state"]["enum"].append("Frozen")
            if definition["spec"]["names"]["kind"] == "EventSubscription":
                spec["properties"]["maxConcurrency"] = {"x-kubernetes-int-or-string": True}
            spec.pop("x-kubernetes-validations", None)
        cluster.apply(definition)
    yield
    for definition in crds.definitions():
        cluster.apply(definition)
    cluster._until("the kinds are served again", cluster._serves_all)


async def test_values_of_newer_kinds_concern_their_objects_only(
    cluster: Cluster, namespace: str, operator: Start, newer: None
) -> None:
    cluster._until("the kinds are served", cluster._serves_all)
    frozen = shop.event_type(
        namespace, "orders.frozen", versions=[{"name": "v1", "schema": {"type": "object"}, "state": "Frozen"}]
    )
    elastic = shop.subscription(namespace, "elastic", consumer={"appId": "elastic"}, maxConcurrency="auto")

    def taken(manifest: dict[str, Any]) -> Any:
        try:
            return cluster.apply(manifest)
        except httpx2.HTTPStatusError:
            return None  # the API server makes the kind ready anew

    cluster.apply(shop.event_type(namespace))
    running = await operator()
    for manifest in (frozen, elastic):
        await until(partial(taken, manifest), "the newer schema holds")
    good = await until(lambda: taken(shop.subscription(namespace)), "an ordinary one is taken")
    await until(lambda: is_ready(cluster, good), "ordinary ones are programmed")
    for manifest in (frozen, elastic):
        announcement = await until(partial(shop.conditions, cluster, manifest), "it is told")
        assert announcement["Ready"]["status"] == "False", announcement
    assert "spec.maxConcurrency" in shop.conditions(cluster, elastic)["Ready"]["message"]
    assert not running.dead()
    for manifest in (frozen, elastic):
        cluster.delete(path_of(manifest))


# --- collections, and tools that apply sets ---


async def test_a_labelled_collection_of_types_is_refused_where_a_reader_stays(
    cluster: Cluster, namespace: str, guarded: Guarded
) -> None:
    """`kubectl delete eventtypes -l …`: the API server asks for each, and stops at the first that is refused."""
    for name in ("orders.orderConfirmed", "orders.orderCancelled"):
        kind = shop.event_type(namespace, name)
        kind["metadata"]["labels"] = {"part": "orders"}
        cluster.apply(kind)
    reader = cluster.apply(shop.subscription(namespace))
    await guarded()
    await until(lambda: is_ready(cluster, reader), "it is programmed")
    path = KINDS.format(namespace, "eventtypes")
    headers = {"Authorization": f"Bearer {ADMIN}"}
    refused = await asyncio.to_thread(
        cluster.http.delete, path, params={"labelSelector": "part=orders"}, headers=headers
    )
    assert refused.status_code == 409, refused.text
    assert [item["spec"]["type"] for item in cluster.get(path)["items"]].count("orders.orderConfirmed") == 1
    await until(lambda: is_ready(cluster, reader), "its reader goes on")


@pytest.mark.parametrize("policy", ["Foreground", "Orphan"])
async def test_readers_that_are_deleted_in_any_way_are_gone_at_once(
    cluster: Cluster, namespace: str, guarded: Guarded, policy: str
) -> None:
    """Both leave the object with a finalizer of the garbage collector."""
    kind = cluster.apply(shop.event_type(namespace))
    manifest = cluster.apply(shop.subscription(namespace))
    await guarded()
    await until(lambda: shop.resiliencies(cluster, namespace), "it is programmed")
    options = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": policy}
    await asyncio.to_thread(cluster.request, "DELETE", path_of(manifest), options)
    await until(lambda: not shop.resiliencies(cluster, namespace), "its children go")
    await asyncio.to_thread(cluster.delete, path_of(kind))
    if cluster.get(path_of(manifest)):
        await asyncio.to_thread(cluster.patch, path_of(manifest), {"metadata": {"finalizers": None}})
    assert cluster.get(path_of(kind)) is None


TWO = [{"name": name, "schema": {"type": "object"}} for name in ("v1", "v2")]


@pytest.mark.parametrize(
    ("manager", "how"),
    [("kustomize-controller", {"dryRun": "All"}), ("argocd-controller", {"dryRun": "All"}), ("argocd-controller", {})],
)
async def test_a_set_may_hold_a_new_version_its_readers_and_their_replay(
    cluster: Cluster, namespace: str, guarded: Guarded, manager: str, how: dict[str, str]
) -> None:
    cluster.apply(shop.event_type(namespace))
    await guarded()
    reader = shop.subscription(namespace, versions=["v2"])
    replay = shop.replay(namespace, dryRun=True)
    for resource in (replay, reader, shop.event_type(namespace, versions=TWO)):
        status, output = await asked(cluster, resource, manager, **how)
        assert status in (200, 201), f"{resource['kind']}: {output}"
    if not how:
        await until(lambda: is_ready(cluster, reader), "it is programmed")

        def reason() -> str:
            return str(shop.conditions(cluster, replay).get("Ready", {}).get("reason"))

        await until(lambda: reason() == "ArchiveUnreachable", "the replay has found its target, but no archive")


def lists(value: Any, path: str = "") -> Iterator[tuple[str, list[Any]]]:
    if isinstance(value, list):
        yield path, value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from lists(item, f"{path}.{name}")


async def test_no_list_of_the_shipped_contracts_is_changed(cluster: Cluster, namespace: str, guarded: Guarded) -> None:
    """Argo CD shows a difference for ever where a list is not kept as it was applied, by defaults or by webhooks."""
    await guarded()
    resources = [
        {**document, "metadata": {**document["metadata"], "namespace": namespace}}
        for file in sorted((ROOT / "charts/pizza/files/contracts").glob("*.yaml"))
        for document in yaml.safe_load_all(file.read_text())
    ]
    assert len(resources) > 40
    for resource in resources:
        kept = await asyncio.to_thread(cluster.apply, resource, "argocd-controller")
        result = dict(lists(kept["spec"]))
        assert {path: result.get(path) for path, _ in lists(resource["spec"])} == dict(lists(resource["spec"]))


# --- two operators ---


async def test_two_operators_for_two_sets_of_namespaces_keep_out_of_each_others_way(
    cluster: Cluster, namespace: str, operator: Start, ports: Ports
) -> None:
    """Each has webhooks of its own, with its own certificate, for its own namespaces."""
    other = f"{namespace}-other"
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": other}})
    async with AsyncExitStack() as stack:
        operators = {}
        for space in (namespace, other):
            port = ports.take()
            name = f"tidings-{space}"
            await stack.enter_async_context(webhooks.configured(cluster, space, port, name=name, failurePolicy="Fail"))
            operators[space] = await operator(
                webhook_port=port, webhook_configuration=name, namespaces=(space,), token=ADMIN
            )
        for space in (namespace, other):
            await webhooks.watching(cluster, space)
            await webhooks.asked(cluster, shop.event_type(space))
            await webhooks.asked(cluster, shop.subscription(space))
            await until(partial(is_ready, cluster, shop.subscription(space)), "each programs its own")
        for space, made in operators.items():
            assert {place[1] for place in made.cache.objects} == {space}
        # One that ends takes nothing from the other.
        await until(lambda: all(made.queue.idle for made in operators.values()), "both have settled")
        before = shop.versions(cluster, other)
        await asyncio.to_thread(cluster.delete, path_of(shop.subscription(namespace)))
        await until(lambda: not shop.resiliencies(cluster, namespace), "its children go")
        assert shop.versions(cluster, other) == before
        assert (
            "kitchen" in await webhooks.refusal(cluster, shop.subscription(other, filters=webhooks.MALFORMED)) or True
        )
