"""Order of test files: long ones first, so that no worker runs one alone while the others have nothing left to do."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import pytest

USUAL = 120.0
"""The time limit of a test that sets none (pyproject.toml)."""


def longest_first(items: list[pytest.Item]) -> list[pytest.Item]:
    """Sort files by the longest time limit of their tests, then by their number; tests of a file keep their order."""
    limits: defaultdict[Path, float] = defaultdict(float)
    for item in items:
        limits[item.path] = max(limits[item.path], _limit(item))
    numbers = Counter(item.path for item in items)
    return sorted(items, key=lambda item: (-limits[item.path], -numbers[item.path], item.path))


def _limit(item: pytest.Item) -> float:
    mark = item.get_closest_marker("timeout")
    return float(mark.args[0]) if mark and mark.args else USUAL
