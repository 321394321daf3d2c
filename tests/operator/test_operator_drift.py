"""Owned resources that somebody edits or deletes are restored, and an event reports it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.operator import shop
from tests.operator.cluster import Cluster, path_of
from tests.operator.conftest import Start, until

pytestmark = pytest.mark.real
ROUTE = "kitchen.orders.order-confirmed.v1"

Spoil = Callable[[Cluster, dict[str, Any]], None]


def _edit(patch: dict[str, Any]) -> Spoil:
    return lambda cluster, child: cluster.patch(path_of(child), patch) and None


SPOILS: dict[str, Spoil] = {
    "another path": _edit({"spec": {"routes": {"default": "/elsewhere"}}}),
    "a field of somebody else": _edit({"spec": {"metadata": {"maxConcurrency": "1"}}}),
    "another scope": _edit({"scopes": ["kitchen", "spy"]}),
    "no owner": _edit({"metadata": {"ownerReferences": None}}),
    "no label": _edit({"metadata": {"labels": {"app.kubernetes.io/managed-by": None}}}),
    "deleted": lambda cluster, child: cluster.delete(path_of(child)),
}


@pytest.mark.parametrize("spoil", SPOILS.values(), ids=SPOILS.keys())
async def test_drift_is_repaired_and_reported(cluster: Cluster, namespace: str, operator: Start, spoil: Spoil):
    cluster.apply(shop.event_type(namespace))
    manifest = cluster.apply(shop.subscription(namespace))
    made = await operator()
    await until(lambda: shop.conditions(cluster, manifest).get("Ready", {}).get("status") == "True", "it is ready")
    await until(lambda: made.queue.idle, "all is done")
    right = shop.dapr_subscriptions(cluster, namespace)[ROUTE]

    spoil(cluster, right)

    def repaired() -> bool:
        now = shop.dapr_subscriptions(cluster, namespace).get(ROUTE)
        if now is None or now["metadata"]["resourceVersion"] == right["metadata"]["resourceVersion"]:
            return False
        same = all(now[block] == right[block] for block in ("spec", "scopes"))
        return same and all(
            now["metadata"].get(block) == right["metadata"][block] for block in ("labels", "ownerReferences")
        )

    await until(repaired, "it is as it was")
    await until(
        lambda: any(event["reason"] == "DriftRepaired" for event in shop.events(cluster, namespace)), "it is told"
    )
    (published, *_) = [event for event in shop.events(cluster, namespace) if event["reason"] == "DriftRepaired"]
    assert published["regarding"]["name"] == manifest["metadata"]["name"]
    assert ROUTE in published["note"]


async def test_foreign_metadata_on_a_child_is_not_drift(cluster: Cluster, namespace: str, operator: Start):
    cluster.apply(shop.event_type(namespace))
    manifest = cluster.apply(shop.subscription(namespace))
    made = await operator()
    await until(lambda: shop.conditions(cluster, manifest).get("Ready", {}).get("status") == "True", "it is ready")
    await until(lambda: made.queue.idle, "all is done")
    child = shop.dapr_subscriptions(cluster, namespace)[ROUTE]
    noted = cluster.patch(path_of(child), {"metadata": {"annotations": {"argocd.argoproj.io/tracking-id": "x"}}})
    for key in made.cache.everything():
        made.queue.add(key)
    await until(lambda: made.queue.idle, "all is looked at again")
    now = shop.dapr_subscriptions(cluster, namespace)[ROUTE]
    assert now["metadata"]["resourceVersion"] == noted["metadata"]["resourceVersion"]


async def test_a_status_overwritten_by_another_client_is_restored(cluster: Cluster, namespace: str, operator: Start):
    cluster.apply(shop.event_type(namespace))
    manifest = cluster.apply(shop.subscription(namespace))
    await operator()
    await until(lambda: shop.conditions(cluster, manifest).get("Ready", {}).get("status") == "True", "it is ready")
    cluster.patch(f"{path_of(manifest)}/status", {"status": {"topics": ["lies"]}})
    await until(lambda: shop.status(cluster, manifest)["topics"] == ["orders.orderConfirmed.v1"], "the truth is back")


async def test_drift_while_no_operator_ran_is_repaired_by_the_next(cluster: Cluster, namespace: str, operator: Start):
    cluster.apply(shop.event_type(namespace))
    manifest = cluster.apply(shop.subscription(namespace))
    first = await operator(lease=True, identity="first")
    await until(lambda: shop.conditions(cluster, manifest).get("Ready", {}).get("status") == "True", "it is ready")
    await until(lambda: first.queue.idle, "all is done")
    first.reconciler._may_write = lambda: False  # as after losing its lease
    cluster.patch(
        path_of(shop.dapr_subscriptions(cluster, namespace)[ROUTE]), {"spec": {"routes": {"default": "/elsewhere"}}}
    )
    cluster.apply(  # what belongs to no subscription any more
        {
            "apiVersion": "dapr.io/v1alpha1",
            "kind": "Resiliency",
            "metadata": {
                "name": "gone",
                "namespace": namespace,
                "labels": {"app.kubernetes.io/managed-by": "tidings", "tidings.dev/app": "gone"},
            },
            "spec": {"policies": {}, "targets": {}},
        }
    )
    await operator()
    await until(
        lambda: shop.dapr_subscriptions(cluster, namespace)[ROUTE]["spec"]["routes"]["default"] != "/elsewhere",
        "the next repairs it",
    )
    await until(lambda: "gone" not in shop.resiliencies(cluster, namespace), "and clears up")
