"""YAML files into plain documents, each with its origin; what is no YAML becomes a finding.

Reading is safe for any file: its size, its depth and what its aliases expand to are bounded before anything is built,
and only the types of JSON are built. Dates stay texts, as Kubernetes reads them.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tidings.resources.findings import Finding, Location
from tidings.resources.origin import Origin

SUFFIXES = (".yaml", ".yml")
MAX_BYTES = 16_000_000
"""Of one file. A resource may have 1.5 MB on a cluster."""
MAX_DEPTH = 100
"""Blocks within blocks; the parser's own recursion ends the process at some 100,000."""
MAX_NODES = 1_000_000
"""Values of one document, with every alias counted as what it stands for."""
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"
_MERGE = f"{_TAG}merge"
_STARTS = (yaml.SequenceStartEvent, yaml.MappingStartEvent)
_ENDS = (yaml.SequenceEndEvent, yaml.MappingEndEvent)


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML document."""

    data: Any
    origin: Origin


class _Refused(yaml.MarkedYAMLError):
    """Valid YAML that is not read."""


def files(paths: Iterable[Path]) -> Iterator[Path]:
    """Yield the YAML files at or below the paths, in a stable order, each once."""
    found: dict[Path, None] = {}
    for path in paths:
        below = [each for each in sorted(path.rglob("*")) if each.suffix in SUFFIXES] if path.is_dir() else [path]
        found.update(dict.fromkeys(below))
    return iter(found)


def text_of(path: Path) -> str:
    """Return the text of a regular file of bounded size; raise OSError or UnicodeDecodeError otherwise."""
    if path.exists() and not path.is_file():
        raise OSError(0, "it is no regular file")
    if path.stat().st_size > MAX_BYTES:
        raise OSError(0, f"it has more than {MAX_BYTES // 1_000_000} MB")
    return path.read_text(encoding="utf-8-sig")


def read(path: Path) -> tuple[list[Document], list[Finding]]:
    """Read all documents of a file. A syntax error ends the file's reading: what stood before it counts."""
    name = str(path)
    try:
        text = text_of(path)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        message, fix = f"{name} cannot be read: {reason}", "Check path and encoding (UTF-8)."
        return [], [Finding("error", "file-unreadable", message, fix, Location(name))]
    return parse(text, name)


def parse(text: str, name: str = "") -> tuple[list[Document], list[Finding]]:
    """Read all documents of a YAML text; `name` is what locations call it."""
    documents: list[Document] = []
    findings: list[Finding] = []
    lines = tuple(text.splitlines())
    try:
        _check_depth(text)
        for node in _nodes(text):
            findings += (_doubled(key, name) for key in _doubled_keys(node))
            documents.append(Document(_Builder().build(node), Origin(name, node, lines)))
    except yaml.YAMLError as error:
        findings.append(_syntax(error, name))
    return [document for document in documents if document.data is not None], findings


def _check_depth(text: str) -> None:
    """Raise for what is nested too deep: the events come one after the other, without any recursion."""
    loader, depth = _Loader(text), 0
    try:
        while loader.check_event():
            event = loader.get_event()
            depth += isinstance(event, _STARTS) - isinstance(event, _ENDS)
            if depth > MAX_DEPTH:
                raise _Refused(problem=f"nested more than {MAX_DEPTH} levels deep", problem_mark=event.start_mark)
    except yaml.YAMLError as error:
        if isinstance(error, _Refused):
            raise
        # The same error comes again where the documents before it have been read.
    finally:
        loader.dispose()


def _nodes(text: str) -> Iterator[yaml.Node]:
    loader = _Loader(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            if node is not None:
                yield node
    finally:
        loader.dispose()


class _Builder:
    """Builds the plain value of one document. An alias gives the same object as its anchor, and counts each time."""

    def __init__(self) -> None:
        self._scalars = _Loader("")
        self._built: dict[yaml.Node, tuple[Any, int]] = {}
        self._open: set[yaml.Node] = set()

    def build(self, node: yaml.Node) -> Any:
        """Return the document's value; raise YAMLError where it has none or is too large."""
        return self._value(node)[0]

    def _value(self, node: yaml.Node) -> tuple[Any, int]:
        """Return a value, and how many values it is made of."""
        if node in self._built:
            return self._built[node]
        if node in self._open:
            raise _Refused(problem="an alias within what it stands for", problem_mark=node.start_mark)
        self._open.add(node)
        value, size = self._children(node)
        self._open.discard(node)
        if size > MAX_NODES:
            problem = f"with its aliases expanded, more than {MAX_NODES} values"
            raise _Refused(problem=problem, problem_mark=node.start_mark)
        self._built[node] = value, size
        return value, size

    def _children(self, node: yaml.Node) -> tuple[Any, int]:
        if isinstance(node, yaml.SequenceNode) and node.tag == f"{_TAG}seq":
            below = [self._value(each) for each in node.value]
            return [value for value, _ in below], 1 + sum(size for _, size in below)
        if isinstance(node, yaml.MappingNode) and node.tag == f"{_TAG}map":
            return self._mapping(node)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node), 1
        raise _Refused(problem=f"the tag {node.tag!r} is not read", problem_mark=node.start_mark)

    def _mapping(self, node: yaml.MappingNode) -> tuple[dict[str, Any], int]:
        merged: dict[str, Any] = {}
        own: dict[str, Any] = {}
        total = 1
        for key, child in node.value:
            value, size = self._value(child)
            total += size
            if not isinstance(key, yaml.ScalarNode):
                raise _Refused(problem="a field's name is a list or a map", problem_mark=key.start_mark)
            if key.tag != _MERGE:
                own[key.value] = value  # as Kubernetes does, whatever YAML takes it for: `1` and `yes` are texts
                continue
            for each in reversed(value) if isinstance(value, list) else [value]:
                if not isinstance(each, dict):
                    raise _Refused(problem="`<<` stands for no map", problem_mark=child.start_mark)
                merged |= each
        return merged | own, total

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        kind = node.tag.removeprefix(_TAG)
        if kind in ("str", "timestamp", "value"):
            return node.value
        if kind not in ("null", "bool", "int", "float"):
            raise _Refused(problem=f"the tag {node.tag!r} is not read", problem_mark=node.start_mark)
        try:
            return getattr(self._scalars, f"construct_yaml_{kind}")(node)
        except (ValueError, ArithmeticError, LookupError) as error:
            problem = f"{node.value[:40]!r} is no number that can be read"
            raise _Refused(problem=problem, problem_mark=node.start_mark) from error


def _syntax(error: yaml.YAMLError, name: str) -> Finding:
    mark = getattr(error, "problem_mark", None)
    place = Location(name, mark.line + 1, mark.column + 1) if mark else Location(name)
    problem = getattr(error, "problem", None) or str(error)
    if isinstance(error, _Refused):
        return Finding("error", "yaml-refused", f"This YAML is not read: {problem}", "Write it out plainly.", place)
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
    """Yield each field that stands twice in its block; what aliases repeat is looked at once."""
    waiting, known = [node], {id(node)}
    while waiting:
        each = waiting.pop()
        below: list[yaml.Node] = list(each.value) if isinstance(each, yaml.SequenceNode) else []
        if isinstance(each, yaml.MappingNode):
            seen: set[str] = set()
            for key, value in each.value:
                below.append(value)
                if isinstance(key, yaml.ScalarNode):
                    if key.value in seen:
                        yield key
                    seen.add(key.value)
        fresh = [child for child in below if id(child) not in known]
        known.update(map(id, fresh))
        waiting += fresh
