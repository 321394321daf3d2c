"""CEL, checked before it may reach a sidecar.

daprd dies of what it cannot compile, and hangs for ever on an unknown function: it declares every unknown name as a
variable and compiles again (pkg/expr, 1.18.1).

The checker is Google's own (cel-cpp); where it takes more than daprd's cel-go 0.20.1 does, `check` refuses. So it does
where an event could keep a sidecar busy: the cost of an expression is bounded, whatever it finds in an event.
"""

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from cel_expr_python import cel  # type: ignore[import-untyped]  # ships stubs, but no py.typed

from tidings.plan.celcost import MAX_STEPS, steps
from tidings.plan.celsubset import Problem, quoted_name, refusals
from tidings.plan.celtree import MAX_TREE, Parsed, TooDeep, Tree, parsed, serialized

MAX_LENGTH = 4096
COUNTS = ("requests", "totalSuccesses", "totalFailures", "consecutiveSuccesses", "consecutiveFailures")
"""What a circuit breaker's `trip` may look at: whole numbers, counted by daprd."""

_ERROR = re.compile(r"ERROR: <input>:(\d+):(\d+): (.+)")


@lru_cache(maxsize=1)
def _event_environment() -> Any:
    # Any, as daprd declares it: with dyn, a macro over the envelope itself would pass here and kill daprd.
    return cel.NewEnv(variables={"event": cel.Type("google.protobuf.Any")})


@lru_cache(maxsize=1)
def _evaluation_environment() -> Any:
    return cel.NewEnv(variables={"event": cel.Type.DYN})


@lru_cache(maxsize=1)
def _trip_environment() -> Any:
    return cel.NewEnv(variables=dict.fromkeys(COUNTS, cel.Type.INT))


@lru_cache(maxsize=20_000)
def check(expression: str) -> Problem | None:
    """Compile a route's `match` over `event`; None if a sidecar may have it."""
    return _check(expression, _event_environment(), frozenset(("event",)), _FIELDS)


@lru_cache(maxsize=1_000)
def check_trip(expression: str) -> Problem | None:
    """Compile a circuit breaker's `trip` over the counts that daprd keeps; None if a sidecar may have it."""
    return _check(expression, _trip_environment(), frozenset(COUNTS), ", ".join(COUNTS))


_FIELDS = "event.type, event.subject or event.data.<field>"


@lru_cache(maxsize=512)
def _program(expression: str) -> Any:
    return _evaluation_environment().compile(expression)


def evaluate(expression: str, event: Mapping[str, Any]) -> bool | str:
    """Return whether the event matches, or the message of what fails: then daprd dead-letters the event.

    Stricter than daprd in two cases, in which daprd says false: has() of a field of what is no object, and `in` an
    object with a key that is no text. A boolean is converted to no number, as in daprd and unlike in Google's C++; here
    that fails also where another part of the condition has decided before.
    """
    for function, argument in _conversions(expression):
        if isinstance(_value(_part(argument), event), bool):
            return f"no such overload: {function}(bool)"
    return _result(_program(expression), event)


@lru_cache(maxsize=512)
def _conversions(expression: str) -> tuple[tuple[str, bytes], ...]:
    if not any(f"{each}(" in expression for each in ("int", "double")):  # uint( is among them
        return ()
    calls = (each for each in _parse(expression).tree.everything() if each.name in ("int", "uint", "double"))
    return tuple((each.name, each.parts[0].message) for each in calls if each.parts)


def _result(program: Any, event: Mapping[str, Any]) -> bool | str:
    value = _value(program, event)
    return value if isinstance(value, bool) else str(value)


def _value(program: Any, event: Mapping[str, Any]) -> Any:
    return program.eval(data={"event": as_daprd_reads(event)}).value()


