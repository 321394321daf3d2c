"""The part of CEL that daprd 1.18 (cel-go 0.20.1) compiles and evaluates without harm; anything else is refused.

daprd compiles an expression first without knowing `event`, then with it (pkg/expr). In the first pass an unknown type
gives way to any other it is joined with, in a list, a map or by ?:, and whatever then does not fit kills daprd. A name
that it cannot declare makes it compile for ever. The list was found by comparing both on random expressions;
tests/integration/test_cel_on_celgo.py does so at every run.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from tidings.plan.celtree import Tree, Uint
from tidings.plan.patterns import is_pattern


@dataclass(frozen=True, slots=True)
class Problem:
    """Why an expression is refused; line and column count from 1 within the expression."""

    message: str
    mend: str
    line: int = 1
    column: int = 1


@dataclass(frozen=True, slots=True)
class Refusal:
    """What daprd would not take, and why."""

    tree: Tree
    message: str
    mend: str


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
ALLOWED = _LOGIC | _COMPARISONS | _ARITHMETIC | _WHOLE | _FUNCTIONS | {"-_", "@in", "_[_]", "type"}
_TEXT = re.compile(
    r"[rRbB]{0,2}(?:'''.*?'''|\"\"\".*?\"\"\"|'(?:\\.|[^'\\\n])*'|\"(?:\\.|[^\"\\\n])*\")|//[^\n]*", re.DOTALL
)
_VARIABLE = re.compile(r"[a-z][A-Za-z0-9]*", re.ASCII)


def refusals(tree: Tree, known: frozenset[str]) -> Iterator[Refusal]:
    """Yield what daprd would not survive, or fails on with every event; `known` are the names that it declares."""
    yield from _node(tree, known, {})


def quoted_name(expression: str) -> int | None:
    """Return where a `quoted` field name stands, which the tree does not show and daprd's parser does not know."""
    bare = _TEXT.sub(lambda found: " " * len(found[0]), expression)
    found = bare.find("`")
    return None if found < 0 else found


def condition(loop: Tree) -> Tree | None:
    """Return what a macro asks of each element; None where the loop is none of all, exists, exists_one and filter."""
    _, initial, _, step, _ = loop.parts
    if initial.kind == "constant" and isinstance(initial.value, bool):
        return step.parts[1]
    return step.parts[0] if initial.kind == "constant" or _is_filter(loop) else None


def _is_filter(loop: Tree) -> bool:
    """Whether a loop collects elements as they are; map collects what it makes of them."""
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
        yield Refusal(tree, "daprd mistakes the type of maps and messages", "Compare the fields one by one.")


def _constant(tree: Tree) -> Iterator[Refusal]:
    if isinstance(tree.value, float) and not math.isfinite(tree.value):
        yield Refusal(tree, "daprd dies of a number that no double can hold", "Write a smaller number.")
    if isinstance(tree.value, bytes):
        yield Refusal(tree, "events hold JSON, which knows no bytes", "Write a text, without the b.")


def _name(tree: Tree, known: frozenset[str], scope: _Scope) -> Iterator[Refusal]:
    if tree.name.startswith("."):
        yield Refusal(tree, "daprd hangs for ever on a name that begins with a dot", "Leave the first dot out.")
    elif tree.name in TYPES:
        mend = "Write type(event.data.field) == string."
        yield Refusal(tree, "a type may only be compared with type(...): daprd dies of other uses", mend)
    elif tree.name not in known and tree.name not in scope:
        mend = f"Begin with {', '.join(sorted(known))}."
        yield Refusal(tree, f"daprd does not know {tree.name}: events hold JSON, not protobuf messages", mend)


def _call(tree: Tree, known: frozenset[str], scope: _Scope) -> Iterator[Refusal]:
    if tree.name in ("_==_", "_!=_") and any(_is_type(each) for each in tree.parts):
        yield from _type_comparison(tree, known, scope)
        return
    for function, refusal in _CALLS.items():
        if tree.name == function:
            yield Refusal(tree, *refusal)
            return
    if tree.name not in ALLOWED:
        yield Refusal(tree, f"daprd hangs for ever on functions that it does not know: {tree.name}", "Write a in b.")
    elif len(known) == 1 and any(each.kind == "name" and each.name in known for each in _values(tree)):
        yield Refusal(tree, "the event as a whole cannot be compared", "Name a field: event.data.field.")
    elif tree.name in _ARITHMETIC:
        yield from _arithmetic(tree, scope)
    elif tree.name == "_[_]":
        yield from _index(tree.parts[1])
    elif tree.name == "matches":
        yield from _pattern(tree.parts[-1])
    for each in tree.parts:
        yield from _node(each, known, scope)


