"""`tidings rfc new`: a request for comments with the diff, the readers, their migration and the sunset."""

import ast
import json
import re
import shutil
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from tidings_cli import rfc
from tidings_cli.commands import app
from tidings_plan import plan
from tidings_plan.impact import impacts
from tidings_plan.resources import load

SHOP = Path("tests/unit/data/shop").resolve()
TODAY = date(2026, 3, 1)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["rfc", "new", *(str(argument) for argument in arguments)])


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    contracts = tmp_path / "services" / "all" / "contracts"
    shutil.copytree(SHOP, contracts)
    monkeypatch.chdir(tmp_path)
    return contracts


def with_v3(shop: Path, state: str = "Draft") -> None:
    """Propose a v3 of orders.orderConfirmed, in which items must not be empty and a currency is required."""
    schema = json.loads((shop / "schemas/orders.orderConfirmed.v2.json").read_text())
    schema["properties"]["currency"] = {"type": "string"}
    schema["required"] = [*schema["required"], "currency"]
    (shop / "schemas/orders.orderConfirmed.v3.json").write_text(json.dumps(schema))
    text = (shop / "events.yaml").read_text()
    added = f"    - name: v3\n      state: {state}\n      schema: schemas/orders.orderConfirmed.v3.json\n---"
    (shop / "events.yaml").write_text(text.replace("---", added, 1))


def change(shop: Path) -> None:
    path = shop / "schemas/orders.orderConfirmed.v2.json"
    path.write_text(path.read_text().replace('"orderId": {"type": "string"}', '"orderId": {"type": "integer"}'))


def facts(shop: Path, sunset: date | None = None, path: Path | None = None, why: str = "") -> dict[str, Any]:
    return rfc.content(impacts(load([shop]), [load([SHOP])]), path, TODAY, sunset, why)


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_a_new_version_is_proposed_to_who_reads_the_one_before(shop: Path):
    with_v3(shop)
    result = facts(shop)
    (only,) = result["changes"]
    assert (only["version"], only["from"], only["to"]) == ("v3", "v2", "v3")
    assert [reader["subscription"] for reader in only["readers"]] == [
        "kitchen-order-confirmed",
        "kitchen-web-orders",
        "archive-everything",
    ]
    assert result["sunset"] == [
        {"version": "v2", "effective": "2026-03-15", "removal": "2026-09-13", "alternative": "v3"}
    ]
    text = rfc.render(result)
    for output in (
        "| Sunset of v2 | 2026-09-13 |",
        "- [ ] kitchen-order-confirmed (app kitchen)",
        "| archive | archive-everything (observes) |",
        "`data.currency` is not written at all, but the reader requires it (archived events)",
        "orders publishes v3 in addition to v2",
    ):
        assert output in text
    assert "- [ ] archive-everything" not in text, "who observes has nothing to migrate"
    assert any(line.startswith("+") and "currency" in line for line in blocks(text, "diff")[0].splitlines())


def test_an_incompatible_change_in_place_becomes_the_next_version(shop: Path):
    change(shop)
    (only,) = facts(shop)["changes"]
    assert (only["from"], only["to"], only["breaks"]) == ("v2", "v3", True)
    text = rfc.render(facts(shop))
    assert "**the change breaks them.**" in text
    assert '-      "type": "string"' in blocks(text, "diff")[0]
    assert '+      "type": "integer"' in blocks(text, "diff")[0]


def test_what_it_gives_to_copy_is_right(shop: Path):
    """The YAML is one that the EventType takes, the Python one that Python takes."""
    with_v3(shop, "Active")
    text = rfc.render(facts(shop))
    (code,) = blocks(text, "python")
    function = ast.parse(code).body[0]
    assert isinstance(function, ast.FunctionDef)
    assert [ast.unparse(arg.annotation) for arg in function.args.args if arg.annotation] == ["OrderConfirmedV2"]
    (copied,) = blocks(text, "yaml")
    (version,) = yaml.safe_load(copied)["versions"]
    documents = list(yaml.safe_load_all((shop / "events.yaml").read_text()))
    documents[0]["spec"]["versions"][1].update(version)
    (shop / "events.yaml").write_text(yaml.safe_dump_all(documents))
    assert [finding.rule for finding in plan(load([shop]), TODAY).findings if finding.severity == "error"] == []


