"""Turn msgspec's validation errors into readable diagnostics: location, field, expected value and suggestion."""

import re
import types
import typing
from typing import Any, Literal, Union

import msgspec

from tidings_plan.resources.did_you_mean import did_you_mean
from tidings_plan.resources.findings import Finding
from tidings_plan.resources.model import PATTERNS
from tidings_plan.resources.source_location import Origin, Path, spell

MAX_QUOTED = 80
"""Maximum characters of an invalid value that a message quotes."""

_AT = re.compile(r" - at `(?:key in )?\$?([^`]*)`$")
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]")
_UNKNOWN = re.compile(r"Object contains unknown field `(.+)`")
_MISSING = re.compile(r"Object missing required field `(.+)`")
_PATTERN = re.compile(r"Expected `str` matching regex (['\"])(.*)\1$")
_ENUM = re.compile(r"Invalid enum value (['\"]?)(.*)\1$")


def explain(
    error: msgspec.ValidationError, data: Any, kind: type[Any], at: Path, origin: Origin
) -> tuple[Path, Finding]:
    """Return the invalid path within the block, and the finding about it."""
    message, inner = _split(str(error))
    if unknown := _UNKNOWN.match(message):
        path: Path = (*inner, unknown[1])
        fields = [
            field.encode_name
            for plain in _unwrap(_type_at(kind, inner))
            if isinstance(plain, type) and issubclass(plain, msgspec.Struct)
            for field in msgspec.structs.fields(plain)
        ]
        text = f"Unknown field {spell((*at, *path))}"
        return path, Finding("error", "unknown-field", text, did_you_mean(unknown[1], fields), origin.key(*at, *path))
    if missing := _MISSING.match(message):
        text = f"{spell((*at, *inner, missing[1]))} is missing"
        return inner, Finding("error", "missing-field", text, f"Add {missing[1]}.", origin.at(*at, *inner))
    for step in inner:
        data = data[step]
    value, spelled = data, spell((*at, *inner))
    text, fix = _wrong(message, spelled, value, _type_at(kind, inner))
    return inner, Finding("error", "wrong-value", text, fix, origin.at(*at, *inner))


def without(data: Any, path: Path) -> Any:
    """Return a copy of a block without the field at the path."""
    if isinstance(data, list):
        return [without(item, path[1:]) if index == path[0] else item for index, item in enumerate(data)]
    if len(path) == 1:
        return {name: value for name, value in data.items() if name != path[0]}
    return {name: without(value, path[1:]) if name == path[0] else value for name, value in data.items()}


def _split(text: str) -> tuple[str, Path]:
    location = _AT.search(text)
    if not location:
        return text, ()
    # msgspec writes `[...]` for a value of a mapping without naming its key: report the mapping itself.
    steps = _STEP.findall(location[1].partition("[...]")[0])
    return text[: location.start()], tuple(name or int(index) for name, index in steps)


def _wrong(message: str, field: str, value: Any, kind: Any) -> tuple[str, str]:
    if pattern := _PATTERN.match(message):
        meaning = PATTERNS.get(pattern[2].replace("\\\\", "\\"), pattern[2])
        return f"{field}: {_quote(value)} is not {meaning}", "Correct the value."
    if _ENUM.match(message):
        literals = [plain for plain in _unwrap(kind) if typing.get_origin(plain) is Literal]
        choices = [str(choice) for literal in literals for choice in typing.get_args(literal)]
        return f"{field}: {_quote(value)} is not allowed", did_you_mean(str(value)[:MAX_QUOTED], choices)
    if "RFC3339" in message:
        return f"{field}: {_quote(value)} is not a valid {message.rpartition(' ')[2]}", "Write it like 2026-12-31."
    hint = "Quote it to make it a string." if "Expected `str`, got" in message else "Correct the value."
    return f"{field}: {message[0].lower()}{message[1:]}".replace("`", ""), hint


def _quote(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]}..."


def _unwrap(kind: Any) -> list[Any]:
    """Return the plain types behind Annotated and unions."""
    origin = typing.get_origin(kind)
    if origin is typing.Annotated:
        return _unwrap(typing.get_args(kind)[0])
    if origin in (Union, types.UnionType):
        return [plain for member in typing.get_args(kind) for plain in _unwrap(member)]
    return [kind]


def _type_at(kind: Any, path: Path) -> Any:
    """Return the type at a path below a model, or None if the path leaves the models."""
    for step in path:
        kind = _below(kind, step)
    return kind


def _below(kind: Any, step: str | int) -> Any:
    for plain in _unwrap(kind):
        if isinstance(step, int) and typing.get_origin(plain) in (tuple, list):
            return typing.get_args(plain)[0]
        if isinstance(plain, type) and issubclass(plain, msgspec.Struct):
            hints = typing.get_type_hints(plain, include_extras=True)
            for field in msgspec.structs.fields(plain):
                if field.encode_name == step:
                    return hints[field.name]
    return None
