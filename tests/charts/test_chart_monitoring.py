from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import prometheus_client
import pytest
import yaml
from tests.support.charts import of_kind, rendered

from tidings import outcomes
from tidings_operator.metrics import REGISTRY
from tidings_operator.topology import METRICS

MONITORING = Path(__file__).parents[2] / "charts/tidings/monitoring"
DASHBOARDS = sorted(MONITORING.glob("dashboards/*.json"))
ALERTS = yaml.safe_load((MONITORING / "alerts.yaml").read_text())
_METRIC = re.compile(r"\b(?:tidings|storefront)_[a-z_]+\b")
_LABELS = re.compile(r"((?:tidings|storefront)_[a-z_]+)\{([^}]*)\}")
_BY = re.compile(r"by \(([^)]*)\)")
_FOR = re.compile(r'outcome(?:=|!=|=~|!~)"([^"]*)"')
SCRAPED = {"pod", "le"}
"""Labels that Prometheus itself gives."""


def _known() -> dict[str, set[str]]:
    """Return all series of the SDK, the storefront, the operator and the topology controller, with their labels."""
    for module in ("tidings.observability.metrics", "storefront.adapters.forwarding"):
        importlib.import_module(module)
    result: dict[str, set[str]] = {}
    for registry in (prometheus_client.REGISTRY, REGISTRY, METRICS):
        for collector in {*registry._collector_to_names}:
            labels = set(getattr(collector, "_labelnames", ()))
            for name in registry._collector_to_names[collector]:
                result[name] = labels
    return result


def _expressions() -> Iterator[tuple[str, str]]:
    for group in ALERTS["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]
    for path in DASHBOARDS:
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel["targets"]:
                yield f"{path.stem}: {panel['title']}", target["expr"]


@pytest.mark.parametrize(("where", "expression"), list(_expressions()))
def test_every_metric_and_label_exists(where: str, expression: str) -> None:
    known = _known()
    metrics = set(_METRIC.findall(expression))
    assert metrics, where
    assert metrics <= known.keys()
    labels = SCRAPED.union(*(known[metric] for metric in metrics))
    for _, chosen in _LABELS.findall(expression):
        assert {re.split("[=!]", part)[0].strip() for part in chosen.split(",")} <= labels
    for names in _BY.findall(expression):
        assert {part.strip() for part in names.split(",")} <= labels
    for names in _FOR.findall(expression):
        assert all(hasattr(outcomes, name) or name == "Ignored" for name in names.split("|")), names


def test_a_missing_metric_would_be_noticed() -> None:
    with pytest.raises(AssertionError):
        test_every_metric_and_label_exists("nowhere", "rate(tidings_events_lost_total[5m])")
    with pytest.raises(AssertionError):
        test_every_metric_and_label_exists("nowhere", "sum by (queue) (tidings_outbox_depth)")


def test_alerts_describe_the_remedy_and_have_unique_names() -> None:
    rules = [rule for group in ALERTS["groups"] for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        assert rule["annotations"].keys() == {"summary", "runbook"}
        assert rule["labels"]["severity"] in ("info", "warning", "critical")


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_dashboards_are_whole(path: Path) -> None:
    board: dict[str, Any] = json.loads(path.read_text())
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in board["panels"]]
    assert len(set(places)) == len(places)
    assert all(panel["description"] and panel["datasource"]["uid"] == "${datasource}" for panel in board["panels"])


def test_the_chart_ships_them() -> None:
    resources = rendered("tidings", {"metrics": {"prometheusRule": True, "dashboards": True, "serviceMonitor": True}})
    assert of_kind(resources, "PrometheusRule")["tidings"]["spec"] == ALERTS
    for path in DASHBOARDS:
        config = of_kind(resources, "ConfigMap")[f"tidings-dashboard-{path.stem}"]
        assert json.loads(config["data"][path.name]) == json.loads(path.read_text())
        assert config["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert of_kind(resources, "ServiceMonitor")["tidings-operator"]["spec"]["endpoints"][0]["path"] == "/metrics"
