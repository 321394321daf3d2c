"""Counts and histograms are read as Prometheus reads its own."""

from __future__ import annotations

from typing import Any

import prometheus_client
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from tidings.observability import instruments

BOUNDS = (0.001, 0.25, 1.0, 30.0)


def read(registry: CollectorRegistry) -> list[tuple[str, dict[str, str], float]]:
    families = text_string_to_metric_families(generate_latest(registry).decode())
    result = [(sample.name, sample.labels, sample.value) for family in families for sample in family.samples]
    return [item for item in result if not item[0].endswith("_created")]


@given(st.lists(st.one_of(st.sampled_from(BOUNDS), st.floats(0, 100))))
def test_a_service_reads_the_same_of_either(values: list[float]) -> None:
    pages: list[Any] = []
    for counter, histogram in (
        (instruments.Counter, instruments.Histogram),
        (prometheus_client.Counter, prometheus_client.Histogram),
    ):
        registry = CollectorRegistry()
        count: Any = counter("handled", "How many", ["one", "other"], registry=registry)
        spread: Any = histogram("seconds", "How long", ["one"], buckets=BOUNDS, registry=registry)
        for value in values:
            count.labels("a", "b").inc()
            count.labels("a", "c").inc(value)
            spread.labels("a").observe(value)
        pages.append(read(registry))
    assert [page[:2] for page in pages[0]] == [page[:2] for page in pages[1]]
    assert [page[2] for page in pages[0]] == pytest.approx([page[2] for page in pages[1]])


def test_names_of_metrics_are_unique() -> None:
    registry = CollectorRegistry()
    instruments.Counter("handled", "How many", ["one"], registry=registry)
    with pytest.raises(ValueError, match="Duplicated timeseries"):
        instruments.Histogram("handled", "How long", ["one"], BOUNDS, registry=registry)
    with pytest.raises(ValueError, match="Duplicated timeseries"):
        instruments.Counter("handled", "How many", ["one"], registry=registry)
