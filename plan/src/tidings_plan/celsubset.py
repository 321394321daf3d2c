"""The subset of CEL that daprd 1.18 (cel-go 0.20.1) compiles and evaluates safely. Everything else is rejected.

daprd compiles an expression twice: without declaring `event`, then with it (pkg/expr). In the first pass, an unknown
type is unified with any type it meets in a list, a map or ?:, and a later mismatch panics. An undeclarable name makes
daprd retry forever. The subset was determined by differential testing on random expressions, which
tests/integration/test_cel_on_celgo.py repeats on every run.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from tidings_plan import celgo
from tidings_plan.celtree import Tree, Uint
from tidings_plan.patterns import is_pattern


@dataclass(frozen=True, slots=True)
class Problem:
    """Reason for rejecting an expression; line and column are 1-based within the expression."""

    message: str
    fix: str
    line: int = 1
    column: int = 1


@dataclass(frozen=True, slots=True)
class Refusal:
    """A node that daprd cannot handle, and the reason."""

    tree: Tree
    message: str
    fix: str


TYPES = frozenset(("bool", "bytes", "double", "int", "list", "map", "null_type", "string", "type", "uint"))
_LOGIC = frozenset(("_&&_", "_||_", "!_"))
_COMPARISONS = frozenset(("_==_", "_!=_", "_<_", "_<=_", "_>_", "_>=_"))
_ARITHMETIC = frozenset(("_+_", "_-_", "_*_", "_/_", "_%_"))
_DATES = frozenset(
    (
        *("getFullYear", "getMonth", "getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear"),
        *("getHours", "getMinutes", "getSeconds", "getMilliseconds"),
    )
)
_WHOLE = frozenset(("int", "size", *_DATES))
_FUNCTIONS = frozenset(
    ("contains", "startsWith", "endsWith", "matches", "double", "string", "uint", "timestamp", "duration")
)
_CONVERSIONS = frozenset(("int", "uint", "double", "string", "timestamp", "duration"))
ALLOWED = _LOGIC | _COMPARISONS | _ARITHMETIC | _WHOLE | _FUNCTIONS | {"-_", "@in", "_[_]", "type"}
_TEXT = re.compile(
    r"[rRbB]{0,2}(?:'''.*?'''|\"\"\".*?\"\"\"|'(?:\\.|[^'\\\n])*'|\"(?:\\.|[^\"\\\n])*\")|//[^\n]*", re.DOTALL
)
_MATCHES_NUL = re.compile(r"\\(?:0{1,3}(?![0-7])|x00|x\{0+\})(?!-)")
_VARIABLE = re.compile(r"[a-z][A-Za-z0-9]*", re.ASCII)


def refusals(tree: Tree, known: frozenset[str]) -> Iterator[Refusal]:
    """Yield the nodes that crash or hang daprd, or that fail on every event.

    Args:
        tree: The expression.
        known: Names that daprd declares.

    """
    yield from _node(tree, known, {})


def quoted_name(expression: str) -> int | None:
    """Return the offset of the first `quoted` field name, or None.

    daprd's parser does not support them, and they are not visible in the syntax tree.
    """
    bare = _TEXT.sub(lambda match: " " * len(match[0]), expression)
    place = bare.find("`")
    return None if place < 0 else place


def condition(loop: Tree) -> Tree | None:
    """Return the predicate of a macro, or None if the loop is not all, exists, exists_one or filter."""
    _, initial, _, step, _ = loop.parts
    if initial.kind == "constant" and isinstance(initial.value, bool):
        return step.parts[1]
    return step.parts[0] if initial.kind == "constant" or _is_filter(loop) else None


def _is_filter(loop: Tree) -> bool:
    """Return True if a loop collects unchanged elements (filter), unlike map, which transforms them."""
    step = loop.parts[3]
    if step.name != "_?_:_" or step.parts[1].parts[1].kind != "list":
        return False
    kept = step.parts[1].parts[1].parts[0]
    return kept.kind == "name" and kept.name == loop.name


_Scope = dict[str, Tree]


def _node(tree: Tree, known: frozenset[str], scope: _Scope) -> Iterator[Refusal]:
    if tree.kind == "constant":
        yield from _constant(tree)
    elif tree.kind == "name":
        yield from _name(tree, known, scope)
    elif tree.kind in ("field", "has"):
        yield from _node(tree.parts[0], known, scope)
    elif tree.kind == "call":
        yield from _call(tree, known, scope)
    elif tree.kind == "list":
        yield from _list(tree, known, scope)
    elif tree.kind == "loop":
        yield from _loop(tree, known, scope)
    else:
        yield Refusal(tree, "daprd infers a wrong type for maps and messages", "Compare the fields one by one.")


def _constant(tree: Tree) -> Iterator[Refusal]:
    if isinstance(tree.value, float) and not math.isfinite(tree.value):
        yield Refusal(tree, "a number outside the range of a double crashes daprd", "Use a smaller number.")
    if isinstance(tree.value, str) and "\0" in tree.value:
        yield Refusal(tree, "a string with NUL cannot be checked: the validator's strings end there", "Remove the NUL.")
    if isinstance(tree.value, bytes):
        yield Refusal(tree, "events are JSON, which has no bytes", "Use a string without the prefix b.")


def _name(tree: Tree, known: frozenset[str], scope: _Scope) -> Iterator[Refusal]:
    if tree.name.startswith("."):
        yield Refusal(tree, "a name with a leading dot makes daprd hang", "Remove the leading dot.")
    elif tree.name in TYPES:
        fix = "Write type(event.data.field) == string."
        yield Refusal(tree, "a type may only be compared with type(...): other uses crash daprd", fix)
    elif tree.name not in known and tree.name not in scope:
        fix = f"Start with {', '.join(sorted(known))}."
        yield Refusal(tree, f"{tree.name} is unknown to daprd: events are JSON, not protobuf messages", fix)


def _call(tree: Tree, known: frozenset[str], scope: _Scope) -> Iterator[Refusal]:
    types = [part for part in tree.parts if part.kind == "name" and part.name in TYPES]
    calls = [part for part in tree.parts if part.kind == "call" and part.name == "type"]
    if tree.name in ("_==_", "_!=_") and (types or calls):
        if len(calls) == len(types) == 1:
            yield from _node(calls[0].parts[0], known, scope)
        else:
            yield from _name(types[0], known, scope) if types else _call(calls[0], known, scope)
        return
    for function, refusal in _CALLS.items():
        if tree.name == function:
            yield Refusal(tree, *refusal)
            return
    # The operands that the call uses as whole values, unlike those whose fields it reads.
    whole_values = {"_[_]": tree.parts[1:], "@in": tree.parts[:1]}.get(tree.name, tree.parts)
    if tree.name not in ALLOWED:
        yield Refusal(tree, f"the function {tree.name} is unknown to daprd and makes it hang", "Write a in b.")
    elif len(known) == 1 and any(value.kind == "name" and value.name in known for value in whole_values):
        yield Refusal(tree, "the event as a whole cannot be compared", "Name a field: event.data.field.")
    elif tree.name in _ARITHMETIC:
        yield from _arithmetic(tree, scope)
    yield from _arguments(tree)
    if scope:
        yield from _within_macro(tree, scope)
    for part in tree.parts:
        yield from _node(part, known, scope)


_CALLS = {
    "_?_:_": ("daprd infers a wrong type for ?:", "Write (condition && a) || (!condition && b)."),
    "type": ("type(...) may only be compared with a type", "Write type(event.data.field) == string."),
    "-_": ("daprd infers a wrong type for a negated field", "Write 0.0 - event.data.field."),
}
"""Unsupported calls, with the reason and the replacement."""


def _arguments(tree: Tree) -> Iterator[Refusal]:
    if tree.name == "_[_]":
        index = tree.parts[1]
        if index.kind == "constant" and type(index.value) not in (str, int):
            fix = "Write ['name'] or [0]."
            yield Refusal(index, "an index that is neither a string nor an integer crashes daprd", fix)
    elif tree.name == "matches":
        yield from _pattern(tree.parts[-1])
    elif tree.name in _CONVERSIONS:
        yield from _conversion(tree)


def _conversion(tree: Tree) -> Iterator[Refusal]:
    if any(_is_named_index(part) for part in tree.parts):
        fix = f"Write {tree.name}(event.data.field) for {tree.name}(event.data['field'])."
        yield Refusal(tree, f"daprd infers a wrong type for ['field'] within {tree.name}(): it fails on events", fix)
    for part in tree.parts:
        if tree.name in celgo.READABLE and isinstance(part.value, str) and celgo.failure(tree.name, part.value):
            fix = "Write what the CEL language definition describes, for times RFC 3339: '2026-01-31T12:00:00Z'."
            yield Refusal(part, f"{tree.name}() does not convert this string in every implementation of CEL", fix)


def _within_macro(tree: Tree, scope: _Scope) -> Iterator[Refusal]:
    """Yield an error for a call on a macro's variable that may fail in cel-go only: items are not evaluated singly."""
    if not any(node.kind == "name" and node.name in scope for part in tree.parts for node in part.everything()):
        return
    if tree.name in celgo.READABLE:
        message = f"{tree.name}() on the items of a macro may fail in daprd on strings that the validator converts"
        yield Refusal(tree, message, "Compare the items as they are, or convert a field of the event.")
    elif tree.name == "_/_" and not tree.parts[1].value:
        fix = "Write a > b * 2.0 for a / b > 2.0."
        yield Refusal(tree, "0.0 / 0.0 within a macro fails in daprd, which the validator does not notice", fix)


