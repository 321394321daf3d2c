"""Can a reader that holds one JSON Schema read what a writer with another one writes?

A comparison of schemas, not of data, so it errs on the strict side: where two schemas cannot be compared (patterns,
`not`, conditions), a difference counts as a problem. Readers are tolerant: what they do not know, they skip.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Schema = Mapping[str, Any]

_LOWER = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_UPPER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_EXACT = ("pattern", "multipleOf", "uniqueItems", "not", "if", "then", "else", "contains", "patternProperties")
_MAX_DEPTH = 32


@dataclass(frozen=True, slots=True)
class Problem:
    """Why the reader would trip, and at which field of the data."""

    field: str
    message: str


def problems(reader: Any, writer: Any) -> list[Problem]:
    """Return every reason why some data that the writer may write is none that the reader may read."""
    return _Comparison(_as_schema(reader), _as_schema(writer)).between(_as_schema(reader), _as_schema(writer), "data")


@dataclass(frozen=True, slots=True)
class _Comparison:
    """The two documents, which local references point into."""

    reader: Schema
    writer: Schema

    def between(self, reader: Schema, writer: Schema, at: str, depth: int = 0) -> list[Problem]:
        """Every way the writer may write must be one that the reader can read."""
        if reader == writer or depth > _MAX_DEPTH:
            return []
        ways = _alternatives(reader, self.reader)
        found: list[Problem] = []
        for written in _alternatives(writer, self.writer):
            judged = [[*self._way(way, written, at, depth)] for way in ways]
            least: list[Problem] = min(judged, key=len, default=[])
            found += least
        return list(dict.fromkeys(found))

    def _way(self, reader: Schema, writer: Schema, at: str, depth: int) -> Iterator[Problem]:
        mine, theirs = reader.get("type"), writer.get("type")
        if mine is not None and mine != theirs and (mine, theirs) != ("number", "integer"):
            yield Problem(at, f"is {_type(theirs)} for the writer, {_type(mine)} for the reader")
            return
        yield from _values(reader, writer, at)
        yield from _bounds(reader, writer, at)
        yield from self._properties(reader, writer, at, depth)
        if "items" in reader:
            yield from self.between(
                _as_schema(reader["items"]), _as_schema(writer.get("items", True)), f"{at}[]", depth + 1
            )

    def _properties(self, reader: Schema, writer: Schema, at: str, depth: int) -> Iterator[Problem]:
        known, written = reader.get("properties", {}), writer.get("properties", {})
        for name in sorted(set(reader.get("required", ())) - set(writer.get("required", ()))):
            reason = "may be left out by the writer" if name in written else "is not written at all"
            yield Problem(f"{at}.{name}", f"{reason}, but the reader requires it")
        others = reader.get("additionalProperties", True)
        for name in sorted(written):
            if name in known:
                yield from self.between(_as_schema(known[name]), _as_schema(written[name]), f"{at}.{name}", depth + 1)
            elif others is False:
                yield Problem(f"{at}.{name}", "is written, but the reader allows no further properties")


def _as_schema(schema: Any) -> Schema:
    """`true` and what is missing allow anything, `false` allows nothing."""
    if schema is False:
        return {"enum": []}
    return schema if isinstance(schema, Mapping) else {}


def _alternatives(schema: Schema, document: Schema, depth: int = 0) -> list[Schema]:
    """Open references, anyOf, oneOf, allOf and lists of types: schemas of one type each."""
    if depth > _MAX_DEPTH:
        return [{}]
    rest = {name: value for name, value in schema.items() if name not in ("$ref", "anyOf", "oneOf", "allOf")}
    parts: list[Any] = [_follow(schema["$ref"], document)] if "$ref" in schema else []
    parts += schema.get("allOf", [])
    ways: list[Schema] = [rest]
    for part in parts:
        opened = _alternatives(_as_schema(part), document, depth + 1)
        ways = [_both(way, each) for way in ways for each in opened]
    for choice in ("anyOf", "oneOf"):
        if choice in schema:
            opened = [each for way in schema[choice] for each in _alternatives(_as_schema(way), document, depth + 1)]
            ways = [_both(way, each) for way in ways for each in opened]
    return [single for way in ways for single in _single_types(way)]


def _follow(reference: str, document: Schema) -> Any:
    target: Any = document
    for step in reference.removeprefix("#").strip("/").split("/"):
        target = target.get(step.replace("~1", "/").replace("~0", "~"), {}) if isinstance(target, Mapping) else {}
    return target


def _both(one: Schema, other: Schema) -> Schema:
    """Join two schemas that both must hold; of two different values of a keyword the second one's is kept."""
    joined = {**one, **other}
    if "properties" in one and "properties" in other:
        joined["properties"] = {**one["properties"], **other["properties"]}
    if "required" in one and "required" in other:
        joined["required"] = sorted({*one["required"], *other["required"]})
    return joined


def _single_types(schema: Schema) -> list[Schema]:
    types = schema.get("type")
    return [{**schema, "type": each} for each in types] if isinstance(types, list) else [schema]


def _type(name: Any) -> str:
    return "of any type" if name is None else str(name)


def _values(reader: Schema, writer: Schema, at: str) -> Iterator[Problem]:
    mine, theirs = _enumerated(reader), _enumerated(writer)
    if mine is None:
        return
    if theirs is None:
        yield Problem(at, f"may have any value for the writer, only {_list(mine)} for the reader")
    elif unknown := [value for value in theirs if value not in mine]:
        yield Problem(at, f"may be {_list(unknown)}, which the reader does not know")


def _enumerated(schema: Schema) -> list[Any] | None:
    if "const" in schema:
        return [schema["const"]]
    return list(schema["enum"]) if "enum" in schema else None


def _list(values: list[Any]) -> str:
    return ", ".join(repr(value) for value in values) or "no value"


def _bounds(reader: Schema, writer: Schema, at: str) -> Iterator[Problem]:
    for keywords, stricter in ((_LOWER, 1), (_UPPER, -1)):
        for keyword in keywords:
            mine, theirs = reader.get(keyword), writer.get(keyword)
            if mine is not None and (theirs is None or (mine - theirs) * stricter > 0):
                yield Problem(at, f"has {keyword} {theirs} for the writer, {mine} for the reader")
    for keyword in (*_EXACT, "format"):
        mine, theirs = reader.get(keyword), writer.get(keyword)
        if mine is not None and mine != theirs:
            yield Problem(at, f"has {keyword} {theirs} for the writer, {mine} for the reader")
