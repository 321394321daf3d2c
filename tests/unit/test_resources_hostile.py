"""Any file is read within bounds: what is hostile becomes a finding with its place, and everything else is read."""

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from tidings_cli.commands import app
from tidings_plan.resources import Finding, load, parse_resource
from tidings_plan.resources.bounds import MAX_VALUES
from tidings_plan.resources.brokers import delivery
from tidings_plan.resources.did_you_mean import did_you_mean
from tidings_plan.resources.reading import MAX_BYTES, parse

HEAD = "apiVersion: tidings.dev/v1alpha1\n"
GOOD = f"""\
{HEAD}kind: EventSubscription
metadata: {{name: good}}
spec:
  events:
    - {{type: orders.orderConfirmed, versions: [v2]}}
  consumer: {{appId: kitchen}}
"""
TYPE = f"""\
{HEAD}kind: EventType
metadata: {{name: orders.order-confirmed}}
spec:
  type: orders.orderConfirmed
  owner: {{team: orders}}
  producers: [orders]
  versions:
    - name: v1
      schema: {{type: object}}
"""
ENDS = "{effective: 2026-11-23, removal: 2027-06-31}"
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


def result(folder: Path, text: str | bytes) -> list[Finding]:
    file = folder / "x.yaml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return load([file]).findings


def with_spec(line: str) -> str:
    return f"{GOOD}  {line}\n"


def with_filters(text: str) -> str:
    return GOOD.replace("[v2]", f"[v2], filters: {text}")


