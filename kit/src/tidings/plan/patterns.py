"""Regular expressions of strangers, run by RE2: in linear time, whatever the expression."""

import re
from functools import lru_cache
from typing import Any

from cel_expr_python import cel  # type: ignore[import-untyped]  # ships stubs, but no py.typed


def search(pattern: str, text: str) -> bool | None:
    """Return whether a text has a match of a pattern, None where this cannot be said.

    RE2 knows no look-around and no back references, and differs from ECMA 262 beyond ASCII and in texts of several
    lines; none of these is decided here.
    """
    if not (pattern.isascii() and text.isascii()) or "\n" in text or len(pattern) + len(text) > _LONGEST:
        return None
    found = _program().eval(data={"text": text, "pattern": pattern}).value()
    return found if isinstance(found, bool) else None


def exclude(one: str, other: str) -> bool:
    """Whether no text matches both patterns, as far as that is plain: each asks for another beginning."""
    starts = [found[1] for pattern in (one, other) if (found := _BEGINNING.match(pattern))]
    return len(starts) == len((one, other)) and not any(
        start.startswith(begin) for start, begin in (starts, starts[::-1])
    )


def is_pattern(pattern: str) -> bool:
    r"""Whether RE2 can read a pattern, in C++ and in Go, which has no `\\C`."""
    return "\\C" not in pattern and isinstance(_program().eval(data={"text": "", "pattern": pattern}).value(), bool)


_LONGEST = 4096
_BEGINNING = re.compile(r"\^([A-Za-z0-9_ :/-]+)(?![*+?{|A-Za-z0-9_ :/-])(?!.*\|)")


@lru_cache(maxsize=1)
def _program() -> Any:
    environment = cel.NewEnv(variables={"text": cel.Type.STRING, "pattern": cel.Type.STRING})
    return environment.compile("text.matches(pattern)")
