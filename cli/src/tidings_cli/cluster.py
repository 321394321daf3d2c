"""Read access to a live cluster: declared resources, their status, and the operator's resources.

The `kubernetes` package takes most of a second to import, so it is imported only by commands that use a cluster.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import product
from typing import Annotated, Any, NamedTuple

import typer

from tidings_cli import output
from tidings_plan.resources import Inventory, parse_resource
from tidings_plan.resources.inventory import Key
from tidings_plan.resources.model import GROUP

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


_DECLARED = {
    "EventType": _Api(GROUP, "v1alpha1", "eventtypes"),
    "EventSubscription": _Api(GROUP, "v1alpha1", "eventsubscriptions"),
}
_MANAGED = "app.kubernetes.io/managed-by=tidings"
"""Label selector of the resources that the operator generates."""
_CHILDREN = {
    "Subscription": _Api("dapr.io", "v2alpha1", "subscriptions"),
    "Resiliency": _Api("dapr.io", "v1alpha1", "resiliencies"),
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
        items = [item for kind, api in _DECLARED.items() for item in self._all(kind, api)]
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
        kinds = (*_CHILDREN, "ConfigMap")
        items = [item for kind, space in product(kinds, namespaces) for item in self._managed(kind, space)]
        return {(item["kind"], item["metadata"]["namespace"], item["metadata"]["name"]): item for item in items}

    def _managed(self, kind: str, namespace: str) -> list[dict[str, Any]]:
        try:
            if kind == "ConfigMap":
                listed = self._core.list_namespaced_config_map
                maps = _pages(lambda **page: _listed(listed(namespace, label_selector=_MANAGED, **page)))
                return [_config_map(item) for item in maps]
            api = _CHILDREN[kind]
            list_ = self._objects.list_namespaced_custom_object
            items = _pages(
                lambda **page: list_(api.group, api.version, namespace, api.plural, label_selector=_MANAGED, **page)
            )
        except self._refused as error:
            if error.status == _FORBIDDEN:
                return []  # the caller reads them one by one, by name
            raise self._refusal(error, f"{kind} of {namespace}") from error
        except self._unreachable as error:
            raise self._no_answer(error) from error
        return [{"apiVersion": f"{api.group}/{api.version}", **item, "kind": kind} for item in items]

    def child(self, kind: str, namespace: str, name: str) -> dict[str, Any] | None:
        """Return a Dapr Subscription, a Resiliency or a ConfigMap; None if it does not exist."""
        try:
            if kind == "ConfigMap":
                return _config_map(self._core.read_namespaced_config_map(name, namespace, _request_timeout=_DEADLINE))
            item: Any = self._objects.get_namespaced_custom_object(
                *_CHILDREN[kind][:2], namespace, _CHILDREN[kind].plural, name, _request_timeout=_DEADLINE
            )
        except self._refused as error:
            if error.status == _NOT_FOUND:
                return None
            raise self._refusal(error, f"{kind} {namespace}/{name}") from error
        except self._unreachable as error:
            raise self._no_answer(error) from error
        return dict(item)

    def _all(self, kind: str, api: _Api) -> list[dict[str, Any]]:
        try:
            items = _pages(lambda **page: self._objects.list_cluster_custom_object(*api, **page))
        except self._refused as error:
            if error.status != _FORBIDDEN:
                raise self._refusal(error, api.plural) from error
            items = self._own(api)
        except self._unreachable as error:
            raise self._no_answer(error) from error
        return [{"apiVersion": f"{api.group}/{api.version}", "kind": kind, **item} for item in items]

    def _own(self, api: _Api) -> list[dict[str, Any]]:
        """Read one namespace, with a warning: consumers in other namespaces are unknown then."""
        message = f"Listing {api.plural} of all namespaces is forbidden: reading those of {self.namespace} only."
        output.console(error=True).print(message, style="yellow", markup=False)
        try:
            return _pages(
                lambda **page: self._objects.list_namespaced_custom_object(
                    api.group, api.version, self.namespace, api.plural, **page
                )
            )
        except self._refused as error:
            raise self._refusal(error, f"{api.plural} of {self.namespace}") from error

    def _refusal(self, error: Any, what: str) -> typer.Exit:
        if error.status == _NOT_FOUND:
            return output.refusal(f"The cluster {self.name} has no {what}: apply operator/manifests/crds.yaml first.")
        return output.refusal(f"The cluster {self.name} does not allow reading {what}: {error.status} {error.reason}")

    def _no_answer(self, error: Exception) -> typer.Exit:
        return output.refusal(f"The cluster {self.name} does not answer: {error}")


def chosen(*, live: bool, context: str | None, namespace: str | None) -> Cluster | None:
    """Return the cluster selected by the options; None if no option selects one."""
    return Cluster(context, namespace) if live or context or namespace else None


def _pages(ask: Callable[..., Any]) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    following = ""
    while True:
        more = {"_continue": following} if following else {}
        page = ask(limit=_PAGE, _request_timeout=_DEADLINE, **more)
        items += page["items"]
        following = page["metadata"].get("continue", "")
        if not following:
            return items


def _listed(page: Any) -> dict[str, Any]:
    """Convert a typed list to the form of a list of custom objects."""
    return {"items": page.items, "metadata": {"continue": page.metadata._continue or ""}}  # noqa: SLF001 - the package's name for the keyword `continue`


def _config_map(item: Any) -> dict[str, Any]:
    metadata = {"name": item.metadata.name, "namespace": item.metadata.namespace}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": item.data or {}}


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
