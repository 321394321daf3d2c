"""Interleaved comparison of two sides in one run, so that other load on the machine affects both."""

from __future__ import annotations

import statistics
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass

ROUNDS = 7
Side = Callable[[], Awaitable[float]]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Results of a comparison; `ratios` has the improvement of `subject` over `baseline` for each round."""

    name: str
    subject: str
    baseline: str
    unit: str
    bar: str
    """Target in words."""
    settings: str
    """Durability of broker and store, and other conditions of the result."""
    values: dict[str, list[float]]
    ratios: list[float]
    target: float | None = None
    """Minimum ratio."""
    least: float | None = None
    """Minimum value of the subject."""
    above: float | None = None
    """Maximum difference between subject and baseline."""

    @property
    def met(self) -> bool:
        subject, baseline = (statistics.median(self.values[side]) for side in (self.subject, self.baseline))
        ratio = self.target is None or statistics.median(self.ratios) >= self.target
        return (
            ratio
            and (self.least is None or subject >= self.least)
            and (self.above is None or subject - baseline <= self.above)
        )

    def row(self) -> str:
        """Return a row of the table."""
        cells = [
            self.name,
            f"{self.subject}: {spread(self.values[self.subject])} {self.unit}",
            f"{self.baseline}: {spread(self.values[self.baseline])} {self.unit}",
            f"{spread(self.ratios)}x",
            self.bar,
            "yes" if self.met else "**no**",
            self.settings,
        ]
        return f"| {' | '.join(cells)} |"

    def plain(self) -> dict[str, object]:
        """Return plain data for a file."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Section:
    """Result of a measurement that is not a comparison."""

    title: str
    text: str
    """Markdown."""

    def plain(self) -> dict[str, object]:
        """Return plain data for a file."""
        return asdict(self)


def spread(values: list[float]) -> str:
    """Format median, minimum and maximum."""
    return f"{short(statistics.median(values))} ({short(min(values))} to {short(max(values))})"


def short(value: float) -> str:
    """Format with three significant digits; more would pretend precision on a shared machine."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def p99(values: list[float]) -> float:
    """Return the 99th percentile."""
    return statistics.quantiles(values, n=100)[98]


async def compare(
    name: str,
    sides: Mapping[str, Side],
    *,
    unit: str,
    bar: str,
    settings: str,
    target: float | None = None,
    least: float | None = None,
    above: float | None = None,
    less_is_better: bool = False,
    rounds: int = ROUNDS,
) -> Comparison:
    """Measure the subject (first side) and the baseline (second side) in turn, after a warm-up round."""
    subject, baseline = sides
    values: dict[str, list[float]] = {subject: [], baseline: []}
    for number in range(rounds + 1):
        # Alternate the order, so that neither side always goes first.
        for side in (subject, baseline) if number % 2 else (baseline, subject):
            value = await sides[side]()
            if number:
                values[side].append(value)
    pairs = zip(values[subject], values[baseline], strict=True)
    ratios = [b / a if less_is_better else a / b for a, b in pairs]
    return Comparison(name, subject, baseline, unit, bar, settings, values, ratios, target, least, above)
