"""Text from elsewhere on its way to a terminal: shown, never obeyed."""

from __future__ import annotations

import unicodedata

_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
"""Unicode's controls, invisible formatting (such as reversed writing), halves of characters, and line separators."""


def is_unsafe(character: str) -> bool:
    """Return whether a program that shows text may obey or hide a character."""
    # Unassigned so far, but to be invisible (Unicode's Default_Ignorable_Code_Point).
    ignorable = character == "\u2065" or "\U000e0000" <= character <= "\U000e0fff"
    return ignorable or unicodedata.category(character) in _UNSAFE


def printable(text: str, *, keep: str = "") -> str:
    r"""Write everything that a terminal could obey as an escape, such as `\x1b`.

    Args:
        text: What is to be shown.
        keep: Characters that stay as they are, such as a line feed.

    """
    if text.isprintable():
        return text
    return "".join(each if each in keep or not is_unsafe(each) else _escaped(each) for each in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")
