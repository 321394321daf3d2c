"""The committed manifests are what the models say, and the API server refuses by them what it can."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
from tests.operator import shop
from tests.operator.cluster import MANIFESTS, Cluster
from tests.operator.conftest import manifest

from tidings_operator import crds


def test_the_committed_crds_are_current():
    output = "run: python -m tidings_operator.crds > operator/manifests/crds.yaml"
    assert (MANIFESTS / "crds.yaml").read_text() == crds.text(), output


def test_the_pod_is_restricted():
    (deployment,) = manifest("deployment")
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


@pytest.mark.real
@pytest.mark.parametrize(
    ("resource", "message"),
    [
        (
            shop.subscription("x", events=[{"type": "orders.a", "pattern": "orders.*"}]),
            "exactly one of type and pattern",
        ),
        (shop.subscription("x", versions=["1"]), "spec.events[0].versions[0]"),
        (shop.subscription("x", filters=[{"cel": "true", "exact": {"data.a": 1}}]), "exactly one of exact"),
        (shop.subscription("x", delivery={"timeout": "soon"}), "spec.delivery.timeout"),
        (shop.subscription("x", consumer={"appId": "Kitchen"}), "spec.consumer.appId"),
        (shop.subscription("x", enforcement="Loose"), "spec.enforcement"),
        (shop.event_type("x", domain="kitchen"), "domain must be the first part"),
        (shop.event_type("x", versions=[]), "spec.versions"),
        (shop.event_type("x", channel={"topic": "no spaces"}), "spec.channel.topic"),
        (
            shop.event_type(
                "x",
                versions=[{"name": "v1", "deprecation": {"effective": "2026-02-01", "removal": "2026-01-01"}}],
            ),
            "removal must be later",
        ),
        (shop.replay("x", rate=0), "spec.rate"),
        (
            shop.replay("x", filter={"since": "2026-02-01T00:00:00Z", "until": "2026-01-01T00:00:00Z"}),
            "since must be before until",
        ),
    ],
)
def test_the_api_server_refuses(cluster: Cluster, namespace: str, resource: dict[str, Any], message: str):
    resource["metadata"]["namespace"] = namespace
    with pytest.raises(httpx2.HTTPStatusError) as refused:
        cluster.apply(resource)
    assert refused.value.response.status_code == 422
    assert message in refused.value.response.json()["message"]


@pytest.mark.real
def test_defaults_are_filled_in_and_a_specified_order_stays(cluster: Cluster, namespace: str):
    value = cluster.apply(shop.subscription(namespace))["spec"]
    assert value["delivery"]["retry"] == {
        "policy": "Exponential",
        "duration": "500ms",
        "maxInterval": "10s",
        "maxRetries": 5,
    }
    assert value["consumer"]["kit"] is True
    assert cluster.apply(shop.event_type(namespace))["spec"]["channel"]["topic"] == "{type}.v{version}"
    cluster.apply(shop.replay(namespace))
    with pytest.raises(httpx2.HTTPStatusError, match="make a new one"):
        cluster.apply(shop.replay(namespace, rate=10))


@pytest.mark.real
def test_a_table_shows_readiness_and_its_reason(cluster: Cluster, namespace: str):
    cluster.apply(shop.subscription(namespace))
    accept = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
    path = f"/apis/{shop.GROUP}/namespaces/{namespace}/eventsubscriptions"
    table = cluster.request("GET", path, headers=accept)
    shown = [
        column_definition["name"]
        for column_definition in table["columnDefinitions"]
        if not column_definition["priority"]
    ]
    assert shown == ["Name", "Events", "App", "Ready", "Reason", "Age"]
    result = cluster.get("/apis/tidings.dev/v1alpha1")["resources"]
    names = {
        item["name"]: (item.get("shortNames"), item.get("categories")) for item in result if "/" not in item["name"]
    }
    assert names["eventsubscriptions"] == (["esub"], ["eda"])
    assert names["eventtypes"] == (["evtype"], ["eda"])
