"""`tidings consumers`: who consumes what, from files and from a cluster."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.cluster import FakeCluster
from typer.testing import CliRunner, Result

from tidings_cli.commands import app
from tidings_plan import difference
from tidings_plan.resources import load

SHOP = Path("tests/unit/data/shop").resolve()


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["consumers", *(str(argument) for argument in arguments)])


def table(*arguments: object) -> list[list[str]]:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return [line.split() for line in result.stdout.splitlines()]


def names(result: Result) -> list[str]:
    return [f"{item['type']}.{item['version']}" for item in json.loads(result.stdout)]


def test_every_version_with_its_readers():
    lines = table("-f", SHOP)
    assert lines[0] == ["type", "version", "app", "subscription", "owner", "contact"]
    assert lines[1][:5] == ["orders.orderConfirmed", "v1", "Deprecated,", "ends", "2099-03-01"]
    assert lines[1][5:] == ["archive", "archive-everything", "(observes)"]
    assert lines[2] == ["orders.orderConfirmed", "v2", "kitchen", "kitchen-order-confirmed", "kitchen"]
    assert lines[3] == ["kitchen", "kitchen-web-orders", "kitchen"]


@pytest.mark.parametrize(
    ("expected", "actual"),
    [
        ("orders.orderConfirmed", ["orders.orderConfirmed.v1", "orders.orderConfirmed.v2"]),
        ("orders.orderConfirmed.v2", ["orders.orderConfirmed.v2"]),
        ("payments.*", ["payments.takePayment.v1"]),
        ("*.v1", ["orders.orderConfirmed.v1", "payments.takePayment.v1"]),
    ],
)
def test_only_what_is_asked_for(expected: str, actual: list[str]):
    assert names(run(expected, "-f", SHOP, "-o", "json")) == actual


def test_for_programs():
    (result,) = json.loads(run("orders.orderConfirmed.v2", "-f", SHOP, "-o", "json").stdout)
    consumers, observers = result.pop("consumers"), result.pop("observers")
    assert result == {
        "type": "orders.orderConfirmed",
        "version": "v2",
        "namespace": "default",
        "state": "Active",
        "removal": None,
        "owner": {"team": "orders", "contact": "orders@pizza.example"},
        "producers": ["orders"],
    }
    assert [(consumer["app"], consumer["criticality"]) for consumer in consumers] == [
        ("kitchen", "High"),
        ("kitchen", "Normal"),
    ]
    assert [observer["subscription"] for observer in observers] == ["archive-everything"]
    assert "ready" not in consumers[0], "files do not know"


def test_missing_readers_are_reported(tmp_path: Path):
    (tmp_path / "events.yaml").write_text((SHOP / "events.yaml").read_text())
    shutil.copytree(SHOP / "schemas", tmp_path / "schemas")
    assert table("payments.takePayment", "-f", tmp_path)[1] == ["payments.takePayment", "v1", "nobody"]


def test_a_missing_type_is_wrong_usage():
    result = run("orders.orderConfirmd", "-f", SHOP)
    output = " ".join(result.output.replace("│", " ").split())
    assert (result.exit_code, "Did you mean 'orders.orderConfirmed'?" in output) == (2, True), result.output


def test_what_cannot_be_read_is_1_and_the_rest_is_shown(tmp_path: Path):
    (tmp_path / "more.yaml").write_text("kind: [")
    result = run("-f", SHOP, "-f", tmp_path)
    assert result.exit_code == 1
    assert "kitchen-order-confirmed" in result.stdout
    assert "yaml-syntax" in result.stderr


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCluster]:
    with FakeCluster() as result:
        monkeypatch.setenv("KUBECONFIG", str(result.kubeconfig(tmp_path / "config")))
        for namespace in ("east", "west"):
            inventory = load([SHOP], namespace=namespace)
            result.put(map(difference.manifest, difference.known(inventory).values()), namespace)
        yield result


def condition(status: str, reason: str) -> dict[str, Any]:
    return {"type": "Ready", "status": status, "reason": reason}


@pytest.mark.parametrize(
    ("status", "ready"),
    [
        ({}, "Unknown"),
        ({"observedGeneration": 1, "conditions": [condition("True", "Programmed")]}, "True"),
        ({"observedGeneration": 1, "conditions": [condition("False", "UnknownType")]}, "False: UnknownType"),
        ({"observedGeneration": 0, "conditions": [condition("True", "Programmed")]}, "Unknown"),
        ({"observedGeneration": 1, "conditions": []}, "Unknown"),
    ],
)
def test_a_cluster_also_reports_whether_it_works(cluster: FakeCluster, status: dict[str, Any], ready: str):
    cluster.objects["eventsubscriptions", "east", "kitchen-order-confirmed"]["status"] = status
    result = run("orders.orderConfirmed.v2", "--live", "-n", "east", "-o", "json")
    assert result.exit_code == 0, result.output
    (results,) = json.loads(result.stdout)
    assert (results["namespace"], results["consumers"][0]["ready"]) == ("east", ready)
    lines = table("orders.orderConfirmed.v2", "-n", "east")
    assert lines[0][-1] == "ready"
    assert lines[1][5:] == ready.split()


def test_a_namespace_is_a_filter_and_without_one_all_are_shown(cluster: FakeCluster):
    shown = [item["namespace"] for item in json.loads(run("--context", "test", "-o", "json").stdout)]
    assert shown.count("east") == shown.count("west") == 3
    only = [item["namespace"] for item in json.loads(run("-n", "west", "-o", "json").stdout)]
    assert set(only) == {"west"}
    assert [item for item in cluster.asked if "continue=2" in item], "lists come in pages"
