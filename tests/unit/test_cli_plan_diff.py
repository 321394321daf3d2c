"""`tidings plan` against a cluster: what applying files would change, down to what sidecars are given."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from tests.support.cluster import FakeCluster
from typer.testing import CliRunner, Result

from tidings_cli import commands
from tidings_cli.render import rendered
from tidings_plan import difference, plan
from tidings_plan.resources import load

SHOP = Path("tests/unit/data/shop").resolve()


def run(*arguments: object) -> Result:
    return CliRunner().invoke(commands.app, [str(argument) for argument in arguments])


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    contracts = tmp_path / "services" / "all" / "contracts"
    shutil.copytree(SHOP, contracts)
    monkeypatch.chdir(tmp_path)
    return contracts


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCluster]:
    with FakeCluster() as result:
        monkeypatch.setenv("KUBECONFIG", str(result.kubeconfig(tmp_path / "config", namespace="shop")))
        yield result


def apply(cluster: FakeCluster, *folders: Path) -> None:
    """Bring a cluster to where kubectl and the operator would bring it."""
    inventory = load(folders, namespace="shop")
    cluster.put(map(difference.manifest, difference.known(inventory).values()))
    apps = {app.app: app for app in plan(inventory).apps.values()}
    made = rendered(apps[name] for _, name in inventory.consuming_apps)
    labels = {"app.kubernetes.io/managed-by": "tidings"}
    cluster.put(({**item, "metadata": {**item["metadata"], "labels": labels}} for item in made), namespace="shop")


def spoil(shop: Path, before: str, after: str, file: str = "subscriptions.yaml") -> None:
    text = (shop / file).read_text()
    assert before in text
    (shop / file).write_text(text.replace(before, after, 1))


def changed(result: Result) -> dict[str, str]:
    return {change["object"]: change["action"] for change in json.loads(result.stdout)["changes"]}


def test_what_is_applied_and_programmed_is_no_change(shop: Path, cluster: FakeCluster):
    apply(cluster, shop)
    result = run("plan", "--live")
    assert (result.exit_code, result.stdout) == (0, "No change.\n"), result.output
    children = [item for item in cluster.asked if "tidings.dev" not in item]
    assert children
    assert all("labelSelector" in child for child in children), "they are listed, not asked for one by one"


def test_without_list_permission_children_are_read_individually(shop: Path, cluster: FakeCluster):
    apply(cluster, shop)
    cluster.refused = {"/subscriptions": 403, "/resiliencies": 403, "/configmaps": 403}
    result = run("plan", "--live")
    assert (result.exit_code, result.stdout) == (0, "No change.\n"), result.output


def test_a_foreign_object_with_the_same_name_is_detected(shop: Path, cluster: FakeCluster):
    apply(cluster, shop)
    foreign = cluster.objects["configmaps", "shop", "tidings-kitchen"]
    foreign["metadata"]["labels"], foreign["data"] = {}, {"theirs": "yes"}
    assert changed(run("plan", "--live", "-o", "json")) == {"ConfigMap/shop/tidings-kitchen": "update"}


def test_an_empty_cluster_gets_everything(shop: Path, cluster: FakeCluster):
    result = run("plan", "--context", "test", "-o", "json")
    assert result.exit_code == 3
    results = changed(result)
    assert set(results.values()) == {"create"}
    assert {"EventType/shop/payments-take-payment", "Resiliency/shop/kitchen"} <= results.keys(), results
    assert "ConfigMap/shop/tidings-kitchen" in results
    assert not [name for name in results if "orders" in name and name.startswith("ConfigMap")], "orders reads nothing"


def test_a_change_is_shown_as_a_diff_with_what_it_does_to_the_sidecar(shop: Path, cluster: FakeCluster):
    apply(cluster, shop)
    spoil(shop, "maxRetries: 8", "maxRetries: 30")
    spoil(shop, "exact: {data.channel: web}", "exact: {data.channel: phone}")
    result = run("plan", "--live")
    assert result.exit_code == 3
    lines = result.stdout.splitlines()
    assert "+++ files/EventSubscription/shop/kitchen-order-confirmed" in lines
    assert "-      maxRetries: 8" in lines
    assert "create" not in lines[-1]
    assert any(line.startswith("+") and "'phone'" in line.replace('"', "'") and "match" in line for line in lines)
    policy = lines[lines.index("+++ files/ConfigMap/shop/tidings-kitchen") :]
    assert any(line.startswith("+") and '"maxRetries": 30' in line for line in policy), "a policy is compared by line"
    assert "5 to update" in lines[-1]


def test_what_no_file_asks_for_any_more_is_deleted_and_drift_is_seen(shop: Path, cluster: FakeCluster):
    apply(cluster, shop)
    spoil(shop, "versions: [v1]}", "versions: [v1]}\n  source: {topic: cash}")
    cluster.objects["resiliencies", "shop", "kitchen"]["scopes"] = ["everybody"]
    result = changed(run("plan", "--live", "-o", "json"))
    assert result["Subscription/shop/payments.payments.take-payment.v1"] == "delete"
    assert result["Subscription/shop/payments.cash"] == "create"
    assert result["Resiliency/shop/kitchen"] == "update"


def test_an_error_is_1_but_not_one_of_another_owner(shop: Path, tmp_path: Path, cluster: FakeCluster):
    alien = yaml.safe_load((shop / "subscriptions.yaml").read_text().split("---")[0])
    alien["metadata"]["name"], alien["spec"]["events"][0]["type"] = "alien", "no.suchThing"
    alien["spec"]["consumer"]["appId"] = "alien"
    (tmp_path / "alien.yaml").write_text(yaml.safe_dump(alien))
    apply(cluster, shop, tmp_path / "alien.yaml")
    assert run("plan", "--live").exit_code == 0
    spoil(shop, "versions: [v2]\n", "versions: [v9]\n")
    result = run("plan", "--live")
    assert result.exit_code == 1
    assert "has no version v9" in result.output
    assert "no.suchThing" not in result.output


def test_a_schema_that_breaks_the_clusters_own_readers_is_an_error(shop: Path, cluster: FakeCluster):
    apply(cluster, shop)
    (shop / "subscriptions.yaml").unlink()
    spoil(
        shop, '"orderId": {"type": "string"}', '"orderId": {"type": "integer"}', "schemas/orders.orderConfirmed.v2.json"
    )
    result = run("plan", "--live")
    assert result.exit_code == 1
    assert "breaks kitchen-order-confirmed (app kitchen), kitchen-web-orders (app kitchen)" in result.output


def test_an_unresolved_schema_file_is_reported(shop: Path, cluster: FakeCluster):
    """`kubectl apply` of the bare files leaves an unresolved reference: it differs, and cannot be compared."""
    apply(cluster, shop)
    versions = cluster.objects["eventtypes", "shop", "orders-order-confirmed"]["spec"]["versions"]
    versions[1]["schema"] = "schemas/orders.orderConfirmed.v2.json"
    result = run("plan", "--live")
    assert result.exit_code == 3
    assert "[schema-not-inline]" in result.stderr
    impact = run("impact", "--live")
    assert (impact.exit_code, "The differences are unknown" in impact.stdout) == (0, True), impact.output


def test_the_younger_of_two_rivals_for_a_command_loses(shop: Path, cluster: FakeCluster):
    """A file has no age: what is new must not win a dispute that it would lose on the cluster."""
    apply(cluster, shop)
    spoil(shop, "name: payments-take-payment\nspec:\n  events", "name: a-first\nspec:\n  events")
    spoil(shop, "consumer: {appId: payments}", "consumer: {appId: thief}")
    result = run("plan", "-n", "shop")
    assert result.exit_code == 1
    assert "EventSubscription/shop/payments-take-payment (app payments) already consumes it" in result.output


def test_a_specified_namespace_applies_to_resources_without_one(shop: Path, cluster: FakeCluster):
    spoil(shop, "name: orders-order-confirmed", "name: orders-order-confirmed\n  namespace: other", "events.yaml")
    result = changed(run("plan", "-n", "third", "-o", "json"))
    assert {"EventType/other/orders-order-confirmed", "EventType/third/payments-take-payment"} <= result.keys()


def test_without_cluster_access_only_the_own_namespace_is_shown_with_a_note(shop: Path, cluster: FakeCluster):
    apply(cluster, shop)
    cluster.refused = {"v1alpha1/eventtypes": 403, "v1alpha1/eventsubscriptions": 403}
    result = run("plan", "--live")
    assert result.exit_code == 0, result.output
    assert "reading those of shop only" in result.stderr


@pytest.mark.parametrize(
    ("refused", "message"),
    [
        ({"v1alpha1/eventtypes": 404}, "apply operator/manifests/crds.yaml first"),
        ({"eventtypes": 500}, "does not allow reading eventtypes: 500"),
        ({"/eventtypes": 403}, "does not allow reading eventtypes of shop: 403"),
        ({"/resiliencies": 500}, "does not allow reading Resiliency of shop: 500"),
        ({"/resiliencies": 403, "resiliencies/kitchen": 403}, "does not allow reading Resiliency shop/kitchen: 403"),
    ],
)
def test_rejections_of_the_cluster_are_reported(
    shop: Path, cluster: FakeCluster, refused: dict[str, int], message: str
):
    apply(cluster, shop)
    cluster.refused = refused
    result = run("plan", "--live")
    assert (result.exit_code, message in " ".join(result.output.split())) == (1, True), result.output


def test_a_missing_cluster(shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    fake_cluster = FakeCluster()
    fake_cluster._server.server_close()
    monkeypatch.setenv("KUBECONFIG", str(fake_cluster.kubeconfig(tmp_path / "config")))
    no_user = run("plan", "--live")
    assert (no_user.exit_code, "does not answer" in no_user.output) == (1, True), no_user.output
    unknown = run("plan", "--context", "nowhere")
    assert (unknown.exit_code, "nowhere" in unknown.output) == (1, True), unknown.output
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    none = run("plan", "--live")
    assert (none.exit_code, "No cluster" in none.output) == (1, True), none.output


def test_files_only_makes_no_requests_and_an_earlier_state_replaces_the_cluster(shop: Path, cluster: FakeCluster):
    assert run("plan").exit_code == 0
    assert not cluster.asked
    assert run("plan", "--live", "--against", shop).exit_code == 2


def test_as_kubectls_plugin_it_asks_the_current_cluster(
    shop: Path, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    apply(cluster, shop)
    for arguments, code in ((["plan"], 0), (["consumers"], 0), (["plan", "--files"], 0)):
        cluster.asked.clear()
        monkeypatch.setattr("sys.argv", ["kubectl-tidings", *arguments])
        with pytest.raises(SystemExit) as ended:
            commands.kubectl()
        assert (ended.value.code or 0) == code, capsys.readouterr()
        assert bool(cluster.asked) is ("--files" not in arguments)


names = st.sampled_from(["a", "b", "c"])
objects = st.dictionaries(names, st.dictionaries(names, st.integers(0, 2), max_size=2), max_size=3)


@given(objects, objects)
def test_what_differs_is_what_changes(before: dict[str, Any], after: dict[str, Any]):
    def made(specs: dict[str, Any], noise: str) -> dict[str, Any]:
        metadata = {"namespace": "n", "labels": {"by": noise}}
        return {
            name: {"kind": "K", "metadata": {"name": name, **metadata}, "spec": spec, "status": noise}
            for name, spec in specs.items()
        }

    old, new = made(before, "cluster"), made(after, "file")
    result = {name: difference.change(old.get(name), new.get(name)) for name in {*old, *new}}
    actions = {name: item.action for name, item in result.items() if item}
    assert actions == {
        **dict.fromkeys(after.keys() - before.keys(), "create"),
        **dict.fromkeys(before.keys() - after.keys(), "delete"),
        **{name: "update" for name in before.keys() & after.keys() if before[name] != after[name]},
    }


def test_who_asks_no_cluster_does_not_pay_for_its_client(shop: Path):
    code = "import sys; from tidings_cli.commands import app; app(['plan'], standalone_mode=False); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "tidings_cli.planning" in loaded
    assert not loaded & {"kubernetes", "jinja2", "httpx2"}
