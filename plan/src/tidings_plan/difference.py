"""Compute the changes that applying files to a cluster would make, without a server-side dry run."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import msgspec

from tidings_plan.resources.eventtype import EventType
from tidings_plan.resources.findings import Finding
from tidings_plan.resources.inventory import Inventory, Key
from tidings_plan.resources.model import API_VERSION, Resource

Action = Literal["create", "update", "delete"]
Manifest = Mapping[str, Any]
_OURS = ("apiVersion", "kind", "spec", "scopes", "data")


@dataclass(frozen=True, slots=True)
class Change:
    """An object that would be created, updated or deleted."""

    action: Action
    before: Manifest | None
    after: Manifest | None

    @property
    def name(self) -> str:
        """Name of the object: `Subscription/shop/kitchen.orders.order-placed.v1`."""
        manifest = self.after or self.before or {}
        return f"{manifest['kind']}/{manifest['metadata']['namespace']}/{manifest['metadata']['name']}"

    def to_dict(self) -> dict[str, Any]:
        """Return the change as `-o json` prints it."""
        return {"action": self.action, "object": self.name, "before": self.before, "after": self.after}


def change(before: Manifest | None, after: Manifest | None) -> Change | None:
    """Compare the fields that Tidings manages; return None if nothing differs.

    Labels, owners, status and metadata set by the API server are ignored.
    """
    old, new = _bare(before), _bare(after)
    if old == new:
        return None
    action: Action = "create" if old is None else "delete" if new is None else "update"
    return Change(action, old, new)


def manifest(resource: Resource[Any]) -> dict[str, Any]:
    """Serialise a resource with all defaults, so that a file equals the object that the API server stores."""
    return {
        "apiVersion": API_VERSION,
        "kind": resource.kind,
        "metadata": {"name": resource.metadata.name, "namespace": resource.metadata.namespace},
        "spec": _without_nulls(msgspec.to_builtins(resource.spec)),
    }


def unreadable(live: EventType) -> Iterator[Finding]:
    """Yield a finding for each version whose schema is a file name, which a cluster cannot resolve."""
    for index, version in enumerate(live.spec.versions):
        if isinstance(version.schema, str):
            message = f"In the cluster, the schema of {version.name} is only a file name: {version.schema}"
            fix = "Apply the output of `tidings render --declared`, which has the schemas inline."
            at = ("spec", "versions", index, "schema")
            yield live.finding("warning", "schema-not-inline", message, fix, at=at)


def known(inventory: Inventory) -> dict[tuple[str, Key], Resource[Any]]:
    """Return all resources of an inventory by kind and key."""
    parts = (inventory.types, inventory.subscriptions, inventory.replays)
    return {(resource.kind, resource.key): resource for part in parts for resource in part.values()}


def applied(live: Inventory, declared: Inventory, now: str) -> tuple[Inventory, frozenset[Key]]:
    """Return the cluster's inventory after applying the declared one, and the apps whose plan may change.

    Replaced resources keep their age and new ones are the youngest, so that conflicts are decided as in the cluster.
    """
    existing = known(live)
    result = Inventory(existing.values(), declared.findings)
    touched: frozenset[Key] = frozenset()
    for key, resource in known(declared).items():
        born = existing[key].metadata.creation_timestamp if key in existing else now
        metadata = msgspec.structs.replace(resource.metadata, creation_timestamp=born)
        touched |= result.put(replace(resource, metadata=metadata))
    return result, touched


def objects(resources: Iterable[Manifest]) -> dict[tuple[str, str, str], Manifest]:
    """Index manifests by kind, namespace and name."""
    return {
        (resource["kind"], resource["metadata"]["namespace"], resource["metadata"]["name"]): resource
        for resource in resources
    }


def _without_nulls(value: Any) -> Any:
    """Remove null values, which the API server does not store."""
    if isinstance(value, dict):
        return {name: _without_nulls(item) for name, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list | tuple) else value


def _bare(whole: Manifest | None) -> Manifest | None:
    if whole is None:
        return None
    name = {field: whole["metadata"][field] for field in ("name", "namespace")}
    return {**{field: whole[field] for field in _OURS if field in whole}, "metadata": name}
