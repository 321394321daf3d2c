"""The properties of Dapr's pub/sub components determine the enforcer of each setting."""

from __future__ import annotations

from typing import Any

import pytest
from tests.operator import shop
from tests.operator.cluster import Cluster, path_of
from tests.operator.conftest import Start, until

pytestmark = pytest.mark.real
WITHOUT_KIT: dict[str, Any] = {
    "consumer": {"appId": "kitchen", "owner": "kitchen", "kit": False},
    "maxConcurrency": 4,
    "bulk": {},
    "enforcement": "BestEffort",
}


def component(namespace: str, concurrency: str) -> dict[str, Any]:
    """Return a JetStream component with fields that the operator does not manage."""
    value = [{"name": "concurrency", "value": concurrency}, {"name": "natsURL", "value": "nats://user:hidden@nats"}]
    return {
        "apiVersion": "dapr.io/v1alpha1",
        "kind": "Component",
        "metadata": {"name": "pubsub", "namespace": namespace},
        "spec": {"type": "pubsub.jetstream", "version": "v1", "metadata": value},
    }


async def test_the_status_shows_the_enforcer_of_concurrency_and_bulk_on_the_present_component(
    cluster: Cluster, namespace: str, operator: Start
):
    cluster.apply(component(namespace, "single"))
    cluster.apply(shop.event_type(namespace))
    manifest = cluster.apply(shop.subscription(namespace, **WITHOUT_KIT))

    def kept() -> tuple[str | None, str | None, bool]:
        result = shop.status(cluster, manifest).get("enforcement", {})
        routes = shop.dapr_subscriptions(cluster, namespace).values()
        return (
            result.get("maxConcurrency"),
            result.get("bulk"),
            any("bulkSubscribe" in route["spec"] for route in routes),
        )

    await operator()
    await until(lambda: kept() == ("daprd", "none", False), "one at a time is daprd's, and bulk is no use")
    assert shop.conditions(cluster, manifest)["PolicyAccepted"]["reason"] == "NotEnforced"

    cluster.apply(component(namespace, "parallel"))
    await until(lambda: kept() == ("none", "daprd", True), "in parallel, nobody counts, and bulk is given")
    cluster.apply(component(namespace, "single"))
    await until(lambda: kept() == ("daprd", "none", False), "it is looked at again")
    cluster.delete(path_of(component(namespace, "single")))
    await until(lambda: kept() == ("none", "daprd", True), "a component that is gone says nothing")


async def test_what_was_known_of_a_component_is_known_after_a_restart_before_anything_is_written(
    cluster: Cluster, namespace: str, operator: Start
):
    cluster.apply(component(namespace, "single"))
    cluster.apply(shop.event_type(namespace))
    manifest = cluster.apply(shop.subscription(namespace, **WITHOUT_KIT))
    made = await operator()
    await until(lambda: shop.conditions(cluster, manifest), "it is programmed")
    await until(lambda: made.queue.idle, "all is done")
    before = shop.versions(cluster, namespace)
    again = await operator()
    await until(lambda: again.queue.idle, "all was looked at")
    assert shop.versions(cluster, namespace) == before
    assert again.cache.inventory.delivery(namespace, "pubsub").serial


async def test_a_component_of_another_namespace_is_another_one(cluster: Cluster, namespace: str, operator: Start):
    cluster.apply(component("default", "single"))
    cluster.apply(shop.event_type(namespace))
    manifest = cluster.apply(shop.subscription(namespace, **WITHOUT_KIT))
    await operator(namespaces=(namespace, "default"))
    await until(lambda: shop.conditions(cluster, manifest), "it is programmed")
    assert shop.status(cluster, manifest)["enforcement"]["maxConcurrency"] == "none"
    cluster.delete(path_of(component("default", "single")))


def shared(namespace: str, url: str) -> dict[str, Any]:
    result = component(namespace, "parallel")
    result["spec"]["metadata"] = [{"name": "natsURL", "value": url}]
    return result


async def test_namespaces_on_one_broker_account_are_warned_until_they_are_separated(
    cluster: Cluster, namespace: str, operator: Start
) -> None:
    other = "apart"
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": other}})
    kinds = [cluster.apply(shop.event_type(item)) for item in (namespace, other)]
    manifests = [cluster.apply(shop.subscription(item)) for item in (namespace, other)]
    made = await operator(namespaces=(namespace, other))

    def warned() -> list[bool]:
        output = [str(shop.status(cluster, kind)) for kind in (*kinds, *manifests)]
        return ["same broker account" in item for item in output]

    cluster.apply(shared(namespace, "nats://user:hidden@nats.tools:4222"))
    cluster.apply(shared(other, "nats://user:hidden@nats.tools.svc"))
    await until(lambda: warned() == [True] * 4, "both namespaces are warned")
    for manifest in manifests:
        assert shop.conditions(cluster, manifest)["Ready"]["status"] == "True", "it is a warning"
    for one, another in ((manifests[0], other), (manifests[1], namespace)):
        assert f"{another}" not in str(shop.status(cluster, one)), "it does not say which namespace"
    assert "hidden" not in str(made.cache.inventory.accounts)

    cluster.apply(shared(other, "nats://own:hidden@nats.tools"))
    await until(lambda: warned() == [False] * 4, "each has an account of its own")
    cluster.apply(shared(other, "nats://user:hidden@nats.tools"))
    await until(lambda: warned() == [True] * 4, "they are warned again")
    cluster.delete(path_of(component(other, "parallel")))
    await until(lambda: warned() == [False] * 4, "a component that is gone leads nowhere")


async def test_an_own_component_that_gives_two_apps_one_consumer_is_refused_until_it_names_the_app(
    cluster: Cluster, namespace: str, operator: Start
) -> None:
    def rabbitmq(consumer: str) -> dict[str, Any]:
        result = component(namespace, "parallel")
        metadata = [
            {"name": "connectionString", "value": "amqp://user:hidden@rabbit"},
            {"name": "consumerID", "value": consumer},
        ]
        result["spec"] = {"type": "pubsub.rabbitmq", "version": "v1", "metadata": metadata}
        return result

    cluster.apply(rabbitmq("everyone"))
    cluster.apply(shop.event_type(namespace))
    apps = ("kitchen", "tracking")
    manifests = [
        cluster.apply(shop.subscription(namespace, f"{app}-reads", consumer={"appId": app, "owner": app}))
        for app in apps
    ]
    made = await operator()

    def refused() -> int:
        """Return how many of the two are refused: the younger, or by name if both have the same second."""
        return sum("share a consumer" in str(shop.status(cluster, manifest)) for manifest in manifests)

    await until(lambda: refused() == 1, "one of them is refused")
    assert len({item["scopes"][0] for item in shop.dapr_subscriptions(cluster, namespace).values()}) == 1
    assert "hidden" not in str(vars(made.cache.inventory))
    cluster.apply(rabbitmq("{appID}:"))
    await until(lambda: refused() == 0, "each has its own queue")
