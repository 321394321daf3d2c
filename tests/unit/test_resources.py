"""Reading resources: strict, and every mistake with its place and its fix."""

from pathlib import Path
from textwrap import dedent

import pytest

from tidings_plan import plan
from tidings_plan.resources import Inventory, load, parse_resource, worst_first
from tidings_plan.resources.durations import go, seconds
from tidings_plan.resources.reading import parse

GOOD = """\
apiVersion: tidings.dev/v1alpha1
kind: EventSubscription
metadata: {name: one}
spec:
  consumer: {appId: kitchen}
  events:
    - type: orders.orderConfirmed
      versions: [v2]
"""


def findings(text: str) -> list[tuple[str, str, str]]:
    documents, result = parse(text, "x.yaml")
    for document in documents:
        result += parse_resource(document.data, document.origin)[1]
    return [
        (item.rule, f"{item.location.line}:{item.location.column} {item.message}", item.fix)
        for item in worst_first(result)
    ]


@pytest.mark.parametrize(
    ("before", "after", "rule", "place", "fix"),
    [
        (
            "kind: EventSubscription",
            "kind: EventSubscripton",
            "unknown-kind",
            "2:7 ",
            "Did you mean 'EventSubscription'?",
        ),
        ("v1alpha1", "v2", "unknown-api-version", "1:13 apiVersion tidings.dev/v2", "Write tidings.dev/v1alpha1."),
        ("spec:", "sepc:", "unknown-field", "4:1 Unknown field sepc", "Did you mean 'spec'?"),
        ("name: one", "name: One", "wrong-value", "3:18 metadata.name: 'One' is not a Kubernetes name", "Correct"),
        ("appId: k", "appid: k", "unknown-field", "5:14 Unknown field spec.consumer.appid", "Did you mean 'appId'?"),
        ("appId: kitchen", "appId: My App", "wrong-value", "5:21 spec.consumer.appId: 'My App' is not a Dapr app", "C"),
        (
            "consumer: {appId: kitchen}",
            "suspend: true",
            "missing-field",
            "5:3 spec.consumer is missing",
            "Add consumer.",
        ),
        ("[v2]", "[2]", "wrong-value", "8:18 spec.events[0].versions[0]: expected str, got int", "Quote it"),
        ("[v2]", "['2']", "wrong-value", "8:18 spec.events[0].versions[0]: '2' is not a major version such as v1", "C"),
        ("[v2]", "v2", "wrong-value", "8:17 spec.events[0].versions: expected array", "Correct the value."),
        ("appId: kitchen", "appId: k, criticality: Hihg", "wrong-value", "5:37 ", "Did you mean 'High'?"),
        (
            "  consumer",
            "  delivery: {timeout: 5 min}\n  consumer",
            "wrong-value",
            "5:23 spec.delivery.timeout: '5 min'",
            "C",
        ),
        (
            "      versions",
            "      filters: [{exat: {a: b}}]\n      versions",
            "unknown-field",
            "8:18 ",
            "Did you mean 'exact'?",
        ),
        ("spec:", "spec:\n  versions: {accept: [v1]}", "unknown-field", "5:3 ", "Known: bulk, consumer, "),
        (
            "type: o",
            "pattern: '*'\n      type: o",
            "wrong-value",
            "7:7 spec.events[0]: set exactly one of type and",
            "C",
        ),
        (
            "  consumer",
            "  maxConcurrency: 0\n  consumer",
            "wrong-value",
            "5:19 spec.maxConcurrency: expected int >= 1",
            "C",
        ),
        (
            "  consumer",
            "  ordering: {key: data.id}\n  consumer",
            "wrong-value",
            "5:19 spec.ordering.key: 'data.id'",
            "C",
        ),
        ("metadata: {name: one}", "metadata: {}", "missing-field", "3:11 metadata.name is missing", "Add name."),
        (GOOD[GOOD.index("spec:") :], "spec: 5\n", "wrong-value", "4:7 spec: expected object, got int", "Correct"),
        ("[v2]", "[v2", "yaml-syntax", "", "Check indentation"),
        ("metadata:", "kind: Other\nmetadata:", "yaml-duplicate-field", "3:1 Duplicate field 'kind'", "Remove one"),
        ("kind: EventSubscription\n", "", "not-a-resource", "1:1 Not a resource", "Begin with"),
    ],
)
def test_mistakes(before: str, after: str, rule: str, place: str, fix: str):
    assert before in GOOD
    result = findings(GOOD.replace(before, after, 1))
    assert any(item[0] == rule and item[1].startswith(place) and item[2].startswith(fix) for item in result), result


def test_valid_resources_have_no_findings_and_foreign_ones_are_ignored():
    assert findings(GOOD + "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n---\n") == []