@pytest.mark.parametrize(
    ("text", "rule", "line"),
    [
        pytest.param(BOMB, "yaml-unsupported", 7, id="alias bomb"),
        pytest.param("a: &a\n  b: *a\n", "yaml-unsupported", 1, id="alias of itself"),
        pytest.param("- " * 200_000, "yaml-unsupported", 1, id="blocks that end the parser"),
        pytest.param("[" * 5_000 + "]" * 5_000, "yaml-unsupported", 1, id="lists within lists"),
        pytest.param("a: " + "{b: " * 5_000 + "}" * 5_000, "yaml-unsupported", 1, id="maps within maps"),
        pytest.param("a: !!python/object/apply:os.system [ls]", "yaml-unsupported", 1, id="python"),
        pytest.param("a: !!binary aGk=", "yaml-unsupported", 1, id="binary"),
        pytest.param("a: !!set {x, y}", "yaml-unsupported", 1, id="set"),
        pytest.param("a: !own x", "yaml-unsupported", 1, id="own tag"),
        pytest.param("a: !!int x", "yaml-unsupported", 1, id="no number"),
        pytest.param("a: 1\nb: " + "9" * 5_000, "yaml-unsupported", 2, id="5,000 digits"),
        pytest.param("? [a, b]\n: c\n", "yaml-unsupported", 1, id="a list as a name"),
        pytest.param("<<: 5\n", "yaml-unsupported", 1, id="merges no map"),
        pytest.param("a: 1\na: 2\n", "yaml-duplicate-field", 2, id="doubled"),
        pytest.param("a: \x07", "yaml-syntax", 0, id="control character"),
        pytest.param("a: \x00", "yaml-syntax", 0, id="nul"),
        pytest.param(GOOD.encode("utf-16"), "file-unreadable", 0, id="UTF-16"),
        pytest.param(b"a: \xff\xfe", "file-unreadable", 0, id="no UTF-8"),
        pytest.param("- a\n- b\n", "not-a-resource", 1, id="a list"),
        pytest.param("text", "not-a-resource", 1, id="a text"),
        pytest.param("a: 1", "not-a-resource", 1, id="no resource"),
        pytest.param(GOOD.replace("v1alpha1", "v9"), "unknown-api-version", 1, id="other version"),
        pytest.param(GOOD.replace("tidings.dev", "Tidings.dev"), "unknown-api-version", 1, id="other case"),
        pytest.param(GOOD.replace("tidings.dev", "tiding.dev"), "unknown-api-version", 1, id="misspelled group"),
        pytest.param(GOOD.replace("EventSubscription", "[a]"), "unknown-kind", 2, id="a list as kind"),
        pytest.param(GOOD.replace("EventSubscription", "EventSub"), "unknown-kind", 2, id="unknown kind"),
        pytest.param(GOOD.replace("name: good", 'name: "good\\n"'), "wrong-value", 3, id="line break in a name"),
        pytest.param(GOOD.replace("name: good", 'name: "go\\0od"'), "too-large", 3, id="nul in a name"),
        pytest.param(GOOD.replace("kitchen}", 'kitchen, owner: "\\e[31m"}'), "too-large", 7, id="terminal codes"),
        pytest.param(with_spec("delivery: {retry: {maxRetries: 2147483647}}"), "wrong-value", 8, id="retries"),
        pytest.param(with_spec("delivery: {retry: {maxRetries: 5.0}}"), "wrong-value", 8, id="float for int"),
        pytest.param(with_spec("delivery: {retry: {maxRetries: 1e3}}"), "wrong-value", 8, id="exponent"),
        pytest.param(with_spec("delivery: {retry: {maxRetries: -1}}"), "wrong-value", 8, id="negative"),
        pytest.param(with_spec(f"delivery: {{timeout: {'9' * 400}}}"), "too-large", 8, id="timeout of 400 digits"),
        pytest.param(with_spec(f"delivery: {{timeout: {'9' * 30}s}}"), "wrong-value", 8, id="30 digits of seconds"),
        pytest.param(with_spec(f"delivery: {{timeout: {'9s' * 30}}}"), "wrong-value", 8, id="many parts"),
        pytest.param(with_spec('delivery: {timeout: "5s\\n"}'), "wrong-value", 8, id="line break in a duration"),
        pytest.param(with_spec("rateLimit: {eventsPerSecond: .nan}"), "too-large", 8, id="NaN"),
        pytest.param(with_spec("rateLimit: {eventsPerSecond: .inf}"), "too-large", 8, id="infinity"),
        pytest.param(with_spec("rateLimit: {eventsPerSecond: 1.0e-300}"), "wrong-value", 8, id="once in an age"),
        pytest.param(
            with_spec(f"rateLimit: {{eventsPerSecond: {'9' * 400}}}"), "too-large", 8, id="rate of 400 digits"
        ),
        pytest.param(with_spec(f"maxConcurrency: {'9' * 400}"), "too-large", 8, id="concurrency"),
        pytest.param(with_filters("[{exact: {subject: .nan}}]"), "too-large", 6, id="NaN in a filter"),
        pytest.param(with_filters("[" + "{not: " * 70 + "{}" + "}" * 70 + "]"), "too-large", 6, id="filters"),
        pytest.param(with_filters(f"[{', '.join(['{cel: a}'] * 65)}]"), "wrong-value", 6, id="65 filters"),
        pytest.param(with_filters(f"[{{cel: {'a' * 5_000}}}]"), "wrong-value", 6, id="CEL of 5,000 characters"),
        pytest.param(with_spec(f"routes: {{default: /{'a' * 2_000}}}"), "wrong-value", 8, id="a long path"),
        pytest.param(with_spec('routes: {default: "/a\\nb"}'), "wrong-value", 8, id="line break in a path"),
        pytest.param(with_spec('source: {topic: "a,b"}'), "wrong-value", 8, id="comma in a topic"),
        pytest.param(with_spec('source: {topic: "a;evil=b"}'), "wrong-value", 8, id="scopes in a topic"),
        pytest.param(with_spec('source: {topic: "orders.>"}'), "wrong-value", 8, id="NATS wildcard"),
        pytest.param(with_spec('source: {topic: "orders.*"}'), "wrong-value", 8, id="wildcard"),
        pytest.param(with_spec('source: {topic: "a."}'), "wrong-value", 8, id="trailing dot"),
        pytest.param(with_spec('source: {topic: "\u0440ayments"}'), "wrong-value", 8, id="confusable letter"),
        pytest.param(with_spec('source: {pubsub: "a;b"}'), "wrong-value", 8, id="component"),
        pytest.param(
            TYPE + "      deprecation: {effective: 2026-11-23, removal: 2027-06-31}", "wrong-value", 11, id="date"
        ),
        pytest.param(TYPE.replace("type: orders.", "type: 'a,b;evil=c.'\n  x: orders."), "wrong-value", 5, id="type"),
        pytest.param(TYPE.replace("name: v1", "name: v10000"), "wrong-value", 9, id="version of five digits"),
        pytest.param(TYPE.replace("{type: object}", "{maximum: .inf}"), "too-large", 10, id="infinity in a schema"),
        pytest.param(TYPE.replace("{type: object}", "{a: " * 70 + "1" + "}" * 70), "too-large", 0, id="deep schema"),
        pytest.param(
            TYPE.replace("{type: object}", f"[{', '.join(['1'] * (MAX_VALUES + 1))}]"),
            "too-large",
            1,
            id="large schema",
        ),
        pytest.param(GOOD.replace("metadata: {", "metadata: {labels: {a: 5}, "), "wrong-value", 3, id="label"),
    ],
)
def test_hostile_files_are_findings_with_their_place(tmp_path: Path, text: str | bytes, rule: str, line: int) -> None:
    findings = result(tmp_path, text)
    assert any(finding.rule == rule and finding.severity == "error" for finding in findings), findings
    [first] = [finding for finding in findings if finding.rule == rule][:1]
    assert (first.location.file, first.location.line if line else 0) == (str(tmp_path / "x.yaml"), line), first
    assert len(first.message) < 600


