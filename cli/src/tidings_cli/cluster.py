"""Read access to a live cluster: declared resources, their status, and the operator's resources.

The `kubernetes` package takes most of a second to import, so it is imported only by commands that use a cluster.
"""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from typing import Annotated, Any, NamedTuple, TypeVar

import typer

from tidings_cli import output
from tidings_plan.resources import Inventory, parse_resource
from tidings_plan.resources.inventory import Key
from tidings_plan.resources.model import GROUP

T = TypeVar("T")
_PAGE = 500
_DEADLINE = (5.0, 60.0)
"""Timeouts for connecting and for reading, in seconds."""
_FORBIDDEN, _NOT_FOUND = 403, 404

Live = Annotated[bool, typer.Option("--live/--files", help="Also read the cluster of the current kubeconfig context.")]
Context = Annotated[str | None, typer.Option("--context", help="Read the cluster of this kubeconfig context.")]
Namespace = Annotated[
    str | None, typer.Option("--namespace", "-n", help="Read the cluster; namespace for resources without one.")
]


class _Api(NamedTuple):
    group: str
    version: str
    plural: str

    @property
    def group_version(self) -> str:
        return f"{self.group}/{self.version}".removeprefix("/")


_DECLARED = {
    "EventType": _Api(GROUP, "v1alpha1", "eventtypes"),
    "EventSubscription": _Api(GROUP, "v1alpha1", "eventsubscriptions"),
}
_MANAGED = "app.kubernetes.io/managed-by=tidings"
"""Label selector of the resources that the operator generates."""
_CHILDREN = {
    "Subscription": _Api("dapr.io", "v2alpha1", "subscriptions"),
    "Resiliency": _Api("dapr.io", "v1alpha1", "resiliencies"),
    "ConfigMap": _Api("", "v1", "configmaps"),
}


@dataclass(frozen=True, slots=True)
class State:
    """Declared resources of a cluster, and the Ready status (`True`, `False`, `Unknown`) of each subscription."""

    inventory: Inventory
    ready: dict[Key, str] = field(default_factory=dict)


