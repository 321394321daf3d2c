"""Number of generated examples per test."""

from __future__ import annotations

from hypothesis import settings


def examples(full: int) -> int:
    """Return that many, or the share that the chosen profile has of Hypothesis's usual 100 (see tests/conftest.py)."""
    return max(full * settings().max_examples // 100, 5)
