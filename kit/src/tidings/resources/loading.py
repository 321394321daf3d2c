"""Paths into an inventory: what a command line, a local run and a test begin with."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tidings.resources import reading, schemas
from tidings.resources.brokers import one_at_a_time, several_at_once, shares_workers
from tidings.resources.findings import Finding
from tidings.resources.inventory import Inventory
from tidings.resources.model import Resource
from tidings.resources.parsing import parse_resource
from tidings.resources.reading import Document

MAX_LISTS = 3
"""Lists within lists that are opened."""


def load(paths: Iterable[Path | str], *, namespace: str = "default") -> Inventory:
    """Load every tidings.dev resource at or below the paths; one that names no namespace is in the given one.

    Of Dapr's Components that lie there, too, it is read how they deliver: what is planned must be possible on them.
    Nothing is raised for what is wrong: it stands in the inventory's findings, with file, line and column,
    and the rest is loaded all the same. Two resources of one kind and name are such a finding; the first holds.
    """
    findings: list[Finding] = []
    known: dict[tuple[str, str, str], Resource[Any]] = {}
    serial: set[str] = set()
    sharing: set[str] = set()
    concurrent: set[str] = set()
    for path in reading.files(Path(each) for each in paths):
        documents, wrong = reading.read(path)
        findings += wrong
        for document in (each for found in documents for each in _items(found)):
            resource, wrong = parse_resource(_placed(document.data, namespace), document.origin)
            findings += wrong
            if resource and resource.kind == "EventType":
                resource, wrong = schemas.resolve(resource)
                findings += wrong
            if resource:
                _keep(resource, known, findings)
            for names, delivers in ((serial, one_at_a_time), (sharing, shares_workers), (concurrent, several_at_once)):
                if component := delivers(document.data):
                    names.add(component)
    inventory = Inventory(known.values(), findings)
    inventory.serial |= serial
    inventory.sharing |= sharing
    inventory.concurrent |= concurrent
    return inventory


def _items(document: Document, depth: int = 0) -> Iterator[Document]:
    """Yield the items of a list as `kubectl get -o yaml` writes it, also of lists within lists; else the document."""
    data, origin = document.data, document.origin
    kind = data.get("kind") if isinstance(data, dict) else None
    if not isinstance(kind, str) or not kind.endswith("List") or not isinstance(data.get("items"), list):
        yield document
        return
    # The items of a list of one kind may leave out what the list says already.
    given = {"apiVersion": data.get("apiVersion"), "kind": kind.removesuffix("List")} if kind != "List" else {}
    for place, item in enumerate(data["items"]):
        inner = Document({**given, **item} if isinstance(item, dict) else item, origin.below("items", place))
        if depth < MAX_LISTS:
            yield from _items(inner, depth + 1)
        else:
            yield inner


def _placed(data: Any, namespace: str) -> Any:
    """Give a document its namespace, unless it has one or is not what it should be."""
    metadata = data.get("metadata") if isinstance(data, dict) else None
    return {**data, "metadata": {"namespace": namespace, **metadata}} if isinstance(metadata, dict) else data


def _keep(resource: Resource[Any], known: dict[tuple[str, str, str], Resource[Any]], findings: list[Finding]) -> None:
    first = known.setdefault((resource.kind, *resource.key), resource)
    if first is not resource:
        message = f"{resource.ref} is written twice, first at {first.origin.at()}"
        findings.append(
            resource.finding("error", "doubled-resource", message, "Rename or delete one.", at=("metadata", "name"))
        )
