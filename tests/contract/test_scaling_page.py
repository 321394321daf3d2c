"""The page about a hundred times the load shows what its arithmetic and its simulation give."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench import scaling

PAGE = Path(__file__).parents[2] / "docs/explanation/scaling.md"


def test_the_page_shows_the_tables() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for table in scaling.tables().split("\n\n"):
        assert table in text, "write the output of `python bench/scaling.py` into the page"


@pytest.mark.parametrize("busy", [0.2, 0.5, 0.8])
def test_the_simulation_agrees_with_queueing_theory(busy: float) -> None:
    """One server with Poisson arrivals: Pollaczek and Khinchine give the mean wait."""
    rate = busy / scaling.HANDLING_MS * 1000
    taken = scaling.waits(rate, 1)
    expected = scaling.HANDLING_MS * (1 + busy / (1 - busy))  # the coefficient of variation is 1
    assert sum(taken) / len(taken) == pytest.approx(expected, rel=0.1)
