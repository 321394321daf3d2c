"""Values that cel-go 0.20.1, daprd's evaluator, refuses and cel-cpp, ours, accepts.

cel-go converts strings with Go's strconv.ParseInt, ParseUint, ParseFloat, time.Parse and time.ParseDuration.
"""

import math
import re
from fractions import Fraction
from typing import Any

ORDERINGS = frozenset(("_<_", "_<=_", "_>_", "_>=_"))
_NANOSECONDS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
_MAX_NANOSECONDS = 2**63 - 1
_PART = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")
READABLE = {
    "int": re.compile(r"[+-]?[0-9]+"),
    "uint": re.compile(r"[0-9]+"),
    "double": re.compile(
        r"[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?|inf(?:inity)?|nan"
        r"|0x(?:[0-9a-f]+\.?[0-9a-f]*|\.[0-9a-f]+)p[+-]?[0-9]+)",
        re.IGNORECASE | re.ASCII,
    ),
    "timestamp": re.compile(
        r"[0-9]{4}-[0-9]{2}-[0-9]{2}T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]+)?"
        r"(?:Z|[+-][0-9]{2}:[0-5][0-9])"
    ),
    "duration": re.compile(rf"[+-]?(?:0|(?:{_PART.pattern})+)"),
}
STRICTER = ORDERINGS | READABLE.keys()
"""Functions that may fail in cel-go on a value that cel-cpp accepts."""


def failure(function: str, argument: Any) -> str | None:
    """Return why cel-go refuses an argument of a function, or None if it may accept it."""
    if function in ORDERINGS:
        is_nan = isinstance(argument, float) and math.isnan(argument)
        return "NaN values cannot be ordered" if is_nan else None
    if isinstance(argument, bool):
        return f"no such overload: {function}(bool)"
    if isinstance(argument, str) and not _is_readable(function, argument):
        return f"{function}() cannot convert the string"
    return None


def _is_readable(function: str, text: str) -> bool:
    if not READABLE[function].fullmatch(text):
        return False
    if function == "double":
        is_infinite = "n" in text.lower() or "x" in text.lower()
        return is_infinite or math.isfinite(float(text))
    if function == "duration":
        parts = _PART.findall(text[:1_000])
        return sum(Fraction(number.rstrip(".")) * _NANOSECONDS[unit] for number, unit in parts) <= _MAX_NANOSECONDS
    return True
