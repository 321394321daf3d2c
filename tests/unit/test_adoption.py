"""The adopted resources yield the original plan, and errors in the originals are findings with their location."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.unit.test_plan import event_type, planned, subscription
from typer.testing import CliRunner

from tidings_cli.commands import app as tidings
from tidings_plan.adoption import adopt
from tidings_plan.resources import Origin

Document = dict[str, Any]
RETRY: Document = {"policy": "Constant", "duration": "2s", "maxRetries": 7}
GROWING: Document = {"policy": "Exponential", "maxInterval": "30s", "maxRetries": 4}


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"routes": {"default": "/orders"}},
        {"routes": {"rules": [{"match": "event.type == 'big'", "path": "/big"}], "default": "/rest"}},
        {"filters": [{"exact": {"data.channel": "web"}}], "routes": {"default": "/web"}},
        {"delivery": {"retry": RETRY, "timeout": "4s", "deadLetter": {"topic": "poison"}}},
        {"delivery": {"retry": GROWING, "circuitBreaker": {"trip": "consecutiveFailures > 9", "interval": "8s"}}},
        {"bulk": {"maxMessages": 25, "maxAwait": "50ms"}},
    ],
)
@pytest.mark.parametrize("topic", ["{type}.v{version}", "orders"])
def test_what_is_adopted_plans_to_the_same(spec: Document, topic: str) -> None:
    kind = event_type(versions="v2:Active", channel={"pubsub": "orderpubsub", "topic": topic})
    delivery = spec.get("delivery", {})
    dead_letter = {**delivery.get("deadLetter", {}), "replay": False}  # apps without the SDK read no replays today
    spec = {**spec, "delivery": {**delivery, "deadLetter": dead_letter}}
    before = planned(kind, subscription(kit=False, **spec)).apps["kitchen"]
    rendered = [*before.subscriptions, before.resiliency]
    adopted = adopt((document, Origin()) for document in rendered)
    # With filters, daprd's default route is the plan's own path for ignored events: it is adopted as such.
    assert [
        finding.rule for finding in adopted.findings if finding.severity == "error" or finding.rule == "differs"
    ] == []
    after = planned(*adopted.documents).apps["kitchen"]
    assert (after.subscriptions, after.resiliency) == (before.subscriptions, before.resiliency)


OLD = """\
apiVersion: v1
kind: List
items:
- apiVersion: dapr.io/v2alpha1
  kind: Subscription
  metadata: {name: order-sub}
  spec:
    pubsubname: orderpubsub
    topic: orders
    routes:
      rules: [{match: 'event.type ==', path: /big}]
  scopes: [checkout]
- apiVersion: dapr.io/v1alpha1
  kind: Subscription
  metadata: {name: all}
  spec: {pubsubname: orderpubsub, topic: shop.itemSold.v1, route: /sold}
- apiVersion: dapr.io/v2alpha1
  kind: Subscription
  metadata: {name: odd}
  spec: {pubsubname: orderpubsub, topic: odd, routes: {rules: [5], default: /x}}
  scopes: [books]
- apiVersion: dapr.io/v1alpha1
  kind: Resiliency
  metadata: {name: endless}
  spec:
    policies: {retries: {r: {policy: constant}}}
    targets: {components: {orderpubsub: {inbound: {retry: r}}}}
  scopes: [books]
"""


def test_what_is_wrong_is_a_finding_with_its_place(tmp_path: Path) -> None:
    file = tmp_path / "old.yaml"
    file.write_text(OLD)
    result = CliRunner().invoke(tidings, ["adopt", str(file)])
    assert result.exit_code == 1
    for line, rule in (
        ("11:23: error", "malformed-cel"),
        ("9:12: warning", "no-dead-letters"),
        ("8:17: warning", "one-attempt"),
        ("8:17: warning", "no-timeout"),
        ("11:7: warning", "no-default-route"),
        ("15:20: error", "no-scopes"),
        ("20:9: error", "unreadable"),
    ):
        assert any(f"old.yaml:{line}" in item and rule in item for item in result.stderr.splitlines()), (line, rule)
    documents = list(yaml.safe_load_all(result.stdout))
    assert {document["kind"] for document in documents} == {"EventType", "EventSubscription"}


def test_other_documents_are_left_alone() -> None:
    assert adopt([(5, Origin()), (None, Origin()), ({"kind": "Deployment"}, Origin())]).documents == []


def test_what_the_operator_has_written_is_left_alone() -> None:
    """On a cluster with Tidings, such as the Subscriptions of its archive."""
    rendered = planned(event_type(), subscription()).apps["kitchen"].subscriptions
    for document in rendered:
        document["metadata"]["labels"] = {"app.kubernetes.io/managed-by": "tidings"}
    adopted = adopt((document, Origin()) for document in rendered)
    assert (adopted.documents, adopted.findings) == ([], [])