def as_daprd_reads(value: Any) -> Any:
    """Return JSON as daprd decodes it for its rules: every number is a double."""
    if isinstance(value, Mapping):
        return {str(name): as_daprd_reads(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [as_daprd_reads(each) for each in value]
    if isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            return float("inf") if value > 0 else float("-inf")
    return value


def failure(expression: str, event: Mapping[str, Any]) -> str | None:
    """Return why an expression fails on an event, or a part of it would if no other part decided before.

    A part may fail where the one that decides has asked with has(), `in` or type() for what it reads.
    """
    whole = evaluate(expression, event)
    return whole if isinstance(whole, str) else _failure(_parse(expression).tree, event)


def _failure(tree: Tree, event: Mapping[str, Any]) -> str | None:
    if not _is_logic(tree):
        result = _result(_part(tree.message), event)
        return result if isinstance(result, str) else None
    parts = [*_operands(tree, tree.name)]
    deciding = [each for each in parts if _result(_part(each.message), event) is (tree.name == "_||_")]
    guarded = {path for each in deciding for path in _guarded(each)}
    unguarded = (each for each in parts if not _reads(each, guarded))
    return next((found for each in unguarded if (found := _failure(each, event))), None)


def _is_logic(tree: Tree) -> bool:
    return tree.kind == "call" and tree.name in ("_&&_", "_||_")


def _operands(tree: Tree, operator: str) -> Iterator[Tree]:
    """Yield what && or || joins, however it is nested."""
    if tree.kind == "call" and tree.name == operator:
        for each in tree.parts:
            yield from _operands(each, operator)
    else:
        yield tree


def _guarded(tree: Tree) -> Iterator[tuple[str, ...]]:
    """Yield the fields whose presence or type a part asks for."""
    for each in tree.everything():
        if each.kind == "has" and each.path:
            yield each.path
        elif each.name == "type" and each.parts and each.parts[0].path:
            yield each.parts[0].path
        elif each.name == "@in" and isinstance(each.parts[0].value, str) and each.parts[1].path:
            yield (*each.parts[1].path, each.parts[0].value)


def _reads(tree: Tree, guarded: set[tuple[str, ...]]) -> bool:
    read = [each.path for each in tree.everything() if each.path]
    return any(path[: len(guard)] == guard for path in read for guard in guarded)


@lru_cache(maxsize=1024)
def _part(message: bytes) -> Any:
    return _evaluation_environment().deserialize(serialized(Tree("call", 0, message)))


def _check(expression: str, environment: Any, names: frozenset[str], known: str) -> Problem | None:
    if not expression.strip():
        return Problem("the expression is empty: daprd would take it for 'always'", "Write a condition.")
    if len(expression) > MAX_LENGTH:
        return Problem(f"the expression is longer than {MAX_LENGTH} characters", "Split it into several filters.")
    if (place := quoted_name(expression)) is not None:
        mend = "Write event['field-name']."
        return Problem("daprd's CEL knows no `quoted` field names", mend, *_position(expression, place))
    try:
        whole = _parse(expression)
        result = environment.compile(expression).return_type()
    except TooDeep:
        return Problem(f"operators are nested more than {MAX_TREE} levels deep", "Split it into several filters.")
    except RuntimeError as error:
        return _refused(str(error), known)
    return _beyond_daprd(expression, whole, names) or _no_condition(result) or _too_costly(whole.tree)


def _beyond_daprd(expression: str, whole: Parsed, names: frozenset[str]) -> Problem | None:
    found = next(refusals(whole.tree, names), None)
    if found is None:
        return None
    place = _position(expression, whole.positions.get(found.tree.id, 0))
    return Problem(found.message, found.mend, *place)


def _no_condition(result: Any) -> Problem | None:
    if result == cel.Type.BOOL:
        return None
    mend = "Compare it with a value, such as event.data.paid == true."
    return Problem(f"the expression is of type {result.name().lower()}, not bool", mend)


def _too_costly(tree: Tree) -> Problem | None:
    found = steps(tree)
    if found <= MAX_STEPS:
        return None
    message = f"it may cost a sidecar {found:.0e} steps an event, and {MAX_STEPS:.0e} are allowed"
    mend = "Use no macro inside a macro over another list, and no whole field of the event inside one."
    return Problem(message, mend)


def _parse(expression: str) -> Parsed:
    return parsed(_evaluation_environment().compile(expression, disable_check=True).serialize())


def _position(expression: str, place: int) -> tuple[int, int]:
    before = expression[:place]
    return before.count("\n") + 1, place - (before.rfind("\n") + 1) + 1


def _refused(text: str, known: str) -> Problem:
    found = _ERROR.search(text)
    if not found:
        return Problem(text.partition("\n")[0], "Simplify the expression.")
    message = found[3].removesuffix(" (in container '')")
    mend = "See the CEL language definition; strings stand in quotes, == compares."
    if message.startswith("undeclared reference"):
        mend = f"Only {known} and CEL's standard functions are known to daprd."
    elif message.startswith("found no matching overload"):
        mend = "Compare values of one type; convert with int(), double() or string()."
    line, column = int(found[1]), int(found[2])
    return Problem(message, mend, line, column) if column else Problem(message, mend)
