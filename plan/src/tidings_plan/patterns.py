"""Evaluate untrusted regular expressions with RE2, which guarantees linear time."""

import re
from functools import lru_cache
from typing import Any

from cel_expr_python import cel  # type: ignore[import-untyped]  # ships stubs, but no py.typed


def search(pattern: str, text: str) -> bool | None:
    """Return whether a text contains a match of a pattern, or None if that is undecidable here.

    RE2 has no look-around and no back references, and it differs from ECMA 262 outside ASCII and in multi-line texts.
    """
    if not (pattern.isascii() and text.isascii()) or "\n" in text or len(pattern) + len(text) > _LONGEST:
        return None
    result = _program().eval(data={"text": text, "pattern": pattern}).value()
    return result if isinstance(result, bool) else None


def exclude(one: str, other: str) -> bool:
    """Return True if the literal prefixes of two anchored patterns rule out a text that matches both."""
    starts = [match[1] for pattern in (one, other) if (match := _BEGINNING.match(pattern))]
    return len(starts) == len((one, other)) and not any(
        start.startswith(begin) for start, begin in (starts, starts[::-1])
    )


def is_pattern(pattern: str) -> bool:
    r"""Return True if RE2 can compile a pattern, both in C++ and in Go, which has no `\\C`."""
    return "\\C" not in pattern and isinstance(_program().eval(data={"text": "", "pattern": pattern}).value(), bool)


_LONGEST = 4096
_BEGINNING = re.compile(r"\^([A-Za-z0-9_ :/-]+)(?![*+?{|A-Za-z0-9_ :/-])(?!.*\|)")


@lru_cache(maxsize=1)
def _program() -> Any:
    environment = cel.NewEnv(variables={"text": cel.Type.STRING, "pattern": cel.Type.STRING})
    return environment.compile("text.matches(pattern)")
