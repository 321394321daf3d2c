"""Resources that the tests apply, and what they ask of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.operator.cluster import Cluster, path_of
from tests.support.contracts import one_event

GROUP = "tidings.dev/v1alpha1"
DAPR = "/apis/dapr.io"


def event_type(namespace: str, name: str = "orders.orderConfirmed", **spec: Any) -> dict[str, Any]:
    """Return an EventType with one active version."""
    value = {
        "type": name,
        "owner": {"team": "orders"},
        "producers": ["orders"],
        "versions": [{"name": "v1", "schema": {"type": "object"}}],
        **spec,
    }
    return _resource("EventType", namespace, name.lower().replace("_", "-"), value)


def subscription(namespace: str, name: str = "kitchen-order-confirmed", /, **spec: Any) -> dict[str, Any]:
    """Return an EventSubscription of the kitchen."""
    value = {
        "type": "orders.orderConfirmed",
        "versions": ["v1"],
        "consumer": {"appId": "kitchen", "owner": "kitchen"},
        **spec,
    }
    return _resource("EventSubscription", namespace, name, one_event(value))


def replay(namespace: str, name: str = "again", **spec: Any) -> dict[str, Any]:
    """Return an EventReplay to the kitchen."""
    value = {"target": {"subscription": "kitchen-order-confirmed"}, "requestedBy": "ada", **spec}
    return _resource("EventReplay", namespace, name, value)


def conditions(cluster: Cluster, resource: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the conditions of an object of the current generation, by type; none while its status is older."""
    existing = cluster.get(path_of(resource))
    status = (existing or {}).get("status") or {}
    if not existing or status.get("observedGeneration") != existing["metadata"]["generation"]:
        return {}
    return {condition["type"]: condition for condition in status["conditions"]}


def status(cluster: Cluster, resource: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object's status."""
    return dict(cluster.get(path_of(resource)).get("status") or {})


def dapr_subscriptions(cluster: Cluster, namespace: str) -> dict[str, dict[str, Any]]:
    """Return the Dapr Subscriptions of a namespace, by name."""
    return _listed(cluster, f"{DAPR}/v2alpha1/namespaces/{namespace}/subscriptions")


def resiliencies(cluster: Cluster, namespace: str) -> dict[str, dict[str, Any]]:
    """Return the Resiliencies of a namespace, by name."""
    return _listed(cluster, f"{DAPR}/v1alpha1/namespaces/{namespace}/resiliencies")


def config_maps(cluster: Cluster, namespace: str) -> dict[str, dict[str, Any]]:
    """Return the ConfigMaps of a namespace, by name."""
    return _listed(cluster, f"/api/v1/namespaces/{namespace}/configmaps")


def events(cluster: Cluster, namespace: str) -> list[dict[str, Any]]:
    """Return the Kubernetes events of a namespace."""
    return list(_listed(cluster, f"/apis/events.k8s.io/v1/namespaces/{namespace}/events").values())


def versions(cluster: Cluster, namespace: str) -> dict[str, str]:
    """Return the resource versions of all objects in a namespace that the operator may write."""
    result = {}
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
        for name, item in _listed(cluster, path).items():
            result[f"{path}/{name}"] = item["metadata"]["resourceVersion"]
    return result


def _listed(cluster: Cluster, path: str) -> dict[str, dict[str, Any]]:
    return {item["metadata"]["name"]: item for item in cluster.get(path)["items"]}


def _resource(kind: str, namespace: str, name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": GROUP,
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": dict(spec),
    }