_CALLS = {
    "_?_:_": ("daprd mistakes the type of ?:", "Write (condition && a) || (!condition && b)."),
    "type": ("type(...) may only be compared with a type", "Write type(event.data.field) == string."),
    "-_": ("daprd mistakes the type of a negated field", "Write 0.0 - event.data.field."),
}
"""Calls that are never taken, and what to write instead."""


def _index(tree: Tree) -> Iterator[Refusal]:
    if tree.kind == "constant" and type(tree.value) not in (str, int):
        mend = "Write ['name'] or [0]."
        yield Refusal(tree, "daprd dies of an index that is neither a text nor a whole number", mend)


def _values(tree: Tree) -> tuple[Tree, ...]:
    """Return the operands that are taken for a value, and are not looked into."""
    return {"_[_]": tree.parts[1:], "@in": tree.parts[:1]}.get(tree.name, tree.parts)


def _pattern(tree: Tree) -> Iterator[Refusal]:
    if not isinstance(tree.value, str):
        mend = "Write the pattern out, in quotes."
        yield Refusal(tree, "a pattern must be constant: its cost could not be bounded", mend)
    elif not is_pattern(tree.value):
        mend = "Correct it; look-around and back references are unknown to daprd."
        yield Refusal(tree, "the pattern is none that daprd can read", mend)


def _is_type(tree: Tree) -> bool:
    return (tree.kind == "name" and tree.name in TYPES) or (tree.kind == "call" and tree.name == "type")


def _type_comparison(tree: Tree, known: frozenset[str], scope: _Scope) -> Iterator[Refusal]:
    asked = [each for each in tree.parts if each.kind == "call" and each.name == "type"]
    named = [each for each in tree.parts if each.kind == "name" and each.name in TYPES]
    if len(asked) != 1 or len(named) != 1:
        yield from _name(named[0], known, scope) if named else _call(asked[0], known, scope)
        return
    yield from _node(asked[0].parts[0], known, scope)


def _arithmetic(tree: Tree, scope: _Scope) -> Iterator[Refusal]:
    kinds = {_number(each, scope) for each in tree.parts}
    mend = "Write 1.0 for 1, or int(event.data.field) for the field."
    if "event" in kinds and tree.name == "_%_":
        yield Refusal(tree, "every number of an event is a double, which has no remainder", mend)
    elif "event" in kinds and "whole" in kinds:
        message = "every number of an event is a double, and CEL mixes it with no whole number: this fails always"
        yield Refusal(tree, message, mend)


def _number(tree: Tree, scope: _Scope) -> str:
    """Return what a part of a sum is: a `whole` number, a value of the `event`, or something else."""
    if tree.kind == "constant":
        return "whole" if type(tree.value) in (int, Uint) else ""
    if tree.kind == "call" and tree.name in _ARITHMETIC:
        kinds = {_number(each, scope) for each in tree.parts}
        return next((each for each in ("whole", "event") if each in kinds), "")
    if tree.kind == "call" and tree.name in _WHOLE | {"uint"}:
        return "whole"
    root = root_of(tree)
    if root is None:
        return ""
    source = scope.get(root.name)
    return "event" if root.name == "event" or (source is not None and root_of(source) is not None) else ""


def root_of(tree: Tree) -> Tree | None:
    """Return the name that a chain of fields and indexes begins with."""
    while tree.kind in ("field", "has") or (tree.kind == "call" and tree.name == "_[_]"):
        tree = tree.parts[0]
    return tree if tree.kind == "name" else None


def _list(tree: Tree, known: frozenset[str], scope: _Scope) -> Iterator[Refusal]:
    for each in tree.parts:
        if each.kind not in ("constant", "list"):
            mend = "Compare the fields one by one, with ||; a list may hold texts, numbers, true and false."
            yield Refusal(tree, "a list may hold constants only: daprd mistakes the type of fields in it", mend)
            return
        yield from _node(each, known, scope)


def _loop(tree: Tree, known: frozenset[str], scope: _Scope) -> Iterator[Refusal]:
    over, asked = tree.parts[0], condition(tree)
    if asked is None:
        yield Refusal(
            tree, "map is not taken: its cost could not be bounded", "Use exists, all or filter on the field."
        )
        return
    if not _VARIABLE.fullmatch(tree.name) or tree.name in known | scope.keys() | TYPES | ALLOWED:
        mend = "Name it with a small first letter, and as nothing else is named: item."
        yield Refusal(tree, f"daprd may take the variable {tree.name} for something else", mend)
    while over.kind == "loop" and _is_filter(over):
        over = over.parts[0]
    if over.kind != "list" and root_of(over) is None:
        yield Refusal(
            tree, "a macro goes over a field of the event or a list only", "Use the macro on the field itself."
        )
    yield from _node(tree.parts[0], known, scope)
    yield from _node(asked, known, {**scope, tree.name: over})
