"""Validation and evaluation of CEL, before it reaches a sidecar.

daprd crashes on expressions that it cannot compile and hangs on unknown functions: it declares every unknown name as a
variable and compiles again (pkg/expr, 1.18.1).

The checker is Google's cel-cpp. `check` also rejects what cel-cpp accepts but daprd's cel-go 0.20.1 does not, and
expressions whose worst-case cost could block a sidecar.
"""

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from cel_expr_python import cel  # type: ignore[import-untyped]  # ships stubs, but no py.typed

from tidings_plan import celgo
from tidings_plan.celcost import MAX_STEPS, steps
from tidings_plan.celsubset import Problem, quoted_name, refusals
from tidings_plan.celtree import MAX_TREE, Parsed, TooDeep, Tree, parsed, serialized

MAX_LENGTH = 4096
COUNTS = ("requests", "totalSuccesses", "totalFailures", "consecutiveSuccesses", "consecutiveFailures")
"""Integer variables that daprd provides to a circuit breaker's `trip`."""

_ERROR = re.compile(r"ERROR: <input>:(\d+):(\d+): (.+)")


@lru_cache(maxsize=1)
def _evaluation_environment() -> Any:
    return cel.NewEnv(variables={"event": cel.Type.DYN})


@lru_cache(maxsize=20_000)
def check(expression: str) -> Problem | None:
    """Check a condition over `event`; return the problem, or None if it is safe for a sidecar."""
    # Any, as in daprd: with dyn, a macro over the whole event would pass here and crash daprd.
    environment = cel.NewEnv(variables={"event": cel.Type("google.protobuf.Any")})
    return _check(expression, environment, frozenset(("event",)), _FIELDS)


@lru_cache(maxsize=1_000)
def check_trip(expression: str) -> Problem | None:
    """Check a circuit breaker's `trip` over daprd's counts; return the problem, or None if it is safe for a sidecar."""
    environment = cel.NewEnv(variables=dict.fromkeys(COUNTS, cel.Type.INT))
    return _check(expression, environment, frozenset(COUNTS), ", ".join(COUNTS))


_FIELDS = "event.type, event.subject or event.data.<field>"


@lru_cache(maxsize=512)
def _program(expression: str) -> Any:
    return _evaluation_environment().compile(expression)


def evaluate(expression: str, event: Mapping[str, Any]) -> bool | str:
    """Return whether an event matches, or the error message if the evaluation fails and daprd dead-letters it.

    Stricter than daprd in three cases: has() on a field of a non-object, and `in` on an object with a non-string key,
    where daprd returns false; and timestamp() of a time that is not RFC 3339, such as one with the offset -00:60, which
    daprd reads. What fails in daprd but not in cel-cpp (`celgo`) fails here even if short-circuit evaluation
    would skip it.
    """
    for function, argument in _stricter(expression):
        # The evaluation fails for a macro's variable outside of the macro, for example: such a value is None.
        result = _part(argument).eval(data={"event": as_daprd_reads(event)})
        if reason := celgo.failure(function, None if result.type() == cel.Type.ERROR else result.value()):
            return reason
    return _result(_program(expression), event)


@lru_cache(maxsize=512)
def _stricter(expression: str) -> tuple[tuple[str, bytes], ...]:
    """Return the calls whose arguments daprd may refuse, with each such argument."""
    calls = (node for node in _parse(expression).tree.everything() if node.name in celgo.STRICTER)
    pairs = ((call.name, part) for call in calls for part in call.parts if part.kind in _COMPUTED)
    # Only the result of arithmetic may be NaN: values of the event and constants never are.
    return tuple(
        (name, part.message)
        for name, part in pairs
        if name not in celgo.ORDERINGS or any(node.name in _ARITHMETIC for node in part.everything())
    )


_COMPUTED = ("call", "field", "name", "constant")
_ARITHMETIC = ("_+_", "_-_", "_*_", "_/_", "double")


def _result(program: Any, event: Mapping[str, Any]) -> bool | str:
    value = program.eval(data={"event": as_daprd_reads(event)}).value()
    return value if isinstance(value, bool) else str(value)