def items(*documents: str) -> str:
    return yaml.safe_dump([yaml.safe_load(document) for document in documents])


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(f"apiVersion: v1\nkind: List\nitems:\n{items(GOOD)}", id="List"),
        pytest.param(f"{HEAD}kind: EventSubscriptionList\nitems:\n{items(GOOD)}", id="list of one kind"),
        pytest.param(
            f"{HEAD}kind: EventSubscriptionList\nitems:\n- metadata: {{name: good}}\n"
            "  spec: {events: [{type: a.bDone}], consumer: {appId: a}}\n",
            id="items without a kind",
        ),
        pytest.param(
            "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: List\n  items:\n"
            + "".join(f"  {line}\n" for line in items(GOOD).splitlines()),
            id="list in a list",
        ),
        pytest.param(b"\xef\xbb\xbf" + GOOD.encode(), id="byte order mark"),
        pytest.param(GOOD.replace("\n", "\r\n"), id="line ends of Windows"),
        pytest.param(f"---\n---\n{GOOD}---\n...\n---\n", id="empty documents"),
        pytest.param(GOOD.replace("{appId: kitchen}", "&c {appId: kitchen}"), id="anchor"),
        pytest.param(
            GOOD.replace(
                "  consumer: {", "  consumer:\n    <<: {appId: other, owner: me}\n    appId: kitchen\n  x: {"
            ).replace("  x: {appId: kitchen}\n", ""),
            id="merge key",
        ),
    ],
)
def test_what_kubernetes_reads_is_read(tmp_path: Path, text: str | bytes) -> None:
    file = tmp_path / "x.yaml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    inventory = load([file])
    assert not inventory.findings
    assert [*inventory.subscriptions] == [("default", "good")]


def test_the_items_of_a_list_are_checked_at_their_place(tmp_path: Path) -> None:
    text = f"apiVersion: v1\nkind: List\nitems:\n{items(GOOD.replace('appId: kitchen', 'appId: No'))}"
    [only] = result(tmp_path, text)
    assert (only.location.line, only.location.field) == (10, "spec.consumer.appId")


