"""`tidings impact`: who breaks if changed schemas are published, and what to do."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.cluster import FakeCluster
from typer.testing import CliRunner, Result

from tidings_cli.commands import app
from tidings_plan import compatibility, difference
from tidings_plan.impact import Impact, impacts
from tidings_plan.resources import Inventory, load, parse_resource

SHOP = Path("tests/unit/data/shop").resolve()
V2 = "schemas/orders.orderConfirmed.v2.json"
TEXT, NUMBER = {"type": "string"}, {"type": "number"}


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def thing(required: str = "", /, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": required.split(), "properties": properties}


def version(name: str, schema: Any = None, state: str = "Active", **more: Any) -> dict[str, Any]:
    return {"name": name, "schema": schema or thing("id", id=TEXT), "state": state, **more}


def system(
    *versions: dict[str, Any], accept: str = "v1", mode: str = "Full", reads: str = "shop.itemSold"
) -> Inventory:
    """Return one type with these versions, one consumer of it, and an archive."""
    kind = {
        "type": "shop.itemSold",
        "owner": {"team": "sales"},
        "producers": ["shop"],
        "compatibility": mode,
        "versions": list(versions),
    }
    books = {
        "events": [{"type": reads, "versions": accept.split()}],
        "consumer": {"appId": "books", "owner": "finance", "contact": "books@shop.example", "criticality": "High"},
    }
    archive = {"events": [{"pattern": "*"}], "consumer": {"appId": "archive"}}
    specs = [("EventSubscription", "books-sold", books), ("EventSubscription", "archive-all", archive)]
    if versions:
        specs.append(("EventType", "sold", kind))
    inventory = Inventory()
    for name, called, spec in specs:
        document = {"apiVersion": "tidings.dev/v1alpha1", "kind": name, "metadata": {"name": called}, "spec": spec}
        resource, findings = parse_resource(document)
        assert resource is not None, findings
        inventory.put(resource)
    return inventory


def compare(before: Inventory, after: Inventory) -> list[Impact]:
    return impacts(after, [before])


OLD, V1 = system(version("v1")), version("v1")
ENDS = {"effective": "2026-01-01", "removal": "2026-12-31", "alternative": "v2"}


@pytest.mark.parametrize(
    ("after", "expected", "advice"),
    [
        pytest.param(OLD, [], "", id="nothing"),
        pytest.param(
            system(version("v1", thing("id", id=TEXT, more=TEXT))),
            [("v1", "changed", False, 0)],
            "Nothing to do",
            id="a new optional field",
        ),
        pytest.param(
            system(version("v1", {"type": 5})),
            [("v1", "changed", True, 2)],
            "Publish the change as v2 alongside v1",
            id="no schema",
        ),
        pytest.param(
            system(version("v1", thing("id", id=NUMBER))),
            [("v1", "changed", True, 2)],
            "Publish the change as v2 alongside v1",
            id="another type",
        ),
        pytest.param(
            system(version("v1", thing("", id=TEXT)), mode="None"),
            [("v1", "changed", True, 1)],
            "books-sold (app books) can migrate to v2",
            id="who reads it trips, whatever the rule",
        ),
        pytest.param(
            system(version("v1", thing("", id=TEXT)), accept="v2", mode="None"),
            [("v1", "changed", False, 1)],
            "Publish the change as v2",
            id="nobody reads it, and no rule minds",
        ),
        pytest.param(
            system(version("v1", thing("id more", id=TEXT, more=TEXT))),
            [("v1", "changed", True, 1)],
            "Or make the new fields optional",
            id="archived events cannot be read, which Full forbids",
        ),
        pytest.param(
            system(version("v1", thing("id more", id=TEXT, more=TEXT)), mode="Forward"),
            [("v1", "changed", False, 1)],
            "an upcaster from v1 to v2",
            id="and Forward does not",
        ),
        pytest.param(
            system(V1, version("v2", thing("id", id=NUMBER))),
            [("v2", "added", False, 2)],
            "Nothing breaks: books-sold (app books) read v1",
            id="a new version beside it",
        ),
        pytest.param(
            system(V1, version("v2", thing("id", id=NUMBER), "Draft")),
            [("v2", "drafted", False, 2)],
            "Publish both until v1's removal",
            id="a draft of one",
        ),
        pytest.param(
            system(version("v1", state="Deprecated", deprecation=ENDS), version("v2")),
            [("v1", "deprecated", False, 0), ("v2", "added", False, 0)],
            "Migrate books-sold (app books) to v2 before 2026-12-31",
            id="deprecated",
        ),
        pytest.param(
            system(version("v1", state="Retired"), version("v2")),
            [("v1", "retired", True, 0), ("v2", "added", False, 0)],
            "Keep v1 as Deprecated with a removal date",
            id="retired under its readers",
        ),
        pytest.param(
            system(version("v2")), [("v1", "removed", True, 0), ("v2", "added", False, 0)], "Keep v1", id="removed"
        ),
        pytest.param(
            system(version("v2"), accept="v2"),
            [("v1", "removed", False, 0), ("v2", "added", False, 0)],
            "it can be removed",
            id="removed once nobody names it",
        ),
        pytest.param(
            system(), [("v1", "removed", True, 0)], "books-sold (app books) still read it", id="the whole type"
        ),
    ],
)
def test_what_a_change_means(after: Inventory, expected: list[tuple[str, str, bool, int]], advice: str):
    result = compare(OLD, after)
    assert [(item.version, item.effect, item.breaks, len(item.differences)) for item in result] == expected
    assert advice in " ".join(line for item in result for line in item.advice)


def test_a_reader_is_named_with_whom_to_ask_and_an_archive_breaks_on_nothing():
    (result,) = compare(OLD, system(version("v1", thing("id", id=NUMBER))))
    assert [reader.to_dict() for reader in result.readers] == [
        {
            "app": "books",
            "subscription": "books-sold",
            "namespace": "default",
            "owner": "finance",
            "contact": "books@shop.example",
            "criticality": "High",
            "observes": False,
        },
        {
            "app": "archive",
            "subscription": "archive-all",
            "namespace": "default",
            "owner": "",
            "contact": "",
            "criticality": "Normal",
            "observes": True,
        },
    ]
    (unread,) = compare(OLD, system(version("v1", thing("", id=TEXT)), mode="None", accept="v2"))
    assert not unread.breaks


def test_what_was_a_draft_is_no_promise():
    draft = system(V1, version("v2", thing("id", id=NUMBER), "Draft"))
    assert [item.effect for item in compare(draft, system(V1, version("v2")))] == ["added"]
    assert compare(draft, OLD) == []
    assert impacts(OLD, []) == []


def test_a_transitive_rule_looks_at_every_state():
    states = [OLD, system(version("v1", thing("id", id=TEXT, more=TEXT)))]
    now = version("v1", thing("id more", id=TEXT, more=TEXT))
    (last,) = impacts(system(now, mode="Backward"), states)
    (every,) = impacts(system(now, mode="BackwardTransitive"), states)
    assert [item.message for item in last.differences] == ["may be left out by the writer, but the reader requires it"]
    assert len(every.differences) == 2


schemas = st.builds(
    thing,
    st.sampled_from(["", "a", "a b"]),
    a=st.sampled_from([TEXT, NUMBER, {}]),
    b=st.sampled_from([TEXT, {"enum": ["x"]}]),
)


@given(schemas, schemas, st.sampled_from(["None", "Backward", "Forward", "Full", "FullTransitive"]))
def test_findings_of_lint_are_reported_here_too(old: dict[str, Any], new: dict[str, Any], mode: str):
    before, after = system(version("v1", old), mode=mode), system(version("v1", new), mode=mode)
    forbidden = [item for result in compare(before, after) for item in result.differences if item.forbidden]
    assert len(forbidden) == len(compatibility.check(after, [before]))


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
        inventory = load([SHOP], namespace="shop")
        result.put(map(difference.manifest, difference.known(inventory).values()))
        yield result


def spoil(shop: Path) -> None:
    text = (shop / V2).read_text()
    (shop / V2).write_text(text.replace('"orderId": {"type": "string"}', '"orderId": {"type": "integer"}'))


def test_for_people_with_exit_codes(shop: Path):
    assert (run("impact", "--against", SHOP).exit_code, run("impact").exit_code) == (0, 2)
    spoil(shop)
    result = run("impact", "--against", SHOP)
    assert result.exit_code == 1
    for output in (
        "orders.orderConfirmed v2 changed: breaks (owner: orders orders@pizza.example)",
        "data.orderId is integer for the writer, string for the reader (current readers, ruled out by Full)",
        "kitchen-order-confirmed (app kitchen) reads it, criticality High: kitchen",
        "archive-everything (app archive) observes it",
        "-> Publish the change as v3 alongside v2",
        "1 changed version, 2 affected subscriptions",
    ):
        assert output in result.output
    assert run("impact", "--against", SHOP, "--type", "payments.takePayment").exit_code == 0


def test_for_programs(shop: Path):
    spoil(shop)
    (result,) = json.loads(run("impact", "--against", SHOP, "-o", "json").stdout)
    assert (result["type"], result["version"], result["breaks"]) == ("orders.orderConfirmed", "v2", True)
    assert {item["side"] for item in result["differences"]} == {"readers", "replay"}
    assert [reader["app"] for reader in result["readers"]] == ["kitchen", "kitchen", "archive"]


def test_the_cluster_knows_readers_that_no_file_names(shop: Path, cluster: FakeCluster):
    (shop / "subscriptions.yaml").unlink()
    assert run("impact", "--live").exit_code == 0
    spoil(shop)
    alone = run("impact", "--against", SHOP, "--type", "orders.orderConfirmed", "-o", "json")
    assert json.loads(alone.stdout)[0]["readers"] == []
    completed = run("impact", "-n", "shop", "-o", "json")
    assert completed.exit_code == 1
    assert json.loads(completed.stdout)[0]["readers"][0]["subscription"] == "kitchen-order-confirmed"


def test_a_file_that_cannot_be_read_is_an_error(shop: Path):
    (shop / "more.yaml").write_text("kind: [")
    result = run("impact", "--against", SHOP)
    assert (result.exit_code, "yaml-syntax" in result.output) == (1, True)


def test_one_and_true_are_different_values():
    (result,) = compare(system(version("v1", {"enum": [1]})), system(version("v1", {"enum": [True]})))
    assert (result.effect, result.breaks) == ("changed", True)


def test_the_values_of_a_published_map_are_compared():
    """An e-mail's parameters are a map: what no property names is compared, too."""
    file = Path("services/notifications/contracts/schemas/notifications.sendEmail.v1.json")
    old = json.loads(file.read_text(encoding="utf-8"))
    new = json.loads(file.read_text(encoding="utf-8"))
    new["properties"]["parameters"]["additionalProperties"] = NUMBER
    (result,) = compare(system(version("v1", old)), system(version("v1", new)))
    assert result.breaks
    assert {item.field for item in result.differences} == {"data.parameters[*]"}
