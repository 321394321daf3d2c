"""Prometheus metrics with minimal overhead per event.

The metrics of `prometheus_client` take a lock for every update and scan the buckets linearly: several microseconds per
event, a third of the total handling cost. The metrics here may be updated from one thread only, the service's event
loop.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

Family = CounterMetricFamily | HistogramMetricFamily


class CounterValue:
    """A counter."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def inc(self, by: float = 1) -> None:
        """Increment the counter."""
        self.value += by


class HistogramValue:
    """A histogram; the last count is for values above every bound."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Record a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def cumulated(self) -> list[tuple[str, float]]:
        """Return the cumulative buckets in Prometheus' form."""
        bounds = [*map(floatToGoString, self.bounds), "+Inf"]
        return list(zip(bounds, map(float, accumulate(self.counts)), strict=True))


class Counter(Collector):
    """Counters with the same name, by labels."""

    def __init__(
        self, name: str, documentation: str, labelnames: Sequence[str], registry: CollectorRegistry = REGISTRY
    ) -> None:
        self.name, self.documentation, self._labelnames = name, documentation, tuple(labelnames)
        self._children: dict[tuple[str, ...], CounterValue] = {}
        registry.register(self)

    def labels(self, *values: str) -> CounterValue:
        """Return the counter with these labels."""
        return self._children.setdefault(values, CounterValue())

    def describe(self) -> Iterator[Family]:
        """Yield the metric's metadata without samples."""
        yield CounterMetricFamily(self.name, self.documentation, labels=self._labelnames)

    def collect(self) -> Iterator[Family]:
        """Yield all samples."""
        family = CounterMetricFamily(self.name, self.documentation, labels=self._labelnames)
        for labels, count in self._children.items():
            family.add_metric(labels, count.value)
        yield family


class Histogram(Collector):
    """Histograms with the same name, by labels."""

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
        self._children: dict[tuple[str, ...], HistogramValue] = {}
        registry.register(self)

    def labels(self, *values: str) -> HistogramValue:
        """Return the histogram with these labels."""
        child = self._children.get(values)
        return child or self._children.setdefault(values, HistogramValue(self._bounds))

    def describe(self) -> Iterator[Family]:
        """Yield the metric's metadata without samples."""
        yield HistogramMetricFamily(self.name, self.documentation, labels=self._labelnames)

    def collect(self) -> Iterator[Family]:
        """Yield all samples."""
        family = HistogramMetricFamily(self.name, self.documentation, labels=self._labelnames)
        for labels, spread in self._children.items():
            family.add_metric(labels, spread.cumulated(), spread.total)
        yield family
