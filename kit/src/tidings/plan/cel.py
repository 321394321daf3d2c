"""CEL, checked before it may reach a sidecar.

daprd dies of what it cannot compile, and hangs for ever on an unknown function: it declares every unknown name as a
variable and compiles again (pkg/expr, 1.18.1).

The checker is Google's own (cel-cpp); where it takes more than daprd's cel-go 0.20.1 does, `check` refuses.
"""

import re
from functools import lru_cache
from typing import Any

from cel_expr_python import cel  # type: ignore[import-untyped]  # ships stubs, but no py.typed

from tidings.plan.celsubset import Problem, beyond_daprd

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
    return _check(expression, _event_environment(), "event.type, event.subject or event.data.<field>")


@lru_cache(maxsize=1_000)
def check_trip(expression: str) -> Problem | None:
    """Compile a circuit breaker's `trip` over the counts that daprd keeps; None if a sidecar may have it."""
    return _check(expression, _trip_environment(), ", ".join(COUNTS))


@lru_cache(maxsize=20_000)
def check_whole(expression: str) -> Problem | None:
    """Compile a conjunction whose parts were checked: together they may still be too long or too deep."""
    if len(expression) > MAX_LENGTH:
        return _too_long()
    try:
        _program(expression)
    except RuntimeError as error:
        return _refused(str(error), "event")
    return None


@lru_cache(maxsize=512)
def _program(expression: str) -> Any:
    return _evaluation_environment().compile(expression)


def evaluate(expression: str, event: dict[str, Any]) -> bool | str:
    """Return whether the event matches, or the message of what fails: then daprd dead-letters the event."""
    value = _program(expression).eval(data={"event": event}).value()
    return value if isinstance(value, bool) else str(value)


def _check(expression: str, environment: Any, known: str) -> Problem | None:
    if not expression.strip():
        return Problem("the expression is empty: daprd would take it for 'always'", "Write a condition.")
    if len(expression) > MAX_LENGTH:
        return _too_long()
    if problem := beyond_daprd(expression):
        return problem
    try:
        result = environment.compile(expression).return_type()
    except RuntimeError as error:
        return _refused(str(error), known)
    if result != cel.Type.BOOL:
        mend = "Compare it with a value, such as event.data.paid == true."
        return Problem(f"the expression is of type {result.name().lower()}, not bool", mend)
    return None


def _too_long() -> Problem:
    return Problem(f"the expression is longer than {MAX_LENGTH} characters", "Split it into several filters.")


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
    return Problem(message, mend, int(found[1]), int(found[2]))