def test_all_unknown_fields_are_reported_together():
    text = GOOD.replace("  events", "  verions: {}\n  sorce: {}\n  events").replace("appId", "appId: x, kitt: 1, owner")
    assert [finding[0] for finding in findings(text)] == ["unknown-field"] * 3


@pytest.mark.parametrize(
    ("written", "place"),
    [
        ("event.type =", (10, 27)),
        ("'event.type ='", (10, 28)),
        ("|\n            event.id == '1' &&\n            event.type =", (12, 24)),
        (">-\n            event.type =", (11, 24)),
    ],
)
def test_cel_is_located_inside_its_text(written: str, place: tuple[int, int]):
    """The place is that of the `=` which CEL does not know."""
    documents, _ = parse(f"{GOOD}      filters:\n        - cel: {written}\n", "x.yaml")
    resource, wrong = parse_resource(documents[0].data, documents[0].origin)
    assert resource is not None, wrong
    (result,) = [finding for finding in plan(Inventory([resource])).findings if finding.rule == "malformed-cel"]
    assert (result.location.line, result.location.column) == place
    assert (result.location.file, result.location.field) == ("x.yaml", "spec.events[0].filters[0].cel")


def test_files_are_loaded_with_their_schemas_and_examples(tmp_path: Path):
    schemas = tmp_path / "deep" / "schemas"
    schemas.mkdir(parents=True)
    (schemas / "s.json").write_text('{"type": "object"}')
    (schemas / "broken.json").write_text("{")
    (schemas / "e.json").write_text("[1]")
    (tmp_path / "deep" / "events.yml").write_text(
        dedent("""\
        apiVersion: tidings.dev/v1alpha1
        kind: EventType
        metadata: {name: a}
        spec:
          type: a.bDone
          owner: {team: t}
          versions:
            - {name: v1, schema: schemas/s.json, examples: [{a: 1}, schemas/e.json]}
            - {name: v2, schema: schemas/broken.json}
            - {name: v3, schema: schemas/missing.json}
        """)
    )
    inventory = load([tmp_path, tmp_path / "deep"])
    versions = inventory.types["default", "a"].spec.versions
    assert [version.schema for version in versions] == [{"type": "object"}, None, None]
    assert versions[0].examples == ({"a": 1},)
    assert [(finding.location.line, finding.location.field) for finding in inventory.findings] == [
        (8, "spec.versions[0].examples[1]"),
        (9, "spec.versions[1].schema"),
        (10, "spec.versions[2].schema"),
    ]


def test_a_name_written_a_second_time_is_kept_a_single_time_and_reported(tmp_path: Path):
    (tmp_path / "a.yaml").write_text(GOOD)
    (tmp_path / "b.yaml").write_text(GOOD.replace("kitchen", "other"))
    inventory = load([tmp_path])
    assert [subscription.spec.consumer.app_id for subscription in inventory.subscriptions.values()] == ["kitchen"]
    (result,) = inventory.findings
    assert (result.rule, result.location.file) == ("duplicate-resource", str(tmp_path / "b.yaml"))
    assert "a.yaml:1:1" in result.message


def test_a_file_that_cannot_be_read_is_a_finding(tmp_path: Path):
    (tmp_path / "bad.yaml").write_bytes(b"\xff\xfe\x00")
    inventory = load([tmp_path, tmp_path / "none.yaml"])
    assert [finding.rule for finding in inventory.findings] == ["file-unreadable"] * 2


def test_a_resource_of_a_cluster_is_read_without_a_file():
    """A cluster's metadata has fields that no file has; findings then know only the field."""
    data = {
        "apiVersion": "tidings.dev/v1alpha1",
        "kind": "EventReplay",
        "metadata": {"name": "r", "namespace": "shop", "uid": "1", "creationTimestamp": "2026-11-23T00:00:00Z"},
        "spec": {"target": {"subscription": "one"}, "filter": {"since": "2026-11-01T00:00:00Z"}},
        "status": {"anything": 1},
    }
    resource, wrong = parse_resource(data)
    assert resource is not None, wrong
    assert (resource.key, resource.ref) == (("shop", "r"), "EventReplay/shop/r")
    assert resource.finding("info", "x", "y", at=("spec", "rate")).location.field == "spec.rate"
    assert Inventory([resource]).replays == {("shop", "r"): resource}


@pytest.mark.parametrize(("text", "length"), [("500ms", 0.5), ("30s", 30), ("1m30s", 90), ("1.5h", 5400)])
def test_durations(text: str, length: float):
    assert seconds(text) == length
    assert seconds(go(length)) == length


def test_a_duration_that_is_none():
    with pytest.raises(ValueError, match="write 500ms"):
        seconds("5 minutes")
