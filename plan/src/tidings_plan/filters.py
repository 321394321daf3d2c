"""Compile filters to CEL. Every field access is guarded by has(), because daprd dead-letters events on CEL errors."""

import json
import re
from collections.abc import Iterator, Sequence

from tidings_plan.resources.source_location import Path
from tidings_plan.resources.subscription import Filter

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_RESERVED = frozenset(
    (
        *("as", "break", "const", "continue", "else", "false", "for", "function", "if", "import", "in", "let"),
        *("loop", "namespace", "null", "package", "return", "true", "var", "void", "while"),
    )
)


def terms(filters: Sequence[Filter]) -> list[str]:
    """Compile a filter list to CEL conditions that must all match."""
    return [term for condition in filters for term in _terms(condition)]


def raw_cel(filters: Sequence[Filter], at: Path = ()) -> Iterator[tuple[str, Path]]:
    """Yield all hand-written expressions with their paths, at any depth."""
    for index, condition in enumerate(filters):
        yield from _raw(condition, (*at, index))


def conjunction(parts: list[str]) -> str:
    """Join conditions with &&, in parentheses if there are several."""
    return " && ".join(f"({part})" for part in parts) if len(parts) > 1 else "".join(parts)


def embeddable(expression: str) -> str:
    """Prepare a hand-written expression for parentheses: a trailing comment must not swallow the closing one."""
    bare = expression.strip()
    return f"{bare}\n" if "//" in bare else bare


def operators(condition: Filter) -> list[str]:
    """Return the operators that are set; exactly one is valid."""
    return [name for name in Filter.__struct_encode_fields__ if _value(condition, name) is not None]


def read(key: str) -> tuple[str, str]:
    """Return the guard of a key and the expression that reads it: `data.a` -> (has(...), event.data.a)."""
    place, guards = "event", []
    for step in key.split("."):
        plain = _IDENTIFIER.fullmatch(step) and step not in _RESERVED
        inside = f"{place}.{step}" if plain else f"{place}[{literal(step)}]"
        guards.append(f"has({inside})" if plain else f"{literal(step)} in {place}")
        place = inside
    return " && ".join(guards), place


def literal(value: str | float | bool) -> str:
    """Format a value as a CEL literal."""
    return json.dumps(value, ensure_ascii=False)


def _terms(condition: Filter) -> list[str]:
    if condition.all is not None:
        return terms(condition.all)
    if condition.cel is not None:
        return [embeddable(condition.cel)]
    if condition.any is not None:
        ways = [conjunction(_terms(part)) for part in condition.any]
        return [" || ".join(f"({way})" for way in ways)]
    if condition.not_ is not None:
        return [f"!({conjunction(_terms(condition.not_))})"]
    compiled = []
    for key, expected in (condition.exact or {}).items():
        guard, place = read(key)
        compiled.append(f"{guard} && {place} == {literal(expected)}")
    for operator, function in (("prefix", "startsWith"), ("suffix", "endsWith")):
        for key, value in (_value(condition, operator) or {}).items():
            guard, place = read(key)
            # startsWith() on a number is an error, which would dead-letter the event: check the type first.
            compiled.append(f"{guard} && type({place}) == string && {place}.{function}({literal(value)})")
    return compiled


def _raw(condition: Filter, at: Path) -> Iterator[tuple[str, Path]]:
    if condition.cel is not None:
        yield condition.cel, (*at, "cel")
    for name, parts in (("all", condition.all), ("any", condition.any)):
        yield from raw_cel(parts or (), (*at, name))
    if condition.not_ is not None:
        yield from _raw(condition.not_, (*at, "not"))


def _value(condition: Filter, encoded: str) -> dict[str, str] | None:
    value: dict[str, str] | None = getattr(condition, "not_" if encoded == "not" else encoded)
    return value
