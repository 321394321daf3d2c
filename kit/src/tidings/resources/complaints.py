"""msgspec's validation errors, told to people: place, field, what was expected and what was probably meant."""

import re
import types
import typing
from typing import Any, Literal, Union

import msgspec

from tidings.resources.findings import Finding
from tidings.resources.model import PATTERNS
from tidings.resources.origin import Origin, Path, spell
from tidings.resources.suggesting import did_you_mean

SHOWN = 80
"""Characters of a wrong value that a message repeats."""

_AT = re.compile(r" - at `(?:key in )?\$?([^`]*)`$")
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]")
_UNKNOWN = re.compile(r"Object contains unknown field `(.+)`")
_MISSING = re.compile(r"Object missing required field `(.+)`")
_PATTERN = re.compile(r"Expected `str` matching regex (['\"])(.*)\1$")
_ENUM = re.compile(r"Invalid enum value (['\"]?)(.*)\1$")


def explain(
    error: msgspec.ValidationError, data: Any, kind: type[Any], at: Path, origin: Origin
) -> tuple[Path, Finding]:
    """Return the path within the block that is wrong, and the finding about it."""
    message, inner = _split(str(error))
    if unknown := _UNKNOWN.match(message):
        path: Path = (*inner, unknown[1])
        mend = did_you_mean(unknown[1], _fields(_type_at(kind, inner)))
        text = f"Unknown field {spell((*at, *path))}"
        return path, Finding("error", "unknown-field", text, mend, origin.key(*at, *path))
    if missing := _MISSING.match(message):
        text = f"{spell((*at, *inner, missing[1]))} is missing"
        return inner, Finding("error", "missing-field", text, f"Add {missing[1]}.", origin.at(*at, *inner))
    value, spelled = _value_at(data, inner), spell((*at, *inner))
    text, mend = _wrong(message, spelled, value, _type_at(kind, inner))
    return inner, Finding("error", "wrong-value", text, mend, origin.at(*at, *inner))


def without(data: Any, path: Path) -> Any:
    """Copy a block without the field at the path."""
    if isinstance(data, list):
        return [without(each, path[1:]) if place == path[0] else each for place, each in enumerate(data)]
    if len(path) == 1:
        return {name: value for name, value in data.items() if name != path[0]}
    return {name: without(value, path[1:]) if name == path[0] else value for name, value in data.items()}


def _split(text: str) -> tuple[str, Path]:
    place = _AT.search(text)
    if not place:
        return text, ()
    # `[...]` stands for a value of a mapping: its key is not told, so the place is the mapping itself.
    steps = _STEP.findall(place[1].partition("[...]")[0])
    return text[: place.start()], tuple(name or int(index) for name, index in steps)


def _wrong(message: str, field: str, value: Any, kind: Any) -> tuple[str, str]:
    if pattern := _PATTERN.match(message):
        meaning = PATTERNS.get(pattern[2].replace("\\\\", "\\"), pattern[2])
        return f"{field}: {_shown(value)} is not {meaning}", "Correct the value."
    if _ENUM.match(message):
        choices = [str(choice) for choice in _choices(kind)]
        return f"{field}: {_shown(value)} is not allowed", did_you_mean(str(value)[:SHOWN], choices)
    if "RFC3339" in message:
        return f"{field}: {_shown(value)} is no {message.rpartition(' ')[2]} that exists", "Write 2026-12-31."
    hint = "Quote it to make it a text." if "Expected `str`, got" in message else "Correct the value."
    return f"{field}: {message[0].lower()}{message[1:]}".replace("`", ""), hint


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _value_at(data: Any, path: Path) -> Any:
    for step in path:
        data = data[step]
    return data


def _unwrap(kind: Any) -> list[Any]:
    """Open Annotated and unions: the plain types a value may have."""
    origin = typing.get_origin(kind)
    if origin is typing.Annotated:
        return _unwrap(typing.get_args(kind)[0])
    if origin in (Union, types.UnionType):
        return [plain for each in typing.get_args(kind) for plain in _unwrap(each)]
    return [kind]


def _type_at(kind: Any, path: Path) -> Any:
    """Walk the models along a path; None where it leaves them."""
    for step in path:
        kind = _below(kind, step)
    return kind


def _below(kind: Any, step: str | int) -> Any:
    for plain in _unwrap(kind):
        if isinstance(step, int) and typing.get_origin(plain) is tuple:
            return typing.get_args(plain)[0]
        if isinstance(plain, type) and issubclass(plain, msgspec.Struct):
            hints = typing.get_type_hints(plain, include_extras=True)
            for field in msgspec.structs.fields(plain):
                if field.encode_name == step:
                    return hints[field.name]
    return None


def _fields(kind: Any) -> list[str]:
    return [
        field.encode_name
        for plain in _unwrap(kind)
        if isinstance(plain, type) and issubclass(plain, msgspec.Struct)
        for field in msgspec.structs.fields(plain)
    ]


def _choices(kind: Any) -> list[Any]:
    return [
        choice for plain in _unwrap(kind) if typing.get_origin(plain) is Literal for choice in typing.get_args(plain)
    ]
