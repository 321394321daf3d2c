"""Escape text from outside before it is written to a terminal."""

import unicodedata

_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
"""Unicode categories: controls, invisible formatting, surrogates, private use and line separators."""


def is_unsafe(character: str) -> bool:
    """Return True if a terminal or viewer may interpret or hide a character."""
    # Unassigned, but reserved as invisible by Unicode (Default_Ignorable_Code_Point).
    ignorable = character == "\u2065" or "\U000e0000" <= character <= "\U000e0fff"
    return ignorable or unicodedata.category(character) in _UNSAFE


def printable(text: str, *, keep: str = "") -> str:
    r"""Replace characters that a terminal may interpret with escapes, such as `\x1b`.

    Args:
        text: Text to write.
        keep: Characters to leave unchanged, such as a line feed.

    """
    if text.isprintable():
        return text
    return "".join(
        character
        if character in keep or not is_unsafe(character)
        else character.encode("unicode_escape", "backslashreplace").decode("ascii")
        for character in text
    )
