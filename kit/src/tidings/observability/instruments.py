"""Prometheus metrics that cost an event next to nothing.

`prometheus_client`'s own take a lock for each number and look through the buckets one by one: several microseconds an
event, a third of what its whole handling costs. These are for a service's event loop, which is the one thread that
counts, and they are read by the same `/metrics`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

Family = CounterMetricFamily | HistogramMetricFamily


class Count:
    """One counter."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def inc(self, by: float = 1) -> None:
        """Count."""
        self.value += by


class Spread:
    """One histogram; the last count is of what is above every bound."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def cumulated(self) -> list[tuple[str, float]]:
        """The buckets as Prometheus has them: up to a bound, how many."""
        bounds = [*map(floatToGoString, self.bounds), "+Inf"]
        return list(zip(bounds, map(float, accumulate(self.counts)), strict=True))


class Counter(Collector):
    """Counters of one name, by labels."""

    def __init__(
        self, name: str, documentation: str, labelnames: Sequence[str], registry: CollectorRegistry = REGISTRY
    ) -> None:
        self.name, self.documentation, self._labelnames = name, documentation, tuple(labelnames)
        self._found: dict[tuple[str, ...], Count] = {}
        registry.register(self)

    def labels(self, *values: str) -> Count:
        """The counter with those labels."""
        return self._found.setdefault(values, Count())

    def describe(self) -> Iterator[Family]:
        """What it is, without numbers."""
        yield CounterMetricFamily(self.name, self.documentation, labels=self._labelnames)

    def collect(self) -> Iterator[Family]:
        """Everything counted so far."""
        family = CounterMetricFamily(self.name, self.documentation, labels=self._labelnames)
        for labels, count in self._found.items():
            family.add_metric(labels, count.value)
        yield family


class Histogram(Collector):
    """Histograms of one name, by labels."""

    def __init__(
        self,
        name: str,
        documentation: str,
        labelnames: Sequence[str],
        buckets: Sequence[float],
        registry: CollectorRegistry = REGISTRY,
    ) -> None:
        self.name, self.documentation, self._labelnames = name, documentation, tuple(labelnames)
        self._bounds = buckets
        self._found: dict[tuple[str, ...], Spread] = {}
        registry.register(self)

    def labels(self, *values: str) -> Spread:
        """The histogram with those labels."""
        found = self._found.get(values)
        return found or self._found.setdefault(values, Spread(self._bounds))

    def describe(self) -> Iterator[Family]:
        """What it is, without numbers."""
        yield HistogramMetricFamily(self.name, self.documentation, labels=self._labelnames)

    def collect(self) -> Iterator[Family]:
        """Everything counted so far."""
        family = HistogramMetricFamily(self.name, self.documentation, labels=self._labelnames)
        for labels, spread in self._found.items():
            family.add_metric(labels, spread.cumulated(), spread.total)
        yield family
