"""Serialise resources to documents for `kubectl apply`, which cannot resolve referenced files."""

from typing import Any

import msgspec

from tidings_plan.resources.inventory import Inventory
from tidings_plan.resources.model import API_VERSION, Resource


def documents(inventory: Inventory) -> list[dict[str, Any]]:
    """Serialise all resources, sorted, with types before the resources that refer to them."""
    parts = (inventory.types, inventory.subscriptions, inventory.replays)
    return [document(part[key]) for part in parts for key in sorted(part)]


def document(resource: Resource[Any]) -> dict[str, Any]:
    """Serialise a resource, omitting defaults, including the namespace `default`."""
    parsed = resource.metadata
    metadata: dict[str, Any] = {"name": parsed.name}
    if parsed.namespace != "default":
        metadata["namespace"] = parsed.namespace
    metadata |= {name: entries for name in ("labels", "annotations") if (entries := dict(getattr(parsed, name)))}
    return {"apiVersion": API_VERSION, "kind": resource.kind, "metadata": metadata, "spec": _written(resource.spec)}


def _written(value: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        return {
            field.encode_name: _written(content)
            for field in msgspec.structs.fields(value)
            if (content := getattr(value, field.name)) != field.default
        }
    if isinstance(value, list | tuple):
        return [_written(item) for item in value]
    return msgspec.to_builtins(value)
