"""The ConfigMap with the system map of a namespace follows its EventTypes and EventSubscriptions."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest
from tests.operator import shop
from tests.operator.cluster import Cluster, path_of
from tests.operator.conftest import Start, until

import tidings_plan
from tidings_operator import reconciling

pytestmark = pytest.mark.real
OWN = "app.kubernetes.io/managed-by"


def drawn(cluster: Cluster, namespace: str) -> dict[str, Any]:
    """Return the system map of a namespace; empty without one."""
    found = shop.config_maps(cluster, namespace).get("system-map")
    result: dict[str, Any] = json.loads(found["data"]["map.json"]) if found else {}
    return result


def apps(cluster: Cluster, namespace: str) -> list[str]:
    return sorted(entry["app"] for entry in drawn(cluster, namespace).get("subscriptions", ()))


def shows(cluster: Cluster, namespace: str, *expected: str) -> bool:
    return apps(cluster, namespace) == sorted(expected)


async def test_the_map_follows_what_is_applied_changed_and_deleted(cluster: Cluster, namespace: str, operator: Start):
    cluster.apply(shop.event_type(namespace, owner={"team": "orders", "contact": "orders@pizza.example"}))
    kitchen = cluster.apply(shop.subscription(namespace))
    await operator()
    await until(partial(shows, cluster, namespace, "kitchen"), "the kitchen is on the map")
    [entry] = drawn(cluster, namespace)["subscriptions"]
    assert (entry["name"], entry["reads"], entry["suspended"]) == (
        "kitchen-order-confirmed",
        {"orders.orderConfirmed": ["v1"]},
        False,
    )
    [kind] = drawn(cluster, namespace)["types"]
    assert (kind["type"], kind["contact"]) == ("orders.orderConfirmed", "orders@pizza.example")

    loyalty = cluster.apply(shop.subscription(namespace, "loyalty-order-confirmed", consumer={"appId": "loyalty"}))
    await until(partial(shows, cluster, namespace, "kitchen", "loyalty"), "loyalty is on the map")
    cluster.patch(path_of(kitchen), {"spec": {"suspend": True}})

    def is_suspended() -> bool:
        return [item["suspended"] for item in drawn(cluster, namespace)["subscriptions"]] == [True, False]

    await until(is_suspended, "the map shows the suspension")
    cluster.apply(shop.event_type(namespace, description="An order is certain."))
    await until(
        lambda: drawn(cluster, namespace)["types"][0]["description"] == "An order is certain.", "the type has changed"
    )
    cluster.delete(path_of(kitchen))  # the owner of the map
    await until(partial(shows, cluster, namespace, "loyalty"), "the kitchen is gone")
    [owner] = shop.config_maps(cluster, namespace)["system-map"]["metadata"]["ownerReferences"]
    assert owner["name"] == "loyalty-order-confirmed"
    cluster.delete(path_of(loyalty))
    await until(lambda: "system-map" not in shop.config_maps(cluster, namespace), "no map without subscriptions")


async def test_a_subscription_with_an_error_is_not_on_the_map_and_does_not_delay_it(
    cluster: Cluster, namespace: str, operator: Start, monkeypatch: pytest.MonkeyPatch
):
    plan_app = tidings_plan.plan_app

    def plan_others(app: tuple[str, str], *rest: Any) -> Any:
        if app[1] == "odd":
            raise MemoryError
        return plan_app(app, *rest)

    monkeypatch.setattr(reconciling, "plan_app", plan_others)
    cluster.apply(shop.event_type(namespace))
    cluster.apply(shop.subscription(namespace, "broken", consumer={"appId": "broken"}, versions=["v9"]))
    cluster.apply(shop.subscription(namespace, "odd", consumer={"appId": "odd"}))
    cluster.apply(shop.subscription(namespace))
    await operator()
    await until(partial(shows, cluster, namespace, "kitchen"), "the kitchen alone is on the map")


async def test_an_edited_or_deleted_map_is_restored(cluster: Cluster, namespace: str, operator: Start):
    cluster.apply(shop.event_type(namespace))
    cluster.apply(shop.subscription(namespace))
    made = await operator()
    await until(partial(shows, cluster, namespace, "kitchen"), "the kitchen is on the map")
    await until(lambda: made.queue.idle, "all is done")
    path = f"/api/v1/namespaces/{namespace}/configmaps/system-map"
    cluster.patch(path, {"data": {"map.json": '{"subscriptions": []}'}})
    await until(partial(shows, cluster, namespace, "kitchen"), "the edited map is as it was")
    cluster.delete(path)
    await until(partial(shows, cluster, namespace, "kitchen"), "the deleted map is back")


async def test_a_map_that_somebody_else_maintains_stays(
    cluster: Cluster, namespace: str, operator: Start, caplog: pytest.LogCaptureFixture
):
    own: dict[str, list[Any]] = {"subscriptions": [], "types": [], "deprecated": []}
    cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "system-map", "namespace": namespace},
            "data": {"map.json": json.dumps(own)},
        }
    )
    cluster.apply(shop.event_type(namespace))
    manifest = cluster.apply(shop.subscription(namespace))
    await operator()
    await until(lambda: shop.conditions(cluster, manifest).get("Ready", {}).get("status") == "True", "it is ready")
    await until(lambda: "system-map exists and is not managed by Tidings" in caplog.text, "the log says so")
    assert drawn(cluster, namespace) == own
    assert OWN not in (shop.config_maps(cluster, namespace)["system-map"]["metadata"].get("labels") or {})


async def test_types_of_other_namespaces_are_on_the_map_of_their_readers(
    cluster: Cluster, namespace: str, operator: Start
):
    """The map of a namespace has no subscriptions of others."""
    other = f"{namespace}-sales"
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": other}})
    cluster.apply(shop.event_type(other, access={"namespaces": ["*"]}))
    cluster.apply(shop.event_type(other, "orders.secretAgreed"))
    cluster.apply(shop.subscription(other, "pickup", consumer={"appId": "pickup"}))
    cluster.apply(shop.subscription(namespace, namespace=other))
    await operator(namespaces=(namespace, other))
    await until(partial(shows, cluster, namespace, "kitchen"), "the kitchen is on the map")
    await until(partial(shows, cluster, other, "pickup"), "pickup is on the map of its namespace")
    assert [kind["type"] for kind in drawn(cluster, namespace)["types"]] == ["orders.orderConfirmed"]
    assert len(drawn(cluster, other)["types"]) == 2