def _is_named_index(tree: Tree) -> bool:
    """Return True for a value such as a['b'] or a['b'][0].

    cel-go's checker leaves its type open, and then compiles the first overload of a conversion only: int(int).
    """
    while tree.kind == "call" and tree.name == "_[_]":
        if isinstance(tree.parts[1].value, str):
            return True
        tree = tree.parts[0]
    return False


def _pattern(tree: Tree) -> Iterator[Refusal]:
    if not isinstance(tree.value, str):
        fix = "Use a string literal as the pattern."
        yield Refusal(tree, "a pattern must be a constant, because its cost is unlimited otherwise", fix)
    elif _MATCHES_NUL.search(tree.value):
        yield Refusal(tree, "a pattern that matches NUL alone cannot be checked", "Use a range, such as [\\x00-\\x1f].")
    elif not is_pattern(tree.value):
        fix = "Correct it. RE2 has no look-around and no back references."
        yield Refusal(tree, "daprd cannot compile the pattern", fix)


def _arithmetic(tree: Tree, scope: _Scope) -> Iterator[Refusal]:
    kinds = {_number(part, scope) for part in tree.parts}
    fix = "Write 1.0 for 1, or int(event.data.field) for the field."
    if "event" in kinds and tree.name == "_%_":
        yield Refusal(tree, "numbers of an event are doubles, which have no remainder", fix)
    elif "event" in kinds and "whole" in kinds:
        message = "numbers of an event are doubles, which CEL does not mix with integers: this always fails"
        yield Refusal(tree, message, fix)


