"""How large and how deep a document may be: checked before anything else looks at it, in time linear in its size.

The models bound each field by itself. These bounds hold for everything, also for what no model describes: a JSON
Schema, an example, an annotation.
"""

import math
import re
from collections.abc import Iterator
from typing import Any

from tidings.resources.origin import Path, spell

MAX_DEPTH = 64
"""Blocks within blocks. JSON Schemas are the deepest that people write."""
MAX_VALUES = 100_000
"""Values in one document."""
MAX_TEXT = 1_500_000
"""Characters of all texts of one document together: what etcd takes."""
MAX_INTEGER = 2**63 - 1
"""What the API server reads as an integer."""
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x80-\x9f\ud800-\udfff]")


class TooMuch(ValueError):
    """A document is beyond a bound; `path` is where."""

    def __init__(self, path: Path, problem: str, fix: str) -> None:
        super().__init__(f"{spell(path) or 'The document'} {problem}")
        self.path = path
        self.fix = fix


def check(document: Any) -> None:
    """Raise TooMuch for the first value that is beyond a bound."""
    values, characters = 0, 0
    waiting: list[tuple[Path, Any]] = [((), document)]
    while waiting:
        path, value = waiting.pop()
        values += 1
        characters += _characters(path, value)
        if values > MAX_VALUES or characters > MAX_TEXT:
            problem = f"is too large: more than {MAX_VALUES} values or {MAX_TEXT} characters"
            raise TooMuch((), problem, "Split it into several resources.")
        if len(path) > MAX_DEPTH:
            raise TooMuch(path[:3], f"is nested more than {MAX_DEPTH} levels deep", "Make it flatter.")
        waiting.extend(_below(path, value))


def _below(path: Path, value: Any) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, dict):
        for name, each in value.items():
            if not isinstance(name, str):
                raise TooMuch(path, f"has a field whose name is no text: {name!r}", "Quote the name.")
            yield (*path, name), each
    elif isinstance(value, list | tuple):
        for place, each in enumerate(value):
            yield (*path, place), each


def _characters(path: Path, value: Any) -> int:
    """Return how many characters a value counts for; raise TooMuch where it is no value that every part can hold."""
    if isinstance(value, str):
        return _text(path, value)
    if isinstance(value, dict):
        return sum(_text(path, name) for name in value if isinstance(name, str))
    if isinstance(value, float) and not math.isfinite(value):
        raise TooMuch(path, "is no number that JSON has", "Write a finite number.")
    if isinstance(value, int) and abs(value) > MAX_INTEGER:
        raise TooMuch(path, "is larger than 64 bits hold", "Write a smaller number.")
    return 0


def _text(path: Path, text: str) -> int:
    if found := _CONTROL.search(text):
        raise TooMuch(path, f"holds the control character U+{ord(found[0]):04X}", "Leave it out.")
    return len(text)
