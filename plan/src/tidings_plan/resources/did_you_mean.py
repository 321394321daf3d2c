"""Suggest the nearest valid name for a misspelled one."""

import difflib
from collections.abc import Iterable

MAX_CHOICES = 200
"""Maximum choices to compare; one comparison takes about 50 microseconds."""
MAX_LENGTH = 100
"""Maximum characters of a word to compare: the time grows with their square."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return a sentence that suggests the nearest choice or lists the first ones; empty if there are no choices.

    Of more than MAX_CHOICES, only those with the same first two letters are compared.
    """
    choices = sorted(known)
    if len(choices) > MAX_CHOICES:
        choices = [choice for choice in choices if choice[:2].lower() == word[:2].lower()][:MAX_CHOICES]
    short = [choice[:MAX_LENGTH].lower() for choice in choices]
    near = difflib.get_close_matches(word[:MAX_LENGTH].lower(), short, 1, cutoff=0.6)
    for choice in choices:
        if near and choice[:MAX_LENGTH].lower() == near[0]:
            return f"Did you mean {choice!r}?"
    return f"Known: {', '.join(choices[:12])}." if choices else ""
