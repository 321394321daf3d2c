"""Validate a value against a schema: True, False, or None if a keyword is not supported here."""

import operator
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from typing import Any

from tidings_plan.jsonschema.node import ANYTHING, Node, key, type_of
from tidings_plan.patterns import search

Verdict = bool | None
_SIZES: Mapping[str, tuple[type[Any], int]] = {
    "minLength": (str, 1),
    "maxLength": (str, -1),
    "minItems": (list, 1),
    "maxItems": (list, -1),
    "minProperties": (dict, 1),
    "maxProperties": (dict, -1),
}


def accepts(value: Any, node: Node) -> Verdict:
    """Decide whether a value suits a schema; formats and contents are never decided."""
    return every(_keyword(value, name, argument, node) for name, argument in node.keywords.items())


def every(verdicts: Iterable[Verdict]) -> Verdict:
    """Return whether all hold: no as soon as one does not, unknown if that may be."""
    result: Verdict = True
    for verdict in verdicts:
        if verdict is False:
            return False
        result = None if verdict is None else result
    return result


def some(verdicts: Iterable[Verdict]) -> Verdict:
    """Return whether one holds."""
    return opposite(every(opposite(verdict) for verdict in verdicts))


def opposite(verdict: Verdict) -> Verdict:
    """Return the verdict on the negation."""
    return None if verdict is None else not verdict


def _keyword(value: Any, name: str, argument: Any, node: Node) -> Verdict:
    if name == "type":
        return type_of(value) in node.types
    if name in ("enum", "const"):
        return key(value) in (node.allowed or frozenset())
    if name in _COMBINED:
        return _COMBINED[name](value, argument, node)
    if name in _SIZES:
        sized, sign = _SIZES[name]
        return not isinstance(value, sized) or (len(value) - argument) * sign >= 0
    kind = next((kind for kind in _BY_TYPE if isinstance(value, kind)), bool)
    names, decide = _BY_TYPE[kind]
    if name in names:
        return decide(value, name, argument, node)
    return True if name in _KNOWN else None


def _if(value: Any, condition: Node, node: Node) -> Verdict:
    then, otherwise = (accepts(value, node.keywords.get(keyword, ANYTHING)) for keyword in ("then", "else"))
    verdict = accepts(value, condition)
    if verdict is None:
        return True if then is True and otherwise is True else None
    return then if verdict else otherwise


def _one_of(value: Any, parts: tuple[Node, ...], _: Node) -> Verdict:
    verdicts = [accepts(value, part) for part in parts]
    if verdicts.count(True) > 1:
        return False
    return None if None in verdicts else True in verdicts


def _text(value: str, name: str, argument: Any, _: Node) -> Verdict:
    return search(argument, value) if name == "pattern" else None


def _array(value: list[Any], name: str, argument: Any, node: Node) -> Verdict:
    first = node.all("prefixItems")
    if name == "prefixItems":
        return every(accepts(item, inner) for item, inner in zip(value, first, strict=False))
    if name == "items":
        return every(accepts(item, argument) for item in value[len(first) :])
    if name == "uniqueItems":
        return not argument or len({key(item) for item in value}) == len(value)
    return None


def _object(value: dict[str, Any], name: str, argument: Any, node: Node) -> Verdict:
    if name == "required":
        return all(required in value for required in argument)
    if name == "dependentRequired":
        return all(
            other in value for trigger, dependents in argument.items() if trigger in value for other in dependents
        )
    if name == "additionalProperties":
        extras = (value[key_name] for key_name in value if key_name not in node.named("properties"))
        return None if node.named("patternProperties") else every(accepts(extra, argument) for extra in extras)
    inner: Mapping[str, Callable[[], Iterable[tuple[Any, Node]]]] = {
        "properties": lambda: (
            (value[property_name], schema) for property_name, schema in argument.items() if property_name in value
        ),
        "dependentSchemas": lambda: (
            (value, schema) for property_name, schema in argument.items() if property_name in value
        ),
        "propertyNames": lambda: ((property_name, argument) for property_name in value),
    }
    return every(accepts(*pair) for pair in inner[name]()) if name in inner else None


def is_multiple(value: float, of: float) -> bool:
    """Return True if a number is a multiple of another, in decimal arithmetic: 0.3 is three times 0.1."""
    return (Fraction(str(value)) / Fraction(str(of))).denominator == 1


_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    "minimum": operator.ge,
    "maximum": operator.le,
    "exclusiveMinimum": operator.gt,
    "exclusiveMaximum": operator.lt,
}
_COMBINED: Mapping[str, Callable[[Any, Any, Node], Verdict]] = {
    "allOf": lambda value, parts, _: every(accepts(value, part) for part in parts),
    "anyOf": lambda value, parts, _: some(accepts(value, part) for part in parts),
    "oneOf": _one_of,
    "not": lambda value, part, _: opposite(accepts(value, part)),
    "if": _if,
    "then": lambda *_: True,  # decided with the condition; without one, it means nothing
    "else": lambda *_: True,
}
_Group = tuple[frozenset[str], Callable[[Any, str, Any, Node], Verdict]]
_NUMBERS: _Group = (
    frozenset((*_COMPARE, "multipleOf")),
    lambda value, name, limit, _: is_multiple(value, limit) if name == "multipleOf" else _COMPARE[name](value, limit),
)
_OBJECTS = ("properties", "patternProperties", "additionalProperties", "required", "propertyNames")
_DEPENDENT = ("dependentRequired", "dependentSchemas", "unevaluatedProperties")
_ARRAYS = ("items", "prefixItems", "contains", "minContains", "maxContains", "uniqueItems", "unevaluatedItems")
_BY_TYPE: Mapping[type, _Group] = {  # bool first: it is an int in Python, but no number in JSON
    bool: (frozenset(), _text),
    int: _NUMBERS,
    float: _NUMBERS,
    str: (frozenset(("pattern", "format", "contentEncoding", "contentMediaType", "contentSchema")), _text),
    dict: (frozenset((*_OBJECTS, *_DEPENDENT)), _object),
    list: (frozenset(_ARRAYS), _array),
}
_KNOWN: frozenset[str] = frozenset().union(*(names for names, _ in _BY_TYPE.values()))
