"""Upper bound for the cost of evaluating an expression in a sidecar, for an event of one mebibyte.

A step is about a nanosecond on one core, measured with cel-go: 50 per operator, one per byte read. Elements of the
innermost loop count with their mean size, because together they are not larger than the event.
"""

import re
from collections.abc import Mapping

from tidings_plan.celsubset import condition, root_of
from tidings_plan.celtree import Tree

MAX_STEPS = 1_000_000_000
"""About one second."""
EVENT_BYTES = 1 << 20
_NODE = 50
_LOOP = 6 * _NODE
_READ_WHOLE = frozenset(("contains", "startsWith", "endsWith", "@in", "_+_", "string", "int", "uint", "double", "size"))
_AS_LARGE = frozenset(("_+_", "string"))
"""Functions whose result is as large as their arguments."""
_REPEATED = re.compile(r"\{(\d+)(?:,(\d*))?\}")

_Sizes = Mapping[str, int]
"""Mean size of a variable's values, in bytes."""


def steps(tree: Tree, sizes: _Sizes | None = None) -> int:
    """Return the maximum steps to evaluate an expression once."""
    sizes = sizes or {}
    if tree.kind == "loop":
        return _loop(tree, sizes)
    inner = sum(steps(part, sizes) for part in tree.parts)
    return _NODE + inner + (_reading(tree, sizes) if tree.kind == "call" else 0)


def _reading(tree: Tree, sizes: _Sizes) -> int:
    read = [_size(part, sizes) for part in tree.parts]
    if tree.name == "matches":
        # The work per byte of input is the size of the pattern with its repetitions expanded.
        pattern = str(tree.parts[-1].value)
        states = len(pattern)
        for least, most in _REPEATED.findall(pattern):
            states *= max(int(least), int(most or 1), 1)
        return read[0] * states
    if tree.name in _READ_WHOLE:
        return sum(read)
    return min(read, default=0)


def _size(tree: Tree, sizes: _Sizes) -> int:
    if tree.kind == "constant":
        return len(tree.value) if isinstance(tree.value, str | bytes) else 1
    if tree.kind == "list":
        return 1 + sum(_size(part, sizes) for part in tree.parts)
    root = root_of(tree)
    if root is not None:
        return sizes.get(root.name, EVENT_BYTES)
    if tree.kind == "loop":
        return EVENT_BYTES
    return sum(_size(part, sizes) for part in tree.parts) if tree.name in _AS_LARGE else 1


def _loop(tree: Tree, sizes: _Sizes) -> int:
    over, predicate = tree.parts[0], condition(tree)
    before = steps(over, sizes)
    source = over
    while source.kind == "loop":
        source = source.parts[0]
    size = _size(source, sizes)
    rounds = len(source.parts) if source.kind == "list" else max(size // 2, 1)
    # The variable of an outer loop is fixed while this loop runs and may be as large as the whole event.
    inner = {**dict.fromkeys(sizes, EVENT_BYTES), tree.name: max(size // max(rounds, 1), 1)}
    return before + _LOOP + rounds * (_LOOP + (steps(predicate, inner) if predicate else 0))
