"""What is good CEL and yet too much for daprd 1.18.1 (cel-go 0.20.1), found by comparing both on random expressions.

daprd compiles an expression first without knowing `event`, then with it (pkg/expr). In the first pass an unknown type
gives way to any other it is joined with, in a list, a map or by ?:, and whatever then does not fit kills daprd.
"""

import re
from dataclasses import dataclass

_TEXT = re.compile(
    r"[rRbB]{0,2}(?:'''.*?'''|\"\"\".*?\"\"\"|'(?:\\.|[^'\\\n])*'|\"(?:\\.|[^\"\\\n])*\")|//[^\n]*", re.DOTALL
)
_CONSTANT = re.compile(r"(?<![.\w])(?:true|false|null|0x[0-9a-fA-F]+u?|[0-9.]+(?:[eE][+-]?[0-9]+)?[uU]?)(?!\w)")
_AFTER_VALUE = re.compile(r"(?:[)\]]|\b(?!in\b)\w+)\s*$")
_BUILT = re.compile(r"[\])}]\s*\.\s*(?:all|exists|exists_one|map|filter)\s*\(")
_TYPE = re.compile(r"(?<![.\w])(?:type\s*\(|(?:bool|bytes|double|int|list|map|null_type|string|type|uint)\b(?!\s*\())")
_REFUSED = (
    (re.compile("`"), "daprd's CEL knows no `quoted` field names", "Write event['field-name']."),
    (re.compile(r"\?"), "daprd mistakes the type of ?:", "Write (condition && a) || (!condition && b)."),
    (re.compile(r"(?<!\w)_\w*\s*\("), "daprd hangs for ever on functions that it does not know", "Write a in b."),
    (re.compile("{"), "daprd mistakes the type of maps and messages", "Compare the fields one by one."),
    (
        re.compile(r"(?<![.\w])\.?\s*google\s*\."),
        "events hold JSON, not protobuf messages",
        "Compare with plain values.",
    ),
)


@dataclass(frozen=True, slots=True)
class Problem:
    """Why an expression is refused; line and column count from 1 within the expression."""

    message: str
    mend: str
    line: int = 1
    column: int = 1


def beyond_daprd(expression: str) -> Problem | None:
    """Return why daprd would not survive the expression, if that is known; the checker finds the rest."""
    bare = _TEXT.sub(_blank, expression)
    for pattern, message, mend in _REFUSED:
        if found := pattern.search(bare):
            return Problem(message, mend, *_position(bare, found))
    if found := _list_of_more_than_constants(bare):
        mend = "Compare the fields one by one, with ||; a list may hold texts, numbers, true and false."
        message = "a list may hold constants only: daprd mistakes the type of fields in it"
        return Problem(message, mend, *_position(bare, found))
    # A macro's variable that stands for a type passes every check, and daprd dies: "reference to undefined type".
    # Only a collection that the expression itself builds can hold types.
    if (found := _BUILT.search(bare)) and _TYPE.search(bare):
        mend = "Use the macro on a field of the event, or leave the type out."
        return Problem("daprd dies of a macro over values whose type is asked for", mend, *_position(bare, found))
    return None


def _list_of_more_than_constants(bare: str) -> re.Match[str] | None:
    """Find the bracket of such a list; an index, which follows a value, is none."""
    names = _CONSTANT.sub(_blank, bare)
    for found in re.finditer(r"\[", bare):
        if not _AFTER_VALUE.search(bare[: found.start()]) and re.search("[A-Za-z_]", _bracketed(names, found.start())):
            return found
    return None


def _bracketed(text: str, start: int) -> str:
    """Return the text from a bracket to the one that closes it, or to the end."""
    depth = 0
    for place in range(start, len(text)):
        depth += {"[": 1, "]": -1}.get(text[place], 0)
        if depth == 0:
            return text[start:place]
    return text[start:]


def _blank(found: re.Match[str]) -> str:
    """Replace a text or comment by blanks of the same shape, so that positions stay."""
    return re.sub(r"[^\n]", " ", found[0])


def _position(text: str, found: re.Match[str]) -> tuple[int, int]:
    before = text[: found.start()]
    return before.count("\n") + 1, found.start() - (before.rfind("\n") + 1) + 1