@pytest.mark.parametrize(
    ("message", "asked", "expected"),
    [
        pytest.param("", None, ("2026-03-15", "2026-09-13"), id="half a year after the comments"),
        pytest.param("", date(2026, 6, 1), ("2026-03-15", "2026-06-01"), id="as asked"),
        pytest.param("", date(2026, 3, 10), ("2026-03-09", "2026-03-10"), id="sooner than the comments end"),
        pytest.param("{effective: 2026-04-01, removal: 2027-01-01}", None, ("2026-04-01", "2027-01-01"), id="as said"),
    ],
)
def test_the_sunset(shop: Path, message: str, asked: date | None, expected: tuple[str, str]):
    with_v3(shop, "Active")
    if message:
        text = (shop / "events.yaml").read_text()
        text = text.replace(
            "    - name: v2\n", f"    - name: v2\n      state: Deprecated\n      deprecation: {message}\n"
        )
        (shop / "events.yaml").write_text(text)
    result = {(item["effective"], item["removal"]) for item in facts(shop, asked)["sunset"] if item["version"] == "v2"}
    assert result == {expected}


def test_a_compatible_change_needs_no_migration(shop: Path):
    path = shop / "schemas/orders.orderConfirmed.v2.json"
    schema = json.loads(path.read_text())
    schema["properties"]["note"] = {"type": "string"}
    path.write_text(json.dumps(schema))
    text = rfc.render(facts(shop))
    assert "No difference affects readers." in text
    assert "No version ends." in text
    assert "@upcaster" not in text


def test_files_are_numbered_and_never_overwritten(shop: Path, tmp_path: Path):
    with_v3(shop)
    folder = tmp_path / "docs" / "rfcs"
    folder.mkdir(parents=True)
    (folder / "0041-something.md").touch()
    (folder / "README.md").touch()
    for number in ("0042", "0043"):
        result = run("orders.orderConfirmed", "--against", SHOP, "--why", "Two currencies.")
        assert result.exit_code == 0, result.output
        text = (folder / f"{number}-orders-order-confirmed-v3.md").read_text()
        assert text.startswith(f"# RFC {number}: orders.orderConfirmed: v3 drafted\n")
        assert "## Why\n\nTwo currencies.\n" in text
    named = run("orders.orderConfirmed.v3", "--against", SHOP, "--to", folder / "README.md")
    assert (named.exit_code, "exists" in named.output) == (1, True)
    assert (folder / "README.md").read_text() == ""


def test_it_can_be_printed_or_read_by_programs(shop: Path, tmp_path: Path):
    with_v3(shop)
    printed = run("orders.orderConfirmed", "--against", SHOP, "--to", "-")
    assert printed.stdout.startswith("# orders.orderConfirmed: v3 drafted\n")
    content = json.loads(run("orders.orderConfirmed", "--against", SHOP, "-o", "json").stdout)
    assert (content["type"], content["date"]) == ("orders.orderConfirmed", str(datetime.now(UTC).date()))
    assert not (tmp_path / "docs").exists()


def test_without_a_change_the_rfc_is_empty(shop: Path):
    with_v3(shop)
    same = run("payments.takePayment", "--against", SHOP)
    assert (same.exit_code, "Changed compared with --against: orders.orderConfirmed.v3" in same.output) == (1, True), (
        same.output
    )
    assert run("orders.orderConfirmed").exit_code == 2, "compared with what?"
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    assert run("orders.orderConfirmed", "--against", SHOP, "--sunset", yesterday).exit_code == 2


def test_no_line_of_a_table_is_broken(shop: Path):
    """A blank line within a Markdown table ends it."""
    with_v3(shop)
    change(shop)
    lines = rfc.render(facts(shop)).splitlines()
    rows = [number for number, line in enumerate(lines) if line.startswith("|")]
    heads = [number for number in rows if number - 1 not in rows]
    assert all(re.fullmatch(r"\|(-+\|)+", lines[number + 1]) for number in heads), heads
    assert not re.search(r"\n\n\n", "\n".join(lines)), "two blank lines in a row"
