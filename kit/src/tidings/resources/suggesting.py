"""What somebody probably meant to write."""

import difflib
from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Suggest the nearest choice, or list a few."""
    choices = sorted(known)
    near = difflib.get_close_matches(word.lower(), [choice.lower() for choice in choices], 1, cutoff=0.6)
    for choice in choices:
        if near and choice.lower() == near[0]:
            return f"Did you mean {choice!r}?"
    return f"Known: {', '.join(choices[:12])}." if choices else ""
