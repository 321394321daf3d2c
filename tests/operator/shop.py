"""Resources that the tests apply, and what they ask of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.operator.cluster import Cluster, path_of
from tests.support.contracts import one_event

GROUP = "tidings.dev/v1alpha1"
DAPR = "/apis/dapr.io"


def event_type(namespace: str, name: str = "orders.orderConfirmed", **spec: Any) -> dict[str, Any]:
    """An EventType with one active version."""
    given = {
        "type": name,
        "owner": {"team": "orders"},
        "producers": ["orders"],
        "versions": [{"name": "v1", "schema": {"type": "object"}}],
        **spec,
    }
    return _resource("EventType", namespace, name.lower().replace("_", "-"), given)


def subscription(namespace: str, name: str = "kitchen-order-confirmed", /, **spec: Any) -> dict[str, Any]:
    """An EventSubscription of the kitchen."""
    given = {
        "type": "orders.orderConfirmed",
        "versions": ["v1"],
        "consumer": {"appId": "kitchen", "owner": "kitchen"},
        **spec,
    }
    return _resource("EventSubscription", namespace, name, one_event(given))


def replay(namespace: str, name: str = "again", **spec: Any) -> dict[str, Any]:
    """An EventReplay to the kitchen."""
    given = {"target": {"subscription": "kitchen-order-confirmed"}, "requestedBy": "ada", **spec}
    return _resource("EventReplay", namespace, name, given)


def conditions(cluster: Cluster, resource: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The conditions of an object of the current generation, by type; none while its status is older."""
    there = cluster.get(path_of(resource))
    status = (there or {}).get("status") or {}
    if not there or status.get("observedGeneration") != there["metadata"]["generation"]:
        return {}
    return {each["type"]: each for each in status["conditions"]}


def status(cluster: Cluster, resource: Mapping[str, Any]) -> dict[str, Any]:
    """An object's status."""
    return dict(cluster.get(path_of(resource)).get("status") or {})


def dapr_subscriptions(cluster: Cluster, namespace: str) -> dict[str, dict[str, Any]]:
    """The Dapr Subscriptions of a namespace, by name."""
    return _listed(cluster, f"{DAPR}/v2alpha1/namespaces/{namespace}/subscriptions")


def resiliencies(cluster: Cluster, namespace: str) -> dict[str, dict[str, Any]]:
    """The Resiliencies of a namespace, by name."""
    return _listed(cluster, f"{DAPR}/v1alpha1/namespaces/{namespace}/resiliencies")


def config_maps(cluster: Cluster, namespace: str) -> dict[str, dict[str, Any]]:
    """The ConfigMaps of a namespace, by name."""
    return _listed(cluster, f"/api/v1/namespaces/{namespace}/configmaps")


def events(cluster: Cluster, namespace: str) -> list[dict[str, Any]]:
    """The Kubernetes events of a namespace."""
    return list(_listed(cluster, f"/apis/events.k8s.io/v1/namespaces/{namespace}/events").values())


def versions(cluster: Cluster, namespace: str) -> dict[str, str]:
    """The resource version of everything that the operator may write in a namespace: it changes with every write."""
    found = {}
    paths = (
        f"{DAPR}/v2alpha1/namespaces/{namespace}/subscriptions",
        f"{DAPR}/v1alpha1/namespaces/{namespace}/resiliencies",
        f"/api/v1/namespaces/{namespace}/configmaps",
        f"/apis/{GROUP}/namespaces/{namespace}/eventsubscriptions",
        f"/apis/{GROUP}/namespaces/{namespace}/eventtypes",
        f"/apis/{GROUP}/namespaces/{namespace}/eventreplays",
        f"/apis/events.k8s.io/v1/namespaces/{namespace}/events",
    )
    for path in paths:
        for name, each in _listed(cluster, path).items():
            found[f"{path}/{name}"] = each["metadata"]["resourceVersion"]
    return found


def _listed(cluster: Cluster, path: str) -> dict[str, dict[str, Any]]:
    return {each["metadata"]["name"]: each for each in cluster.get(path)["items"]}


def _resource(kind: str, namespace: str, name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": GROUP,
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": dict(spec),
    }
