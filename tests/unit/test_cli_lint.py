"""The commands on files: output for people and programs, exit codes, and a start that answers at once."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from tidings_cli.commands import COMMANDS, app

SHOP = Path("tests/unit/data/shop").resolve()


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a checkout with one service's contracts, which is also the current folder."""
    contracts = tmp_path / "services" / "all" / "contracts"
    shutil.copytree(SHOP, contracts)
    monkeypatch.chdir(tmp_path)
    return contracts


def spoil(shop: Path, before: str, after: str, file: str = "subscriptions.yaml") -> None:
    text = (shop / file).read_text()
    assert before in text
    (shop / file).write_text(text.replace(before, after, 1))


@pytest.mark.parametrize("command", ["lint", "plan", "render"])
def test_what_is_right_is_0_and_without_paths_all_services_are_read(shop: Path, command: str):
    result = run(command)
    assert result.exit_code == 0, result.output
    assert "kitchen" in result.output


@pytest.mark.parametrize("command", ["lint", "plan", "render"])
def test_an_error_is_1_with_its_place(shop: Path, command: str):
    spoil(shop, "versions: [v2]\n", "versions: [v9]\n")
    result = run(command)
    assert result.exit_code == 1
    where = "services/all/contracts/subscriptions.yaml:20:18: error: orders.orderConfirmed has no version v9"
    assert where in result.output
    assert "Known: v1, v2." in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("lint", "nowhere"), "nowhere does not exist"),
        (("lint",), "nothing at */contracts and services/*/contracts"),
        (("render", SHOP, "--app", "nobody"), "no app nobody"),
        (("lint", SHOP, "--against", "nothing-like-it"), "--against"),
        (("lint", SHOP, "-o", "xml"), "xml"),
        (("nix",), "No such command"),
    ],
)
def test_wrong_usage_is_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[object, ...], message: str):
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())


def test_lint_for_programs(shop: Path):
    spoil(shop, "type: payments.takePayment,", "type: payments.takePaymnt,")
    content = json.loads(run("lint", "-o", "json").stdout)
    assert content[0] == {
        "severity": "error",
        "rule": "unknown-type",
        "message": "No EventType has the type payments.takePaymnt",
        "fix": "Did you mean 'payments.takePayment'?",
        "location": {
            "file": "services/all/contracts/subscriptions.yaml",
            "line": 32,
            "column": 14,
            "field": "spec.events[0].type",
        },
        "resource": "EventSubscription/payments-take-payment",
    }


def test_plan_for_programs(shop: Path):
    result = json.loads(run("plan", "-o", "json").stdout)
    assert result["apps"]["kitchen"]["reads"] == {"pubsub": ["orders.orderConfirmed.v2", "replay.kitchen"]}
    assert "archive=" in result["scopes"]["pubsub"]["publishingScopes"]
    assert result["topics"]["pubsub"][:2] == ["archive.recordReplayOutcome.v1", "deadletter.archive"]


def test_render_gives_what_a_cluster_takes(shop: Path):
    resources = list(yaml.safe_load_all(run("render", "--app", "kitchen").stdout))
    assert [resource["kind"] for resource in resources] == ["Subscription", "Subscription", "Resiliency", "ConfigMap"]
    assert json.loads(resources[-1]["data"]["policy.json"])["app"] == "kitchen"
    everything = json.loads(run("render", "-o", "json").stdout)
    assert [item for item in everything if item["metadata"]["name"].endswith("kitchen")]
    assert resources[0] in everything


def test_render_gives_what_kubectl_takes_and_it_means_the_same(shop: Path, tmp_path: Path):
    result = run("render", "--declared")
    resources = list(yaml.safe_load_all(result.stdout))
    kinds = [resource["kind"] for resource in resources]
    assert kinds == sorted(kinds, reverse=True), "types first: a webhook refuses who reads an unknown one"
    versions = [version for kind in resources if kind["kind"] == "EventType" for version in kind["spec"]["versions"]]
    assert versions
    assert all(isinstance(version["schema"], dict) for version in versions)
    assert not any(isinstance(sample, str) for version in versions for sample in version.get("examples", ()))
    assert "delivery" not in yaml.safe_dump(
        [resource for resource in resources if "payments" in resource["metadata"]["name"]]
    )

    (tmp_path / "one.yaml").write_text(result.stdout)
    assert run("render", tmp_path / "one.yaml").stdout == run("render").stdout
    assert run("lint", tmp_path / "one.yaml", "-o", "json").exit_code == 0
    of_kitchen = yaml.safe_load_all(run("render", "--declared", "--app", "kitchen").stdout)
    assert {item["spec"].get("consumer", {}).get("appId", "kitchen") for item in of_kitchen} == {"kitchen"}


def git(*arguments: str) -> None:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    subprocess.run(["git", *identity, *arguments], check=True, capture_output=True)


@pytest.mark.parametrize("way", ["folder", "revision"])
def test_a_changed_schema_names_who_breaks(shop: Path, way: str):
    if way == "folder":
        earlier = shop.parents[2] / "earlier"
        shutil.copytree(shop, earlier)
    else:
        git("init", "-q")
        git("add", ".")
        git("commit", "-qm", "before")
        earlier = Path("HEAD")
    assert run("lint", "--against", earlier).exit_code == 0
    spoil(
        shop, '"orderId": {"type": "string"}', '"orderId": {"type": "integer"}', "schemas/orders.orderConfirmed.v2.json"
    )
    result = run("lint", "--against", earlier)
    assert result.exit_code == 1
    assert "kitchen-order-confirmed (app kitchen), kitchen-web-orders (app kitchen)" in result.output
    assert "data.orderId is integer for the writer, string for the reader" in result.output


def test_help_imports_no_command():
    """`tidings --help` is fast because neither the plan, nor CEL, nor rich is loaded."""
    code = (
        "import sys; from tidings_cli.commands import app; app(['--help'], standalone_mode=False); print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert not loaded & {"tidings_plan", "tidings_plan.resources", "cel_expr_python", "rich.console", "grpc", "yaml"}
    assert all(name in done.stdout for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_exists(name: str):
    result = run(name, "--help")
    assert result.exit_code == 0
    assert f"tidings {name}" in result.output or f" {name} " in result.output