def test_a_bad_document_hides_no_good_one(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(BOMB)
    (tmp_path / "b.yaml").write_text("- " * 200_000)
    (tmp_path / "good.yaml").write_text(GOOD)
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "large.yaml").write_bytes(b"#" * (MAX_BYTES + 1))
    inventory = load([tmp_path])
    assert [*inventory.subscriptions] == [("default", "good")]
    assert {Path(finding.location.file).name for finding in inventory.findings} == {
        "a.yaml",
        "b.yaml",
        "pipe.yaml",
        "large.yaml",
    }


@pytest.mark.parametrize(
    "data",
    [
        None,
        5,
        [],
        {},
        {"apiVersion": "tidings.dev/v1alpha1", "kind": {}},
        {"apiVersion": "tidings.dev/v1alpha1", "kind": "EventType", "metadata": [], "spec": []},
        {"apiVersion": "tidings.dev/v1alpha1", "kind": "EventType", "metadata": {"name": "\ud800"}, "spec": {}},
        {"apiVersion": "tidings.dev/v1alpha1", "kind": "EventType", "metadata": {5: 5}, "spec": {}},
        {"apiVersion": "tidings.dev/v1alpha1", "kind": "EventType", "metadata": {"name": "a"}, "spec": {"a.b[0]`$": 1}},
        {
            "apiVersion": "tidings.dev/v1alpha1",
            "kind": "EventSubscription",
            "metadata": {"name": "a"},
            "spec": {f"x{place}": place for place in range(5_000)},
        },
    ],
)
def test_parsing_raises_nothing(data: Any) -> None:
    resource, findings = parse_resource(data)
    assert resource is None
    assert findings
    assert len(findings) < 100


@pytest.mark.parametrize(
    "document",
    [
        {"kind": "Component"},
        {"kind": "Component", "metadata": None, "spec": None},
        {"kind": "Component", "metadata": {"name": "a"}, "spec": {"type": [], "metadata": 5}},
        {"kind": "Component", "metadata": {"name": "a"}, "spec": {"type": "pubsub.jetstream", "metadata": [5, {}]}},
        {"kind": "Component", "metadata": {}, "spec": {"type": "pubsub.redis"}},
    ],
)
def test_nothing_is_known_of_a_broken_component(document: Any) -> None:
    found = delivery(document)
    assert found is None or not (found.serial or found.sharing)


def test_a_suggestion_compares_a_bounded_number_of_names() -> None:
    assert did_you_mean("orders.orderPlacd", [f"other{place}.thingDone" for place in range(100_000)]) == ""
    assert did_you_mean("a" * 1_000_000, ["a" * 1_000_000]) != ""
    many = [f"x{place}.y" for place in range(1_000)]
    assert did_you_mean("orders.orderPlacd", [*many, "orders.orderPlaced"]) == "Did you mean 'orders.orderPlaced'?"


BAD_DATE = f"""\
{TYPE}      state: Deprecated
      deprecation: {{effective: 2026-11-23, removal: 2027-06-31}}
"""


@pytest.mark.parametrize("removal", ["2027-06-31", "2027-6-1", "20270601", "'2027-13-01'", "2027-02-29", "1e9", "[]"])
def test_a_date_that_does_not_exist_is_a_finding_at_its_field(removal: str, tmp_path: Path) -> None:
    """`tidings lint` names file, line, column and field, and how to write a date."""
    file = tmp_path / "baddate.yaml"
    file.write_text(BAD_DATE.replace("2027-06-31", removal))
    answer = CliRunner().invoke(app, ["lint", str(file)])
    output = " ".join(answer.output.split())
    assert answer.exit_code == 1
    assert f"{file}:12:53: error: spec.versions[0].deprecation.removal" in output
    assert "[wrong-value]" in output
    assert output.endswith("0 event types, 0 subscriptions: 1 error")


def test_dates_are_texts_until_a_model_reads_them() -> None:
    [document], findings = parse("a: 2026-11-29\nb: 2026-11-29T10:00:00Z\n1: yes\n")
    assert document.data == {"a": "2026-11-29", "b": "2026-11-29T10:00:00Z", "1": True}
    assert not findings
