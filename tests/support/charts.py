"""Renders the charts, once for each set of values, and reads the results."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import kubernetes_validate.utils  # type: ignore[import-untyped]
import yaml
from charts.rendered import KUBERNETES, render

Resource = dict[str, Any]

SECRET = "mine"
VALUE_SETS: Mapping[str, Mapping[str, Any]] = {
    "defaults": {},
    "redis": {"broker": {"kind": "redis"}},
    "kafka": {"broker": {"kind": "kafka", "existingSecret": SECRET}},
    "rabbitmq": {"broker": {"kind": "rabbitmq", "existingSecret": SECRET}},
    "own": {
        "broker": {"existingSecret": SECRET, "egressTo": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]},
        "state": {"kind": "postgres", "existingSecret": SECRET},
        "tokens": {"apiSecret": "api", "appSecret": "app"},
        "simulators": {"enabled": False},
    },
    "two": {
        "defaults": {"replicas": 2},
    },
    "ha": {"defaults": {"replicas": 2}, "postgres": {"enabled": True}},
    "postgres": {"postgres": {"enabled": True}, "state": {"kind": "postgres"}},
    "personal": {"postgres": {"enabled": True}, "personalData": {"keysSecret": "pizza-postgres"}},
    "personal-own": {"personalData": {"keysSecret": SECRET}},
    "hpa": {"autoscaling": {"kind": "hpa", "minReplicas": 2}},
    "keda": {"autoscaling": {"kind": "keda"}},
    "keda-redis": {"autoscaling": {"kind": "keda"}, "broker": {"kind": "redis"}},
    "keda-rabbitmq": {
        "autoscaling": {"kind": "keda"},
        "broker": {"kind": "rabbitmq", "existingSecret": SECRET},
    },
    "keda-kafka": {
        "autoscaling": {"kind": "keda"},
        "broker": {"kind": "kafka", "existingSecret": SECRET},
        "kafka": {"bootstrapServers": "kafka.brokers.svc:9092", "sasl": "plaintext"},
    },
    "seen": {
        "ingress": {"enabled": True, "tlsSecret": "tls", "className": "nginx"},
        "metrics": {"podMonitor": True},
        "tracing": {"endpoint": "http://collector.monitoring:4318"},
        "dapr": {"observable": True},
    },
    "dev": {"dev": {"reload": True}},
    "debug": {"dev": {"debug": True}},
    "few": {"services": {"loyalty": {"enabled": False}, "notifications": {"enabled": False}}},
    "bare": {
        "networkPolicies": {"enabled": False},
        "scopes": {"enabled": False},
        "podDisruptionBudget": {"enabled": False},
    },
}
"""Values of the chart pizza by name: every switch is thrown in one of them."""


@cache
def _rendered(chart: str, values: str) -> tuple[Resource, ...]:
    received = [f"--set-json={key}={json.dumps(value)}" for key, value in json.loads(values).items()]
    done = render(chart, *received)
    assert done.returncode == 0, done.stderr
    return documents(done.stdout)


def documents(text: str) -> tuple[Resource, ...]:
    """Return the documents of a YAML text that have content."""
    return tuple(document for document in yaml.load_all(text, yaml.CSafeLoader) if document)


def rendered(chart: str, values: Mapping[str, Any] | None = None) -> tuple[Resource, ...]:
    """Return every resource that the chart becomes with these values."""
    return _rendered(chart, json.dumps(values or {}, sort_keys=True))


def failure(chart: str, values: Mapping[str, Any], *arguments: str) -> str:
    """Return Helm's error message for a rejected set of values."""
    done = render(chart, *(f"--set-json={key}={json.dumps(value)}" for key, value in values.items()), *arguments)
    assert done.returncode != 0, "Helm took it"
    return done.stderr


def of_kind(resources: tuple[Resource, ...], *kinds: str) -> dict[str, Resource]:
    """Return the resources of some kinds by name."""
    return {resource["metadata"]["name"]: resource for resource in resources if resource["kind"] in kinds}


def pods(resources: tuple[Resource, ...]) -> Iterator[tuple[str, Resource]]:
    """Yield the pod template of every workload, with the workload's name."""
    for name, item in of_kind(resources, "Deployment", "StatefulSet", "Job").items():
        yield name, item["spec"]["template"]


def insecure(template: Resource, *, token: bool = False, any_user: bool = False) -> list[str]:
    """Return violations of the restricted pod security standard, and rights and variables that a pod does not need."""
    spec = template["spec"]
    security = spec.get("securityContext", {})
    wrong = []
    if not security.get("runAsNonRoot") or not (any_user or security.get("runAsUser")):
        wrong.append("runs as root")
    if security.get("seccompProfile") != {"type": "RuntimeDefault"}:
        wrong.append("no seccomp profile")
    if spec.get("enableServiceLinks") is not False:
        wrong.append("variables for every Service of its namespace")
    if spec.get("automountServiceAccountToken") is not token:
        wrong.append("a service account token")
    for container in (*spec["containers"], *spec.get("initContainers", ())):
        own = container.get("securityContext", {})
        if own.get("allowPrivilegeEscalation") is not False or own.get("capabilities") != {"drop": ["ALL"]}:
            wrong.append(f"{container['name']} may gain rights")
        if own.get("readOnlyRootFilesystem") is not True:
            wrong.append(f"{container['name']} may write to its root file system")
        if "memory" not in container["resources"]["limits"] or "cpu" not in container["resources"]["requests"]:
            wrong.append(f"{container['name']} has no bounds")
    return wrong


kubernetes_validate.utils.schema_contents = cache(kubernetes_validate.utils.schema_contents)
"""It reads all definitions, two megabytes, for each resource."""


def validate(resource: Resource) -> None:
    """Validate a resource of Kubernetes' own kinds.

    Raises:
        kubernetes_validate.ValidationError: The schema has no such field, or another type for it.

    """
    kubernetes_validate.validate(resource, KUBERNETES.rpartition(".")[0], strict=True)