def _number(tree: Tree, scope: _Scope) -> str:
    """Return the kind of an operand: `whole` for an integer, `event` for an event's value, otherwise empty."""
    if tree.kind == "constant":
        return "whole" if type(tree.value) in (int, Uint) else ""
    if tree.kind == "call" and tree.name in _ARITHMETIC:
        kinds = {_number(part, scope) for part in tree.parts}
        return next((kind for kind in ("whole", "event") if kind in kinds), "")
    if tree.kind == "call" and tree.name in _WHOLE | {"uint"}:
        return "whole"
    root = root_of(tree)
    if root is None:
        return ""
    source = scope.get(root.name)
    return "event" if root.name == "event" or (source is not None and root_of(source) is not None) else ""


def root_of(tree: Tree) -> Tree | None:
    """Return the root name of a chain of fields and indexes, or None."""
    while tree.kind in ("field", "has") or (tree.kind == "call" and tree.name == "_[_]"):
        tree = tree.parts[0]
    return tree if tree.kind == "name" else None


def _list(tree: Tree, known: frozenset[str], scope: _Scope) -> Iterator[Refusal]:
    for part in tree.parts:
        if part.kind not in ("constant", "list"):
            fix = "Compare the fields individually with ||. A list may contain strings, numbers and booleans."
            yield Refusal(
                tree, "a list may contain constants only: daprd infers a wrong type for fields in a list", fix
            )
            return
        yield from _node(part, known, scope)


def _loop(tree: Tree, known: frozenset[str], scope: _Scope) -> Iterator[Refusal]:
    over, predicate = tree.parts[0], condition(tree)
    if predicate is None:
        yield Refusal(
            tree, "map is not supported, because its cost is unlimited", "Use exists, all or filter on the field."
        )
        return
    if not _VARIABLE.fullmatch(tree.name) or tree.name in known | scope.keys() | TYPES | ALLOWED:
        fix = "Use a lower-case name that is not used otherwise, such as item."
        yield Refusal(tree, f"daprd may confuse the variable {tree.name} with another name", fix)
    while over.kind == "loop" and _is_filter(over):
        over = over.parts[0]
    if over.kind != "list" and root_of(over) is None:
        yield Refusal(
            tree, "a macro may only iterate over a field of the event or a list", "Use the macro on the field itself."
        )
    yield from _node(tree.parts[0], known, scope)
    yield from _node(predicate, known, {**scope, tree.name: over})
