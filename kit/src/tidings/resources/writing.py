"""Resources as documents again: what `kubectl apply` takes, which knows no files beside the YAML."""

from typing import Any

import msgspec

from tidings.resources.inventory import Inventory
from tidings.resources.model import API_VERSION, Resource


def documents(inventory: Inventory) -> list[dict[str, Any]]:
    """Write everything out, sorted, and types before what refers to them."""
    parts = (inventory.types, inventory.subscriptions, inventory.replays)
    return [document(part[key]) for part in parts for key in sorted(part)]


def document(resource: Resource[Any]) -> dict[str, Any]:
    """Write a resource out as a person would: without what goes without saying. The namespace `default` does, too."""
    found = resource.metadata
    metadata: dict[str, Any] = {"name": found.name}
    if found.namespace != "default":
        metadata["namespace"] = found.namespace
    metadata |= {name: given for name in ("labels", "annotations") if (given := dict(getattr(found, name)))}
    return {"apiVersion": API_VERSION, "kind": resource.kind, "metadata": metadata, "spec": _written(resource.spec)}


def _written(value: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        return {
            field.encode_name: _written(given)
            for field in msgspec.structs.fields(value)
            if (given := getattr(value, field.name)) != field.default
        }
    if isinstance(value, list | tuple):
        return [_written(each) for each in value]
    return msgspec.to_builtins(value)
