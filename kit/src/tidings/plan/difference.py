"""What would change if files were applied to what a cluster has, without asking the cluster to try."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import msgspec

from tidings.resources.eventtype import EventType
from tidings.resources.findings import Finding
from tidings.resources.inventory import Inventory, Key
from tidings.resources.model import API_VERSION, Resource

Action = Literal["create", "update", "delete"]
Manifest = Mapping[str, Any]
_OURS = ("apiVersion", "kind", "spec", "scopes", "data")


@dataclass(frozen=True, slots=True)
class Change:
    """One object that would be created, updated or deleted."""

    action: Action
    before: Manifest | None
    after: Manifest | None

    @property
    def name(self) -> str:
        """Name the object: `Subscription/shop/kitchen.orders.order-placed.v1`."""
        manifest = self.after or self.before or {}
        return f"{manifest['kind']}/{manifest['metadata']['namespace']}/{manifest['metadata']['name']}"

    def to_dict(self) -> dict[str, Any]:
        """Return what `-o json` prints."""
        return {"action": self.action, "object": self.name, "before": self.before, "after": self.after}


def change(before: Manifest | None, after: Manifest | None) -> Change | None:
    """Compare what there is with what there would be, as far as Tidings writes it; None where nothing differs.

    Labels, owners, status, and what an API server adds under metadata are not compared.
    """
    old, new = _bare(before), _bare(after)
    if old == new:
        return None
    action: Action = "create" if old is None else "delete" if new is None else "update"
    return Change(action, old, new)


def manifest(resource: Resource[Any]) -> dict[str, Any]:
    """Write a resource out with every default, so that a file and what an API server made of it are the same."""
    return {
        "apiVersion": API_VERSION,
        "kind": resource.kind,
        "metadata": {"name": resource.metadata.name, "namespace": resource.metadata.namespace},
        "spec": _without_nulls(msgspec.to_builtins(resource.spec)),
    }


def unreadable(live: EventType) -> Iterator[Finding]:
    """Yield a finding for each version whose schema is the name of a file: in a cluster nobody can read it."""
    for place, version in enumerate(live.spec.versions):
        if isinstance(version.schema, str):
            message = f"In the cluster, the schema of {version.name} is only the name of a file: {version.schema}"
            mend = "Apply what `tidings render --declared` prints: it has the schemas inline."
            at = ("spec", "versions", place, "schema")
            yield live.finding("warning", "schema-not-inline", message, mend, at=at)


def known(inventory: Inventory) -> dict[tuple[str, Key], Resource[Any]]:
    """Return everything in an inventory by kind and key."""
    parts = (inventory.types, inventory.subscriptions, inventory.replays)
    return {(each.kind, each.key): each for part in parts for each in part.values()}


def applied(live: Inventory, given: Inventory, now: str) -> tuple[Inventory, frozenset[Key]]:
    """Return what a cluster would have once the files are applied, and the apps whose plan that may change.

    What is replaced keeps its age, and what is new is the youngest: the senior one wins a dispute, as it will there.
    """
    there = known(live)
    result = Inventory(there.values(), given.findings)
    touched: frozenset[Key] = frozenset()
    for key, resource in known(given).items():
        born = there[key].metadata.creation_timestamp if key in there else now
        metadata = msgspec.structs.replace(resource.metadata, creation_timestamp=born)
        touched |= result.put(replace(resource, metadata=metadata))
    return result, touched


def objects(resources: Iterable[Manifest]) -> dict[tuple[str, str, str], Manifest]:
    """Return manifests by kind, namespace and name."""
    return {(each["kind"], each["metadata"]["namespace"], each["metadata"]["name"]): each for each in resources}


def _without_nulls(value: Any) -> Any:
    """Leave out what is null: an API server does not keep it."""
    if isinstance(value, dict):
        return {name: _without_nulls(each) for name, each in value.items() if each is not None}
    return [_without_nulls(each) for each in value] if isinstance(value, list | tuple) else value


def _bare(whole: Manifest | None) -> Manifest | None:
    if whole is None:
        return None
    name = {field: whole["metadata"][field] for field in ("name", "namespace")}
    return {**{field: whole[field] for field in _OURS if field in whole}, "metadata": name}
