"""YAML files into plain documents, each with its origin; what is no YAML becomes a finding."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tidings.resources.findings import Finding, Location
from tidings.resources.origin import Origin

SUFFIXES = (".yaml", ".yml")
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML document."""

    data: Any
    origin: Origin


def files(paths: Iterable[Path]) -> Iterator[Path]:
    """Yield the YAML files at or below the paths, in a stable order, each once."""
    found: dict[Path, None] = {}
    for path in paths:
        below = [each for each in sorted(path.rglob("*")) if each.suffix in SUFFIXES] if path.is_dir() else [path]
        found.update(dict.fromkeys(below))
    return iter(found)


def read(path: Path) -> tuple[list[Document], list[Finding]]:
    """Read all documents of a file. A syntax error ends the file's reading: what stood before it counts."""
    name = str(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        return [], [
            Finding(
                "error",
                "file-unreadable",
                f"{name} cannot be read: {error}",
                "Check path and encoding (UTF-8).",
                Location(name),
            )
        ]
    return parse(text, name)


def parse(text: str, name: str = "") -> tuple[list[Document], list[Finding]]:
    """Read all documents of a YAML text; `name` is what locations call it."""
    documents: list[Document] = []
    findings: list[Finding] = []
    lines = tuple(text.splitlines())
    loader = _Loader(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            if node is not None:
                findings += (_doubled(key, name) for key in _doubled_keys(node))
            documents.append(Document(loader.construct_document(node), Origin(name, node, lines)))
    except yaml.YAMLError as error:
        findings.append(_syntax(error, name))
    finally:
        loader.dispose()
    return [document for document in documents if document.data is not None], findings


def _syntax(error: yaml.YAMLError, name: str) -> Finding:
    mark = getattr(error, "problem_mark", None)
    place = Location(name, mark.line + 1, mark.column + 1) if mark else Location(name)
    problem = getattr(error, "problem", None) or str(error)
    return Finding("error", "yaml-syntax", f"This is no YAML: {problem}", "Check indentation, quotes and ':'.", place)


def _doubled(key: yaml.ScalarNode, name: str) -> Finding:
    return Finding(
        "error",
        "yaml-doubled-field",
        f"The field {key.value!r} stands twice in one block: YAML would silently keep the last one",
        "Keep one of the two.",
        Location(name, key.start_mark.line + 1, key.start_mark.column + 1, key.value),
    )


def _doubled_keys(node: yaml.Node) -> Iterator[yaml.ScalarNode]:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                yield key
            seen.add(str(key.value))
            yield from _doubled_keys(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from _doubled_keys(value)
