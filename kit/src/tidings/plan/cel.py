"""CEL, checked before it may reach a sidecar.

daprd dies of what it cannot compile, and hangs for ever on an unknown function: it declares every unknown name as a
variable and compiles again (pkg/expr, 1.18.1).

The checker is Google's own (cel-cpp); where it takes more than daprd's cel-go 0.20.1 does, `check` refuses.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from cel_expr_python import cel  # type: ignore[import-untyped]  # ships stubs, but no py.typed

MAX_LENGTH = 4096
COUNTS = ("requests", "totalSuccesses", "totalFailures", "consecutiveSuccesses", "consecutiveFailures")
"""What a circuit breaker's `trip` may look at: whole numbers, counted by daprd."""

_ERROR = re.compile(r"ERROR: <input>:(\d+):(\d+): (.+)")
_TEXT = re.compile(
    r"[rRbB]{0,2}(?:'''.*?'''|\"\"\".*?\"\"\"|'(?:\\.|[^'\\\n])*'|\"(?:\\.|[^\"\\\n])*\")|//[^\n]*", re.DOTALL
)
# A macro's variable that stands for a type ("[int].exists(t, t == int)") passes every check and kills daprd:
# "reference to undefined type". Only a collection that the expression itself builds can hold types.
_BUILT = re.compile(r"[\])}]\s*\.\s*(?:all|exists|exists_one|map|filter)\s*\(")
_TYPE = re.compile(r"(?<![.\w])(?:type\s*\(|(?:bool|bytes|double|int|list|map|null_type|string|type|uint)\b(?!\s*\())")
_AFTER_VALUE = re.compile(r"(?:[)\]]|\b(?!in\b)\w+)\s*$")
_CONSTANT = re.compile(
    r"(?<![.\w])(?:true|false|null|[rbRB]{1,2}(?=\s)|0x[0-9a-fA-F]+u?|[0-9.]+(?:[eE][+-]?[0-9]+)?[uU]?)(?!\w)"
)
_MESSAGE = re.compile(r"(?<![.\w])\.?\s*google\s*\.")


@dataclass(frozen=True, slots=True)
class Problem:
    """Why an expression is refused; line and column count from 1 within the expression."""

    message: str
    mend: str
    line: int = 1
    column: int = 1


@lru_cache(maxsize=1)
def _event_environment() -> Any:
    # Any, as daprd declares it: with dyn, a macro over the envelope itself would pass here and kill daprd.
    return cel.NewEnv(variables={"event": cel.Type("google.protobuf.Any")})


@lru_cache(maxsize=1)
def _bare_environment() -> Any:
    return cel.NewEnv()


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
    bare = _TEXT.sub(_blank, expression)
    if problem := _beyond_daprd(bare):
        return problem
    try:
        result = environment.compile(expression).return_type()
    except RuntimeError as error:
        return _refused(str(error), known)
    if result != cel.Type.BOOL:
        mend = "Compare it with a value, such as event.data.paid == true."
        return Problem(f"the expression is of type {result.name().lower()}, not bool", mend)
    return _first_pass(expression) if "?" in bare else None


def _too_long() -> Problem:
    return Problem(f"the expression is longer than {MAX_LENGTH} characters", "Split it into several filters.")


def _first_pass(expression: str) -> Problem | None:
    """Compile as daprd does first, knowing no variable: every complaint but that one ends it.

    That differs from what it does next only where types are joined: an unknown one gives way to any other. Here
    that is done for ?:, while lists of anything but constants are refused before.
    """
    try:
        _bare_environment().compile(expression)
    except RuntimeError as error:
        for line, column, message in _ERROR.findall(str(error)):
            if not message.startswith("undeclared reference to") and "*error*" not in message:
                mend = "Do not mix a variable with values of a type in one ?: or list; compare fields instead."
                return Problem(message, mend, int(line), int(column))
    return None


def _beyond_daprd(bare: str) -> Problem | None:
    """Find what the checker takes and daprd does not; `bare` has no texts and no comments."""
    if found := re.search("`", bare):
        return Problem(
            "daprd's CEL knows no `quoted` field names", "Write event['field-name'].", *_position(bare, found)
        )
    if found := _MESSAGE.search(bare):
        return Problem("events hold JSON, not protobuf messages", "Compare with plain values.", *_position(bare, found))
    if found := re.search("{", bare):
        return Problem("daprd's CEL takes no maps here", "Compare the fields one by one.", *_position(bare, found))
    if found := _list_of_more_than_constants(bare):
        mend = "Compare the fields one by one, with ||; a list may hold texts, numbers, true and false."
        message = "a list may hold constants only: daprd mistakes the type of fields in it"
        return Problem(message, mend, *_position(bare, found))
    if (found := _BUILT.search(bare)) and _TYPE.search(bare):
        mend = "Use the macro on a field of the event, or leave the type out."
        return Problem("daprd dies of a macro over values whose type is asked for", mend, *_position(bare, found))
    return None


def _list_of_more_than_constants(bare: str) -> re.Match[str] | None:
    """Find the bracket of such a list; an index, which follows a value, is none."""
    names = _CONSTANT.sub(_blank, bare)
    for found in re.finditer(r"\[", bare):
        depth = 0
        for place in range(found.start(), len(names)):
            depth += {"[": 1, "]": -1}.get(names[place], 0)
            if depth == 0:
                break
        inside = names[found.start() : place]
        if not _AFTER_VALUE.search(bare[: found.start()]) and re.search(r"[A-Za-z_]", inside):
            return found
    return None


def _blank(found: re.Match[str]) -> str:
    """Replace a text or comment by blanks of the same shape, so that positions stay."""
    return re.sub(r"[^\n]", " ", found[0])


def _position(text: str, found: re.Match[str]) -> tuple[int, int]:
    before = text[: found.start()]
    return before.count("\n") + 1, found.start() - (before.rfind("\n") + 1) + 1


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