class Cluster:
    """Client of the cluster of a kubeconfig context. Errors end the command with exit code 1."""

    def __init__(self, context: str | None, namespace: str | None) -> None:
        from kubernetes import client, config  # noqa: PLC0415 - see the module's docstring
        from urllib3.exceptions import HTTPError  # noqa: PLC0415 - comes with the same package

        self._refused, self._unreachable = client.ApiException, HTTPError
        file = os.environ.get("KUBECONFIG", config.KUBE_CONFIG_DEFAULT_LOCATION)
        settings = client.Configuration()
        settings.retries = False  # fail fast: the user can repeat the command
        try:
            everything, current = config.list_kube_config_contexts(file)  # type: ignore[no-untyped-call]
            api = config.new_client_from_config(file, context, client_configuration=settings)  # type: ignore[no-untyped-call]
        except config.ConfigException as error:
            reason = str(error).rstrip(".")
            raise output.refusal(f"No cluster: {reason}. Name a context with --context, or set KUBECONFIG.") from error
        self._objects, self._core = client.CustomObjectsApi(api), client.CoreV1Api(api)
        self.name: str = context or current["name"]
        own = next(entry["context"] for entry in everything if entry["name"] == self.name)
        self.namespace: str = namespace or own.get("namespace") or "default"

    def state(self) -> State:
        """Read all EventTypes and EventSubscriptions; those of one namespace if listing all is forbidden."""
        items = [item for kind in _DECLARED for item in self._declared(kind)]
        parsed = [parse_resource(item) for item in items]
        inventory = Inventory(
            (resource for resource, _ in parsed if resource),
            [finding for _, findings in parsed for finding in findings],
        )
        ready = {
            (item["metadata"]["namespace"], item["metadata"]["name"]): _ready(item)
            for item in items
            if item["kind"] == "EventSubscription"
        }
        return State(inventory, ready)

    def children(self, namespaces: Iterable[str]) -> dict[tuple[str, str, str], dict[str, Any]]:
        """Return the generated resources by kind, namespace and name; none of a kind that must not be listed."""
        items = [item for kind, space in product(_CHILDREN, namespaces) for item in self._managed(kind, space)]
        return {(item["kind"], item["metadata"]["namespace"], item["metadata"]["name"]): item for item in items}

    def _declared(self, kind: str) -> list[dict[str, Any]]:
        api = _DECLARED[kind]
        items = self._read(api.plural, lambda: self._pages(self._objects.list_cluster_custom_object, *api), _FORBIDDEN)
        if items is None:  # consumers in other namespaces are unknown then
            message = f"Listing {api.plural} of all namespaces is forbidden: reading those of {self.namespace} only."
            output.console(error=True).print(message, style="yellow", markup=False)
            items = self._read(f"{api.plural} of {self.namespace}", lambda: self._listed(api, self.namespace)) or []
        return [{"apiVersion": api.group_version, "kind": kind, **item} for item in items]

    def _managed(self, kind: str, namespace: str) -> list[dict[str, Any]]:
        """Return the generated resources of a kind; none if they must not be listed: they are then read by name."""
        api = _CHILDREN[kind]
        read = partial(self._listed, api, namespace, label_selector=_MANAGED)
        items = self._read(f"{kind} of {namespace}", read, _FORBIDDEN) or []
        return [{"apiVersion": api.group_version, **item, "kind": kind} for item in items]

    def child(self, kind: str, namespace: str, name: str) -> dict[str, Any] | None:
        """Return a Dapr Subscription, a Resiliency or a ConfigMap; None if it does not exist."""
        api = _CHILDREN[kind]

        def read() -> Any:
            if kind == "ConfigMap":
                return self._ask(self._core.read_namespaced_config_map, name, namespace)
            return self._ask(self._objects.get_namespaced_custom_object, *api[:2], namespace, api.plural, name)

        item = self._read(f"{kind} {namespace}/{name}", read, _NOT_FOUND)
        return None if item is None else {"apiVersion": api.group_version, "kind": kind, **item}

    def _listed(self, api: _Api, namespace: str, **query: str) -> list[dict[str, Any]]:
        if not api.group:
            return self._pages(self._core.list_namespaced_config_map, namespace, **query)
        return self._pages(
            self._objects.list_namespaced_custom_object, api.group, api.version, namespace, api.plural, **query
        )

    def _pages(self, call: Callable[..., Any], *where: str, **query: str) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = []
        following: dict[str, str] = {}
        while True:
            page = self._ask(call, *where, limit=_PAGE, **query, **following)
            items += page["items"]
            if not page["metadata"].get("continue"):
                return items
            following = {"_continue": page["metadata"]["continue"]}

    def _ask(self, call: Callable[..., Any], *where: str, **query: Any) -> Any:
        """Call the API; return the answer as plain data, as the API server sends it."""
        answer = call(*where, **query, _request_timeout=_DEADLINE)
        return self._core.api_client.sanitize_for_serialization(answer)

    def _read(self, what: str, read: Callable[[], T], tolerated: int = 0) -> T | None:
        """Read from the cluster; return None for the tolerated status. Any other error ends the command."""
        try:
            return read()
        except self._refused as error:
            if error.status == tolerated:
                return None
            if error.status == _NOT_FOUND:
                problem = f"has no {what}: apply operator/manifests/crds.yaml first."
            else:
                problem = f"does not allow reading {what}: {error.status} {error.reason}"
            raise output.refusal(f"The cluster {self.name} {problem}") from error
        except self._unreachable as error:
            raise output.refusal(f"The cluster {self.name} does not answer: {error}") from error


def chosen(*, live: bool, context: str | None, namespace: str | None) -> Cluster | None:
    """Return the cluster selected by the options; None if no option selects one."""
    return Cluster(context, namespace) if live or context or namespace else None


def _ready(item: dict[str, Any]) -> str:
    """Return `True`, `False: Reason`, or `Unknown` if the operator has not observed this generation yet."""
    status = item.get("status", {})
    if status.get("observedGeneration") != item["metadata"].get("generation"):
        return "Unknown"
    for condition in status.get("conditions", ()):
        if condition["type"] == "Ready":
            reason = f": {condition['reason']}" if condition["status"] != "True" else ""
            return f"{condition['status']}{reason}"
    return "Unknown"
