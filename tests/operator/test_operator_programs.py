"""Apply an EventSubscription, and it is right, or says why not: against a real API server."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from typing import Any

import pytest
from tests.operator import shop
from tests.operator.cluster import Cluster, path_of
from tests.operator.conftest import Start, until

pytestmark = pytest.mark.real
UNKNOWN = {"type": "orders.orderConfirmd"}
BAD_FILTER = {"filters": [{"cel": "event.data.total >"}]}


async def settled(cluster: Cluster, *resources: dict[str, Any]) -> list[dict[str, Any]]:
    """Wait until every resource has a status of its present generation; return their conditions."""
    for item in resources:
        await until(partial(shop.conditions, cluster, item), f"a status of {item['metadata']['name']}")
    return [shop.conditions(cluster, resource) for resource in resources]


async def test_a_subscription_becomes_its_children(cluster: Cluster, namespace: str, operator: Start):
    kind, manifest = cluster.apply(shop.event_type(namespace)), cluster.apply(shop.subscription(namespace))
    await operator()
    output, of_type = await settled(cluster, manifest, kind)

    assert output["Ready"]["status"] == "True", output
    assert {name: item["status"] for name, item in output.items()} == {
        "Ready": "True",
        "Reconciling": "False",
        "Stalled": "False",
        "EventTypeResolved": "True",
        "VersionAccepted": "True",
        "PolicyAccepted": "True",
        "Programmed": "True",
        "Observed": "Unknown",
        "DeadLetterReady": "False",
    }
    assert output["DeadLetterReady"]["reason"] == "NobodyReads"
    assert of_type["Ready"]["status"] == "True"
    assert shop.status(cluster, kind)["consumers"] == [f"{namespace}/kitchen-order-confirmed (kitchen)"]

    routes = shop.dapr_subscriptions(cluster, namespace)
    assert routes["kitchen.orders.order-confirmed.v1"]["spec"]["topic"] == "orders.orderConfirmed.v1"
    assert shop.resiliencies(cluster, namespace)["kitchen"]["scopes"] == ["kitchen"]
    policy = json.loads(shop.config_maps(cluster, namespace)["tidings-kitchen"]["data"]["policy.json"])
    assert [subscription["name"] for subscription in policy["subscriptions"]] == ["kitchen-order-confirmed"]
    for child in routes.values():
        assert [owner["uid"] for owner in child["metadata"]["ownerReferences"]] == [manifest["metadata"]["uid"]]
        assert child["metadata"]["managedFields"][0]["manager"] == "tidings"

    status = shop.status(cluster, manifest)
    assert {item["name"] for item in status["children"]} == {*routes, "kitchen", "tidings-kitchen"}
    assert status["enforcement"]["delivery.retry"] == "kit"
    assert status["topics"] == ["orders.orderConfirmed.v1"]


@pytest.mark.parametrize(
    ("spec", "condition", "reason", "field", "fix"),
    [
        (UNKNOWN, "EventTypeResolved", "UnknownType", "spec.events[0].type", "orders.orderConfirmed"),
        ({"versions": ["v2"]}, "VersionAccepted", "UnknownVersion", "spec.events[0].versions[0]", "Known: v1"),
        (BAD_FILTER, "PolicyAccepted", "MalformedCel", "spec.events[0].filters[0].cel", "CEL"),
        ({"startFrom": "Latest"}, "PolicyAccepted", "NotEnforced", "spec.startFrom", "BestEffort"),
    ],
)  # fmt: skip
async def test_invalid_entries_are_reported_and_not_programmed(
    cluster: Cluster,
    namespace: str,
    operator: Start,
    spec: dict[str, Any],
    condition: str,
    reason: str,
    field: str,
    fix: str,
):
    cluster.apply(shop.event_type(namespace))
    manifest = cluster.apply(shop.subscription(namespace, **spec))
    await operator()
    (output,) = await settled(cluster, manifest)

    for item in (output["Ready"], output[condition]):
        assert (item["status"], item["reason"]) == ("False", reason)
        assert field in item["message"]
        assert fix in item["message"]
    assert output["Stalled"]["status"] == "True"
    assert output["Programmed"]["reason"] == "NotAccepted"
    assert shop.dapr_subscriptions(cluster, namespace) == {}
    assert shop.resiliencies(cluster, namespace) == {}


async def test_an_unreadable_spec_is_reported(cluster: Cluster, namespace: str, operator: Start):
    deep: dict[str, Any] = {"not": {"not": {"not": {"not": {"exakt": {"data.a": 1}}}}}}
    cluster.apply(shop.event_type(namespace))
    manifest = cluster.apply(shop.subscription(namespace, filters=[deep]))
    await operator()
    (output,) = await settled(cluster, manifest)
    assert output["Ready"]["reason"] == "UnknownField"
    assert "exact" in output["Ready"]["message"]


async def test_a_fixed_subscription_is_programmed_and_a_broken_one_is_taken_out(
    cluster: Cluster, namespace: str, operator: Start
):
    manifest = cluster.apply(shop.subscription(namespace))
    await operator()
    (output,) = await settled(cluster, manifest)
    assert output["Ready"]["reason"] == "UnknownType"

    kind = cluster.apply(shop.event_type(namespace))
    await until(lambda: shop.conditions(cluster, manifest)["Ready"]["status"] == "True", "the type is found")
    assert len(shop.dapr_subscriptions(cluster, namespace)) == 2

    cluster.delete(path_of(kind))
    await until(lambda: not shop.dapr_subscriptions(cluster, namespace), "the routes are gone")
    await until(lambda: shop.conditions(cluster, manifest)["Ready"]["reason"] == "UnknownType", "it says so")


async def test_two_subscriptions_of_an_app_share_one_dapr_subscription(
    cluster: Cluster, namespace: str, operator: Start
):
    cluster.apply(shop.event_type(namespace))
    first = cluster.apply(
        shop.subscription(namespace, "big", filters=[{"exact": {"data.size": "big"}}], routes={"default": "/big"})
    )
    second = cluster.apply(
        shop.subscription(namespace, "small", filters=[{"exact": {"data.size": "small"}}], routes={"default": "/small"})
    )
    await operator()
    for output in await settled(cluster, first, second):
        assert output["Ready"]["status"] == "True", output
    child = shop.dapr_subscriptions(cluster, namespace)["kitchen.orders.order-confirmed.v1"]
    assert [rule["path"] for rule in child["spec"]["routes"]["rules"]] == ["/big", "/small"]
    assert {owner["name"] for owner in child["metadata"]["ownerReferences"]} == {"big", "small"}

    cluster.delete(path_of(first))
    await until(
        lambda: (
            len(
                shop.dapr_subscriptions(cluster, namespace)["kitchen.orders.order-confirmed.v1"]["spec"]["routes"][
                    "rules"
                ]
            )
            == 1
        ),
        "the rules of the deleted one are gone",
    )
    cluster.delete(path_of(second))
    await until(lambda: not shop.dapr_subscriptions(cluster, namespace), "nothing is left")
    await until(lambda: not shop.config_maps(cluster, namespace), "not even the policy")


@pytest.mark.parametrize("policy", ["Delete", "Retain"])
async def test_the_deletion_policy_decides_what_stays(cluster: Cluster, namespace: str, operator: Start, policy: str):
    cluster.apply(shop.event_type(namespace))
    manifest = cluster.apply(shop.subscription(namespace, deletionPolicy=policy))
    made = await operator()
    await settled(cluster, manifest)
    before = shop.dapr_subscriptions(cluster, namespace)
    cluster.delete(path_of(manifest))
    await until(lambda: not made.cache.inventory.subscriptions and made.queue.idle, "the operator has heard of it")
    if policy == "Delete":
        await until(lambda: not shop.dapr_subscriptions(cluster, namespace), "the children go")
    else:
        assert shop.dapr_subscriptions(cluster, namespace).keys() == before.keys()
        assert not any(item["metadata"].get("ownerReferences") for item in before.values())


async def test_when_nothing_changes_nothing_is_written(cluster: Cluster, namespace: str, operator: Start):
    resources = [
        shop.event_type(namespace),
        shop.subscription(namespace),
        shop.subscription(namespace, "broken", routes={}),
    ]
    for resource in resources:
        cluster.apply(resource)
    made = await operator()
    await settled(cluster, *resources)
    await until(lambda: made.queue.idle, "all is done")
    before = shop.versions(cluster, namespace)
    for key in made.cache.everything():
        made.queue.add(key)
    await until(lambda: made.queue.idle, "all is done again")
    again = await operator(identity="another")  # one that starts anew, and must read from the children what it knows
    await until(lambda: again.queue.idle, "all is done by another")
    await asyncio.sleep(0.5)
    assert shop.versions(cluster, namespace) == before


async def test_foreign_objects_are_left_alone(cluster: Cluster, namespace: str, operator: Start):
    theirs = {
        "apiVersion": "dapr.io/v1alpha1",
        "kind": "Resiliency",
        "metadata": {"name": "kitchen", "namespace": namespace},
        "spec": {"policies": {"timeouts": {"mine": "1s"}}, "targets": {}},
    }
    cluster.apply(theirs)
    cluster.apply(shop.event_type(namespace))
    manifest = cluster.apply(shop.subscription(namespace))
    await operator()
    (output,) = await settled(cluster, manifest)
    assert output["Programmed"]["reason"] == output["Ready"]["reason"] == "ForeignObject"
    assert "Delete it" in output["Ready"]["message"]
    assert cluster.get(path_of(theirs))["spec"]["policies"] == {"timeouts": {"mine": "1s"}}
