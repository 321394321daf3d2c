"""Filters into CEL: every field guarded by has(), because daprd dead-letters what fails to evaluate."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tidings.resources.origin import Path
from tidings.resources.subscription import Filter

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_RESERVED = frozenset(
    (
        *("as", "break", "const", "continue", "else", "false", "for", "function", "if", "import", "in", "let"),
        *("loop", "namespace", "null", "package", "return", "true", "var", "void", "while"),
    )
)


@dataclass(frozen=True, slots=True)
class Term:
    """One condition of a filter list (all must hold) as CEL, and where it was written."""

    cel: str
    at: Path
    raw: bool = False
    """Written by hand: to be checked, and possibly failing on an event without the field."""


def terms(filters: Sequence[Filter]) -> list[Term]:
    """Compile a filter list; the whole matches where every term does."""
    return [term for place, each in enumerate(filters) for term in _terms(each, ("spec", "filters", place))]


def raw_cel(filters: Sequence[Filter], at: Path = ("spec", "filters")) -> Iterator[tuple[str, Path]]:
    """Yield every hand-written expression with its place, however deep."""
    for place, each in enumerate(filters):
        yield from _raw(each, (*at, place))


def conjunction(parts: list[str]) -> str:
    """Join conditions with &&, each in parentheses where it needs them."""
    return " && ".join(_parenthesised(part) for part in parts) if len(parts) > 1 else "".join(parts)


def written(expression: str) -> str:
    """Return a hand-written expression fit to stand in parentheses: a comment must not swallow what follows."""
    bare = expression.strip()
    return f"{bare}\n" if "//" in bare else bare


def operators(condition: Filter) -> list[str]:
    """Return the operators that are set: exactly one should be."""
    return [name for name in Filter.__struct_encode_fields__ if _value(condition, name) is not None]


def read(key: str) -> tuple[str, str]:
    """Return the guard of an attribute and the expression that reads it: `data.a` -> (has(...), event.data.a)."""
    place, guards = "event", []
    for step in key.split("."):
        plain = _IDENTIFIER.fullmatch(step) and step not in _RESERVED
        inside = f"{place}.{step}" if plain else f"{place}[{literal(step)}]"
        guards.append(f"has({inside})" if plain else f"{literal(step)} in {place}")
        place = inside
    return " && ".join(guards), place


def literal(value: str | float | bool) -> str:
    """Write a value as CEL does."""
    return json.dumps(value, ensure_ascii=False)


def _terms(condition: Filter, at: Path) -> list[Term]:
    if condition.all is not None:
        return [term for index, each in enumerate(condition.all) for term in _terms(each, (*at, "all", index))]
    if condition.cel is not None:
        return [Term(written(condition.cel), (*at, "cel"), raw=True)]
    if condition.any is not None:
        ways = [conjunction([term.cel for term in _terms(each, at)]) for each in condition.any]
        return [Term(" || ".join(_parenthesised(way) for way in ways), (*at, "any"))]
    if condition.not_ is not None:
        inner = conjunction([term.cel for term in _terms(condition.not_, at)])
        return [Term(f"!({inner})", (*at, "not"))]
    return [*_equalities(condition, at), *_affixes(condition, at)]


def _equalities(condition: Filter, at: Path) -> list[Term]:
    found = []
    for key, value in (condition.exact or {}).items():
        guard, place = read(key)
        found.append(Term(f"{guard} && {place} == {literal(value)}", (*at, "exact", key)))
    return found


def _affixes(condition: Filter, at: Path) -> list[Term]:
    found = []
    for operator, function in (("prefix", "startsWith"), ("suffix", "endsWith")):
        for key, value in (_value(condition, operator) or {}).items():
            guard, place = read(key)
            # A number has no startsWith: without the test of its type, the event would be dead-lettered.
            test = f"{guard} && type({place}) == string && {place}.{function}({literal(value)})"
            found.append(Term(test, (*at, operator, key)))
    return found


def _raw(condition: Filter, at: Path) -> Iterator[tuple[str, Path]]:
    if condition.cel is not None:
        yield condition.cel, (*at, "cel")
    for name, parts in (("all", condition.all), ("any", condition.any)):
        yield from raw_cel(parts or (), (*at, name))
    if condition.not_ is not None:
        yield from _raw(condition.not_, (*at, "not"))


def _value(condition: Filter, encoded: str) -> dict[str, str] | None:
    found: dict[str, str] | None = getattr(condition, "not_" if encoded == "not" else encoded)
    return found


def _parenthesised(part: str) -> str:
    return f"({part})"
