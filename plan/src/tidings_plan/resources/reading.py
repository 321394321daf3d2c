"""Read YAML files into plain documents with their origins; syntax errors become findings.

Reading is safe for untrusted files: size, depth and alias expansion are limited before anything is built, and only JSON
types are built. Dates remain strings, as in Kubernetes.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tidings_plan.resources.findings import Finding, Location
from tidings_plan.resources.model import GROUP
from tidings_plan.resources.source_location import Origin

SUFFIXES = (".yaml", ".yml")
MAX_BYTES = 16_000_000
"""Maximum size of a file. A single resource in a cluster is limited to 1.5 MB."""
MAX_DEPTH = 100
"""Maximum nesting. The parser recurses and crashes the process at about 100,000 levels."""
MAX_NODES = 1_000_000
"""Maximum values of one document, with aliases expanded."""
MAX_DOCUMENTS = 10_000
"""Maximum documents of one file."""
MAX_NUMBER = 400
"""Maximum characters of a number. The largest double has 309 digits."""
_EXPONENT = re.compile(r"[-+]?\d+[eE][-+]?\d+")
"""Numbers that Kubernetes reads as such, and YAML 1.1 as text."""
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


class _Unsupported(yaml.MarkedYAMLError):
    """Valid YAML that is not supported."""


def files(paths: Iterable[Path]) -> Iterator[Path]:
    """Yield the files with resources at or below the paths, in a stable order and without duplicates."""
    unique: dict[Path, None] = {}
    for path in paths:
        below = [file for file in sorted(path.rglob("*")) if _may_have_resources(file)] if path.is_dir() else [path]
        unique.update(dict.fromkeys(below))
    return iter(unique)


def _may_have_resources(file: Path) -> bool:
    """Return True for YAML, and for JSON that names our API group: contracts folders also hold schemas and examples."""
    if file.suffix.lower() != ".json" or not file.is_file():
        return file.suffix.lower() in SUFFIXES
    try:
        with file.open("rb") as opened:
            return f"{GROUP}/".encode() in opened.read(MAX_BYTES)
    except OSError:
        return True  # it is reported when it is read


def text_of(path: Path) -> str:
    """Return the text of a regular file.

    Raises:
        OSError: The file is missing, not regular or too large.
        UnicodeDecodeError: The file is not UTF-8.

    """
    if path.exists() and not path.is_file():
        raise OSError(0, "not a regular file")
    with path.open("rb") as file:  # the size that a file of /proc states is 0
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise OSError(0, f"larger than {MAX_BYTES // 1_000_000} MB")
    return content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")


def read(path: Path) -> tuple[list[Document], list[Finding]]:
    """Read all documents of a file. Documents before a syntax error are kept."""
    name = str(path)
    try:
        text = text_of(path)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        message, fix = f"{name} cannot be read: {reason}", "Check path and encoding (UTF-8)."
        return [], [Finding("error", "file-unreadable", message, fix, Location(name))]
    return parse(text, name)


def parse(text: str, name: str = "") -> tuple[list[Document], list[Finding]]:
    """Read all documents of a YAML text. Locations refer to it as `name`."""
    documents: list[Document] = []
    findings: list[Finding] = []
    lines = tuple(text.splitlines())
    try:
        _check_depth(text)
        for node in _nodes(text):
            for key in _duplicate_keys(node):
                message = f"Duplicate field {key.value!r}: YAML would silently keep the last one"
                location = Location(name, key.start_mark.line + 1, key.start_mark.column + 1, key.value)
                findings.append(Finding("error", "yaml-duplicate-field", message, "Remove one of them.", location))
            documents.append(Document(_Builder().build(node), Origin(name, node, lines)))
    except yaml.YAMLError as error:
        findings.append(_syntax(error, name))
    return [document for document in documents if document.data is not None], findings


def _check_depth(text: str) -> None:
    """Raise for documents that are nested too deeply.

    Parse events are produced iteratively, so this check itself cannot overflow the stack.
    """
    loader, depth = _Loader(text), 0
    try:
        while loader.check_event():
            event = loader.get_event()
            depth += isinstance(event, _STARTS) - isinstance(event, _ENDS)
            if depth > MAX_DEPTH:
                raise _Unsupported(problem=f"nested more than {MAX_DEPTH} levels deep", problem_mark=event.start_mark)
    except yaml.YAMLError as error:
        if isinstance(error, _Unsupported):
            raise
        # A syntax error is raised again by the caller, after it has read the documents before it.
    finally:
        loader.dispose()


def _nodes(text: str) -> Iterator[yaml.Node]:
    loader = _Loader(text)
    try:
        count = 0
        while loader.check_node():
            node, count = loader.get_node(), count + 1
            if count > MAX_DOCUMENTS:
                mark = node.start_mark if node else None
                raise _Unsupported(problem=f"more than {MAX_DOCUMENTS} documents in one file", problem_mark=mark)
            if node is not None:
                yield node
    finally:
        loader.dispose()


class _Builder:
    """Build the plain value of one document. An alias yields its anchor's object and is counted at every use."""

    def __init__(self) -> None:
        self._scalars = _Loader("")
        self._built: dict[yaml.Node, tuple[Any, int]] = {}
        self._open: set[yaml.Node] = set()

    def build(self, node: yaml.Node) -> Any:
        """Return the document's value; raise YAMLError if it is unsupported or too large."""
        return self._value(node)[0]

    def _value(self, node: yaml.Node) -> tuple[Any, int]:
        """Return a value and the number of values it contains."""
        if node in self._built:
            return self._built[node]
        if node in self._open:
            raise _Unsupported(problem="an alias inside its own anchor", problem_mark=node.start_mark)
        self._open.add(node)
        value, size = self._children(node)
        self._open.discard(node)
        if size > MAX_NODES:
            problem = f"with its aliases expanded, more than {MAX_NODES} values"
            raise _Unsupported(problem=problem, problem_mark=node.start_mark)
        self._built[node] = value, size
        return value, size

    def _children(self, node: yaml.Node) -> tuple[Any, int]:
        if isinstance(node, yaml.SequenceNode) and node.tag == f"{_TAG}seq":
            below = [self._value(child) for child in node.value]
            return [value for value, _ in below], 1 + sum(size for _, size in below)
        if isinstance(node, yaml.MappingNode) and node.tag == f"{_TAG}map":
            return self._mapping(node)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node), 1
        raise _Unsupported(problem=f"the tag {node.tag!r} is not supported", problem_mark=node.start_mark)

    def _mapping(self, node: yaml.MappingNode) -> tuple[dict[str, Any], int]:
        merged: dict[str, Any] = {}
        own: dict[str, Any] = {}
        total = 1
        for key, child in node.value:
            value, size = self._value(child)
            total += size
            if not isinstance(key, yaml.ScalarNode):
                raise _Unsupported(problem="a field's name is a list or a map", problem_mark=key.start_mark)
            if key.tag != _MERGE:
                own[key.value] = (
                    value  # keys are strings, as in Kubernetes, even if YAML reads `1` or `yes` as other types
                )
                continue
            for mapping in reversed(value) if isinstance(value, list) else [value]:
                if not isinstance(mapping, dict):
                    raise _Unsupported(problem="`<<` does not refer to a map", problem_mark=child.start_mark)
                merged |= mapping
        return merged | own, total

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        kind = node.tag.removeprefix(_TAG)
        if kind == "str" and not node.style and _EXPONENT.fullmatch(node.value):
            kind = "float"
        if kind in ("str", "timestamp", "value") or (kind in ("int", "float") and ":" in node.value):
            return node.value  # in YAML 1.1, `1:30` is the number 90; Kubernetes reads text
        if kind in ("int", "float") and len(node.value) > MAX_NUMBER:
            raise _Unsupported(problem=f"a number with {len(node.value)} characters", problem_mark=node.start_mark)
        if kind not in ("null", "bool", "int", "float"):
            raise _Unsupported(problem=f"the tag {node.tag!r} is not supported", problem_mark=node.start_mark)
        try:
            return getattr(self._scalars, f"construct_yaml_{kind}")(node)
        except (ValueError, ArithmeticError, LookupError) as error:
            problem = f"{node.value[:40]!r} is not a valid number"
            raise _Unsupported(problem=problem, problem_mark=node.start_mark) from error


def _syntax(error: yaml.YAMLError, name: str) -> Finding:
    mark = getattr(error, "problem_mark", None)
    location = Location(name, mark.line + 1, mark.column + 1) if mark else Location(name)
    problem = getattr(error, "problem", None) or str(error)
    if isinstance(error, _Unsupported):
        return Finding("error", "yaml-unsupported", f"Unsupported YAML: {problem}", "Write the value out.", location)
    return Finding("error", "yaml-syntax", f"Invalid YAML: {problem}", "Check indentation, quotes and ':'.", location)


def _duplicate_keys(node: yaml.Node) -> Iterator[yaml.ScalarNode]:
    """Yield the duplicate fields of every block. Aliased nodes are visited once."""
    pending, known = [node], {id(node)}
    while pending:
        current = pending.pop()
        below: list[yaml.Node] = list(current.value) if isinstance(current, yaml.SequenceNode) else []
        if isinstance(current, yaml.MappingNode):
            seen: set[str] = set()
            for key, value in current.value:
                below.append(value)
                if isinstance(key, yaml.ScalarNode):
                    if key.value in seen:
                        yield key
                    seen.add(key.value)
        fresh = [child for child in below if id(child) not in known]
        known.update(map(id, fresh))
        pending += fresh
