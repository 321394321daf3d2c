"""Both sides of a comparison in one run, interleaved round by round: whatever else the machine does hits both."""

from __future__ import annotations

import statistics
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass

ROUNDS = 7
Side = Callable[[], Awaitable[float]]


@dataclass(frozen=True, slots=True)
class Comparison:
    """What was measured on two sides; `ratios` say round by round how many times better ours is."""

    name: str
    ours: str
    theirs: str
    unit: str
    bar: str
    """What issue 4 asks for, in words."""
    settings: str
    """Durability of broker and store, and what else the number depends on."""
    values: dict[str, list[float]]
    ratios: list[float]
    wanted: float | None = None
    """The least ratio."""
    least: float | None = None
    """The least that our side must reach by itself."""
    above: float | None = None
    """By how much our side may be above theirs at most."""

    @property
    def met(self) -> bool:
        ours, theirs = (statistics.median(self.values[side]) for side in (self.ours, self.theirs))
        ratio = self.wanted is None or statistics.median(self.ratios) >= self.wanted
        return (
            ratio and (self.least is None or ours >= self.least) and (self.above is None or ours - theirs <= self.above)
        )

    def row(self) -> str:
        """One row of the table."""
        cells = [
            self.name,
            f"{self.ours}: {spread(self.values[self.ours])} {self.unit}",
            f"{self.theirs}: {spread(self.values[self.theirs])} {self.unit}",
            f"{spread(self.ratios)}x",
            self.bar,
            "yes" if self.met else "**no**",
            self.settings,
        ]
        return f"| {' | '.join(cells)} |"

    def plain(self) -> dict[str, object]:
        """Everything, for a file."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Section:
    """What a measurement has to say that is no comparison of two sides."""

    title: str
    text: str
    """Markdown."""

    def plain(self) -> dict[str, object]:
        """Everything, for a file."""
        return asdict(self)


def spread(values: list[float]) -> str:
    """Median, with the lowest and the highest."""
    return f"{short(statistics.median(values))} ({short(min(values))} to {short(max(values))})"


def short(value: float) -> str:
    """Three figures are what a measurement on a shared machine is worth."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def p99(values: list[float]) -> float:
    """What 99 of 100 stay below."""
    return statistics.quantiles(values, n=100)[98]


async def compare(
    name: str,
    sides: Mapping[str, Side],
    *,
    unit: str,
    bar: str,
    settings: str,
    wanted: float | None = None,
    least: float | None = None,
    above: float | None = None,
    less_is_better: bool = False,
    rounds: int = ROUNDS,
) -> Comparison:
    """Measure ours, the first side, and theirs, the second, in turn; a first round warms both up and is not counted."""
    ours, theirs = sides
    values: dict[str, list[float]] = {ours: [], theirs: []}
    for number in range(rounds + 1):
        for side in (ours, theirs) if number % 2 else (theirs, ours):  # neither always goes first
            value = await sides[side]()
            if number:
                values[side].append(value)
    pairs = zip(values[ours], values[theirs], strict=True)
    ratios = [b / a if less_is_better else a / b for a, b in pairs]
    return Comparison(name, ours, theirs, unit, bar, settings, values, ratios, wanted, least, above)
