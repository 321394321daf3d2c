"""Size and depth limits of a document, checked before any other processing, in time linear in its size.

The models limit individual fields. These limits also cover the parts that no model describes: JSON Schemas, examples
and annotations.
"""

import math
import re
from collections.abc import Iterator
from typing import Any

from tidings_plan.resources.source_location import Path, spell

MAX_DEPTH = 64
"""Maximum nesting. JSON Schemas are the deepest documents written by hand."""
MAX_VALUES = 100_000
"""Maximum values in one document."""
MAX_TEXT = 1_500_000
"""Maximum characters of all strings of one document together: etcd's limit for an object."""
MAX_INTEGER = 2**63 - 1
"""Largest integer that the API server accepts."""
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x80-\x9f\ud800-\udfff]")


class LimitExceeded(ValueError):
    """A document exceeds a limit at `path`; `fix` tells the user how to resolve it."""

    def __init__(self, path: Path, problem: str, fix: str) -> None:
        super().__init__(f"{spell(path) or 'The document'} {problem}")
        self.path = path
        self.fix = fix


def check(document: Any) -> None:
    """Check a document against all limits.

    Raises:
        LimitExceeded: A value exceeds a limit.

    """
    values, characters = 0, 0
    waiting: list[tuple[Path, Any]] = [((), document)]
    while waiting:
        path, value = waiting.pop()
        values += 1
        characters += _characters(path, value)
        if values > MAX_VALUES or characters > MAX_TEXT:
            problem = f"is too large: more than {MAX_VALUES} values or {MAX_TEXT} characters"
            raise LimitExceeded((), problem, "Split it into several resources.")
        if len(path) > MAX_DEPTH:
            raise LimitExceeded(path[:3], f"is nested more than {MAX_DEPTH} levels deep", "Make it flatter.")
        waiting.extend(_below(path, value))


def _below(path: Path, value: Any) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, dict):
        for name, child in value.items():
            if not isinstance(name, str):
                raise LimitExceeded(path, f"has a field name that is not a string: {name!r}", "Quote the name.")
            yield (*path, name), child
    elif isinstance(value, list | tuple):
        for index, child in enumerate(value):
            yield (*path, index), child


def _characters(path: Path, value: Any) -> int:
    """Return the number of characters of a value; raise LimitExceeded if JSON or Kubernetes cannot hold it."""
    if isinstance(value, str):
        return _text(path, value)
    if isinstance(value, dict):
        return sum(_text(path, name) for name in value if isinstance(name, str))
    if isinstance(value, float) and not math.isfinite(value):
        raise LimitExceeded(path, "is not a JSON number", "Write a finite number.")
    if isinstance(value, int) and abs(value) > MAX_INTEGER:
        raise LimitExceeded(path, "exceeds 64 bits", "Write a smaller number.")
    return 0


def _text(path: Path, text: str) -> int:
    if control := _CONTROL.search(text):
        raise LimitExceeded(path, f"holds the control character U+{ord(control[0]):04X}", "Remove it.")
    return len(text)
