"""The syntax tree of a CEL expression, decoded from the output of Google's parser (cel.expr.ParsedExpr in protobuf).

The parser uses the same grammar as daprd's. Macros are expanded to loops.
"""

import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

MAX_TREE = 64
"""Maximum nesting of operators: 1 + 1 + 1 has two levels."""


class TooDeep(ValueError):
    """The expression exceeds MAX_TREE levels."""


class Uint(int):
    """An unsigned integer literal, with the suffix u."""


@dataclass(frozen=True, eq=False)
class Tree:
    """A node of the tree.

    `kind` is constant, name, field, has, call, list, struct or loop; `parts` are its operands in order; `name` is the
    identifier, field or function; `message` is the serialised node. The parts of a loop are range, initial value,
    condition, step and result; its `name` is the variable, its `value` the name of the accumulator.
    """

    kind: str
    id: int
    message: bytes
    parts: tuple["Tree", ...] = ()
    name: str = ""
    value: Any = None

    @cached_property
    def path(self) -> tuple[str, ...] | None:
        """Names of a field path such as `event.data.field` or `event.data["field"]`; None for other nodes."""
        if self.kind == "name":
            return (self.name,)
        step = self.name
        if self.kind == "call" and self.name == "_[_]":
            step = self.parts[1].value
        elif self.kind not in ("field", "has"):
            return None
        before = self.parts[0].path
        return (*before, step) if before and isinstance(step, str) else None

    def everything(self) -> Iterator["Tree"]:
        """Yield the node and all its descendants."""
        pending = [self]
        while pending:
            node = pending.pop()
            yield node
            pending += reversed(node.parts)


@dataclass(frozen=True, slots=True)
class Parsed:
    """A tree with the character offsets of its nodes."""

    tree: Tree
    positions: Mapping[int, int]


_Fields = dict[int, list[Any]]


def parsed(serialized: bytes) -> Parsed:
    """Decode the result of `Expression.serialize()` for an expression that was parsed but not checked.

    Raises:
        TooDeep: The operators are nested too deeply.

    """
    message = _fields(_fields(serialized)[2][0])
    expression, source_info, places = 2, 3, 4
    source = _fields(message.get(source_info, [b""])[0])
    positions = {}
    for entry in source.get(places, ()):
        key, value = 1, 2
        pair = _fields(entry)
        positions[_number(pair, key)] = _number(pair, value)
    return Parsed(_tree(message[expression][0]), positions)


def serialized(tree: Tree) -> bytes:
    """Serialise a node as a separate expression."""
    return _field(1, b"type.googleapis.com/cel.expr.ParsedExpr") + _field(2, _field(2, tree.message))


def _tree(message: bytes, level: int = 0) -> Tree:
    if level > 2 * MAX_TREE:  # expanding a macro to a loop adds levels
        raise TooDeep

    def inside(part: bytes) -> Tree:
        return _tree(part, level + 1)

    fields = _fields(message)
    ident = _number(fields, _ID)
    if _CONSTANT in fields:
        values = _fields(fields[_CONSTANT][0]).items()
        value = next((_CONSTANTS[kind](items[0]) for kind, items in values if kind in _CONSTANTS), None)
        return Tree("constant", ident, message, value=value)
    number = next((field for field in _KINDS if field in fields), None)
    if number is None:
        return Tree("struct", ident, message)
    kind, names, operands = _KINDS[number]
    inner = _fields(fields[number][0])
    parts = tuple(inside(part) for operand in operands for part in inner.get(operand, ()))
    if kind == "field" and _number(inner, _TEST_ONLY):
        kind = "has"
    name, *more = [inner.get(field, [b""])[0].decode("utf-8", "replace") for field in names] or [""]
    return Tree(kind, ident, message, parts, name, more[0] if more else None)


# Field numbers of cel.expr.Expr, Expr.Select and Constant (cel/expr/syntax.proto).
_ID, _CONSTANT, _TEST_ONLY = 2, 3, 3
_KINDS: Mapping[int, tuple[str, tuple[int, ...], tuple[int, ...]]] = {
    4: ("name", (1,), ()),
    5: ("field", (2,), (1,)),
    6: ("call", (2,), (1, 3)),
    7: ("list", (), (1,)),
    9: ("loop", (1, 3), (2, 4, 5, 6, 7)),
}
"""By field number: kind, fields of the name (for a loop, also of the accumulator), and fields of the operands."""
_CONSTANTS: Mapping[int, Callable[[Any], Any]] = {
    1: lambda _: None,
    2: bool,
    3: lambda value: value - (1 << 64) if value >> 63 else value,
    4: Uint,
    5: lambda value: struct.unpack("<d", value)[0],
    6: lambda value: value.decode("utf-8", "replace"),
    7: bytes,
}


def _number(fields: _Fields, number: int) -> int:
    return int(fields.get(number, [0])[0])


def _fields(message: bytes) -> _Fields:
    """Decode a protobuf message: values by field number, varints as int and everything else as bytes."""
    fields: _Fields = {}
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        kind = tag & 7
        if kind == _VARINT:
            value, place = _varint(message, place)
        else:
            size, place = (_FIXED[kind], place) if kind in _FIXED else _varint(message, place)
            value, place = message[place : place + size], place + size
        fields.setdefault(tag >> 3, []).append(value)
    return fields


_VARINT, _FIXED = 0, {1: 8, 5: 4}


def _varint(message: bytes, place: int) -> tuple[Any, int]:
    value = shift = 0
    while True:
        byte = message[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if not byte & 0x80:
            return value, place


def _field(number: int, value: bytes) -> bytes:
    size, length = len(value), b""
    while size > 0x7F:  # noqa: PLR2004  # seven bits a byte
        length += bytes([size & 0x7F | 0x80])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + value