def as_daprd_reads(value: Any) -> Any:
    """Return JSON as daprd decodes it for its rules, with every number as a double.

    NUL becomes the character after it, because cel-cpp's binding for Python cuts strings off there.
    """
    if isinstance(value, str):
        return value.replace("\0", "\x01")
    if isinstance(value, Mapping):
        return {str(name).replace("\0", "\x01"): as_daprd_reads(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_daprd_reads(item) for item in value]
    if isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            return float("inf") if value > 0 else float("-inf")
    return value


def failure(expression: str, event: Mapping[str, Any]) -> str | None:
    """Return why an expression fails on an event, even if short-circuit evaluation hides the failing part.

    A hidden failure is accepted if the deciding part guards the same field with has(), `in` or type().
    """
    whole = evaluate(expression, event)
    return whole if isinstance(whole, str) else _failure(_parse(expression).tree, event)


@lru_cache(maxsize=4096)
def reads(expression: str) -> frozenset[tuple[str, ...]]:
    """Return the field paths whose values a valid expression reads; `[]` stands for the items of a list in a macro.

    What has() checks is not read.
    """
    nodes = [*_parse(expression).tree.everything()]
    ranges = {node.name: node.parts[0].path for node in nodes if node.kind == "loop"}
    return frozenset(_resolved(node.path, ranges) for node in nodes if node.path and node.kind != "has")


def _resolved(path: tuple[str, ...], ranges: Mapping[str, tuple[str, ...] | None]) -> tuple[str, ...]:
    """Replace the variable of a macro by the list that it runs over."""
    for _ in range(MAX_TREE):
        over = ranges.get(path[0])
        if over is None:
            break
        path = (*over, "[]", *path[1:])
    return path


def _failure(tree: Tree, event: Mapping[str, Any]) -> str | None:
    if tree.kind != "call" or tree.name not in ("_&&_", "_||_"):
        result = _result(_part(tree.message), event)
        return result if isinstance(result, str) else None
    parts = [*_operands(tree, tree.name)]
    deciding = [part for part in parts if _result(_part(part.message), event) is (tree.name == "_||_")]
    guarded = {path for part in deciding for path in _guarded(part)}
    unguarded = (
        part
        for part in parts
        if not any(node.path and node.path[: len(path)] == path for node in part.everything() for path in guarded)
    )
    return next((reason for part in unguarded if (reason := _failure(part, event))), None)


def _operands(tree: Tree, operator: str) -> Iterator[Tree]:
    """Yield the operands of && or ||, flattening nested ones."""
    if tree.kind == "call" and tree.name == operator:
        for part in tree.parts:
            yield from _operands(part, operator)
    else:
        yield tree


def _guarded(tree: Tree) -> Iterator[tuple[str, ...]]:
    """Yield the fields whose presence or type a part checks."""
    for node in tree.everything():
        if node.kind == "has" and node.path:
            yield node.path
        elif node.name == "type" and node.parts and node.parts[0].path:
            yield node.parts[0].path
        elif node.name == "@in" and isinstance(node.parts[0].value, str) and node.parts[1].path:
            yield (*node.parts[1].path, node.parts[0].value)


@lru_cache(maxsize=1024)
def _part(message: bytes) -> Any:
    return _evaluation_environment().deserialize(serialized(Tree("call", 0, message)))


def _check(expression: str, environment: Any, names: frozenset[str], known: str) -> Problem | None:
    if not expression.strip():
        return Problem("the expression is empty, which daprd treats as 'always'", "Add a condition.")
    if len(expression) > MAX_LENGTH:
        return Problem(f"the expression is longer than {MAX_LENGTH} characters", "Split it into several filters.")
    if (place := quoted_name(expression)) is not None:
        fix = "Write event['field-name']."
        return Problem("daprd does not support `quoted` field names", fix, *_position(expression, place))
    try:
        whole = _parse(expression)
        result = environment.compile(expression).return_type()
    except TooDeep:
        return Problem(f"operators are nested more than {MAX_TREE} levels deep", "Split it into several filters.")
    except RuntimeError as error:
        return _compile_error(str(error), known)
    return _refused(expression, whole, names, result)


def _refused(expression: str, whole: Parsed, names: frozenset[str], result: Any) -> Problem | None:
    """Return the problem of an expression that compiles: an unsupported part, its type, or its cost."""
    refusal = next(refusals(whole.tree, names), None)
    if refusal is not None:
        place = _position(expression, whole.positions.get(refusal.tree.id, 0))
        return Problem(refusal.message, refusal.fix, *place)
    if result != cel.Type.BOOL:
        fix = "Compare it with a value, such as event.data.paid == true."
        return Problem(f"the expression is of type {result.name().lower()}, not bool", fix)
    cost = steps(whole.tree)
    if cost > MAX_STEPS:
        message = f"it may cost {cost:.0e} steps per event, more than the limit of {MAX_STEPS:.0e}"
        fix = "Avoid nested macros over different lists, and whole fields of the event inside a macro."
        return Problem(message, fix)
    return None


def _parse(expression: str) -> Parsed:
    return parsed(_evaluation_environment().compile(expression, disable_check=True).serialize())


def _position(expression: str, place: int) -> tuple[int, int]:
    before = expression[:place]
    return before.count("\n") + 1, place - (before.rfind("\n") + 1) + 1


def _compile_error(text: str, known: str) -> Problem:
    match = _ERROR.search(text)
    if not match:
        return Problem(text.partition("\n")[0], "Simplify the expression.")
    message = match[3].removesuffix(" (in container '')")
    fix = "See the CEL language definition. Strings need quotes, and == compares."
    if message.startswith("undeclared reference"):
        fix = f"Use only {known} and CEL's standard functions."
    elif message.startswith("found no matching overload"):
        fix = "Compare values of one type; convert with int(), double() or string()."
    line, column = int(match[1]), int(match[2])
    return Problem(message, fix, line, column) if column else Problem(message, fix)
