"""Load an inventory from files, for the command line, local runs and tests."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tidings_plan.resources import reading, schemas
from tidings_plan.resources.brokers import delivery, parallel
from tidings_plan.resources.findings import Finding
from tidings_plan.resources.inventory import Inventory
from tidings_plan.resources.model import Resource
from tidings_plan.resources.parsing import parse_resource
from tidings_plan.resources.reading import Document

CONTRACTS = ("*/contracts", "services/*/contracts")
"""Folders below a repository's root whose YAML files declare what a service publishes and consumes."""
MAX_LISTS = 3
"""Maximum nesting of lists within lists."""


def load(paths: Iterable[Path | str], *, namespace: str = "default") -> Inventory:
    """Load all tidings.dev resources at or below the paths.

    Dapr Components are read for their delivery properties, which limit what can be planned. Errors never raise: they
    become findings of the inventory, with file, line and column, and everything valid is loaded. If two resources have
    the same kind and name, the first one is kept and the second one is reported.

    Args:
        paths: Files or folders.
        namespace: Namespace of resources that do not set one.

    """
    findings: list[Finding] = []
    known: dict[tuple[str, str, str], Resource[Any]] = {}
    components: list[dict[str, Any]] = []
    for path in reading.files(Path(root) for root in paths):
        documents, wrong = reading.read(path)
        findings += wrong
        for document in (item for top in documents for item in items(top)):
            data = document.data
            if isinstance(data, dict) and isinstance(data.get("metadata"), dict):
                data = {**data, "metadata": {"namespace": namespace, **data["metadata"]}}
            resource, wrong = parse_resource(data, document.origin)
            findings += wrong
            if resource and resource.kind == "EventType":
                resource, wrong = schemas.resolve(resource)
                findings += wrong
            if resource and (first := known.setdefault((resource.kind, *resource.key), resource)) is not resource:
                message = f"{resource.ref} is declared twice, first at {first.origin.at()}"
                at = ("metadata", "name")
                findings.append(
                    resource.finding("error", "duplicate-resource", message, "Rename or delete one.", at=at)
                )
            components += parallel(document.data)
    inventory = Inventory(known.values(), findings)
    add_components(inventory, components)
    return inventory


def contracts_folders(root: Path) -> list[Path]:
    """Return a repository's contracts folders, sorted."""
    return sorted(folder for pattern in CONTRACTS for folder in root.glob(pattern))


def add_components(inventory: Inventory, documents: Iterable[Any]) -> None:
    """Note how Dapr's Components deliver."""
    for document in documents:
        if facts := delivery(document):
            inventory.set_delivery("", document["metadata"]["name"], facts)


def items(document: Document, depth: int = 0) -> Iterator[Document]:
    """Yield the items of a list, as `kubectl get -o yaml` writes it, recursively; otherwise the document itself."""
    data, origin = document.data, document.origin
    kind = data.get("kind") if isinstance(data, dict) else None
    if not isinstance(kind, str) or not kind.endswith("List") or not isinstance(data.get("items"), list):
        yield document
        return
    # Items of a typed list (EventTypeList) may omit apiVersion and kind.
    inherited = {"apiVersion": data.get("apiVersion"), "kind": kind.removesuffix("List")} if kind != "List" else {}
    for index, item in enumerate(data["items"]):
        inner = Document({**inherited, **item} if isinstance(item, dict) else item, origin.below("items", index))
        if depth < MAX_LISTS:
            yield from items(inner, depth + 1)
        else:
            yield inner
