"""The alert rules as Prometheus evaluates them: each fires exactly when it should."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

RULES = Path(__file__).parents[2] / "charts/tidings/monitoring/alerts.yaml"
READS = 'tidings_subscription_reads{subscription="loyalty-done",topic="done.v1",pod="a"}'
PUBLISHED = 'tidings_events_published_total{topic="done.v1",result="ok",pod="o"}'
HANDLED = 'tidings_events_handled_total{{subscription="loyalty-done",outcome="{}",pod="a"}}'
WAITS = 'tidings_broker_pending{stream="done_v1",consumer="loyalty",pod="topology"}'
UNREAD = 'tidings_broker_dead_letters_unread{topic="deadletter.loyalty",pod="topology"}'
ARCHIVED = 'tidings_events_handled_total{{subscription="{}",outcome="DeadLetter",pod="a"}}'
HOUR = "x60"


@dataclass(frozen=True)
class Case:
    """Series, a value a minute, and how many alerts of a name fire after an hour."""

    alert: str
    why: str
    series: dict[str, str]
    fires: int


def bucket(metric: str, labels: str, bounds: dict[str, str]) -> dict[str, str]:
    return {f'{metric}_bucket{{{labels},le="{bound}"}}': values for bound, values in bounds.items()}


def handled(**growth: str) -> dict[str, str]:
    return {HANDLED.format(outcome): f"0+{item}{HOUR}" for outcome, item in growth.items()}


AGE, LAG = "tidings_event_age_seconds", "tidings_outbox_lag_seconds"
SILENT = {READS: f"1{HOUR}", PUBLISHED: f"0+5{HOUR}"}
CASES = [
    Case(
        "TidingsOutboxLag", "5% late", bucket(LAG, 'pod="a"', {"5": "0+95x60", "30": "0+100x60", "+Inf": "0+100x60"}), 1
    ),
    Case("TidingsOutboxLag", "all in time", bucket(LAG, 'pod="a"', {"5": "0+100x60", "+Inf": "0+100x60"}), 0),
    Case("TidingsOutboxStuck", "stays", {'tidings_outbox_depth{pod="a"}': f"200{HOUR}"}, 1),
    Case("TidingsOutboxStuck", "comes and goes", {'tidings_outbox_depth{pod="a"}': "200 0 " * 30}, 0),
    Case("TidingsDeadLetters", "one", {HANDLED.format("DeadLetter"): "0x54 1x6"}, 1),
    Case("TidingsDeadLetters", "an hour ago", {HANDLED.format("DeadLetter"): "0x5 1x55"}, 0),
    Case("TidingsDeadLettersUnread", "two wait", {UNREAD: f"2{HOUR}"}, 1),
    Case("TidingsDeadLettersUnread", "none wait", {UNREAD: f"0{HOUR}"}, 0),
    Case("TidingsBrokerLostData", "a queue", {"tidings_broker_losses_total": "0x54 1x6"}, 1),
    Case("TidingsBrokerLostData", "an hour ago", {"tidings_broker_losses_total": "0x5 1x55"}, 0),
    Case("TidingsArchiveCannotKeep", "one", {ARCHIVED.format("archive-everything"): "0x54 1x6"}, 1),
    Case("TidingsArchiveCannotKeep", "a command of its own", {ARCHIVED.format("archive-replay-events"): "0x54 1x6"}, 0),
    Case("TidingsRetrying", "two of three", handled(Retry="20", Done="10"), 1),
    Case("TidingsRetrying", "one of three", handled(Retry="10", Done="20"), 0),
    Case(
        "TidingsConsumerLate",
        "10% late",
        bucket(AGE, 'subscription="s",pod="a"', {"30": "0+90x60", "120": "0+100x60", "+Inf": "0+100x60"}),
        1,
    ),
    Case(
        "TidingsConsumerLate",
        "2% late",
        bucket(AGE, 'subscription="s",pod="a"', {"30": "0+98x60", "120": "0+100x60", "+Inf": "0+100x60"}),
        0,
    ),
    Case("TidingsConsumerSilent", "never delivered anything", SILENT, 1),
    Case("TidingsConsumerSilent", "stopped", {**SILENT, HANDLED.format("Done"): "0+5x20 100x40"}, 1),
    Case(
        "TidingsConsumerSilent",
        "its pods have been away for 40 minutes",
        {**SILENT, READS: "1x20", HANDLED.format("Done"): "0+5x20"},
        1,
    ),
    Case("TidingsConsumerSilent", "two subscriptions", {**SILENT, READS.replace("loyalty", "other"): f"1{HOUR}"}, 2),
    Case("TidingsConsumerSilent", "two replicas are one", {**SILENT, READS.replace('"a"', '"b"'): f"1{HOUR}"}, 1),
    Case("TidingsConsumerSilent", "handles", {**SILENT, **handled(Done="5")}, 0),
    Case("TidingsConsumerSilent", "tries", {**SILENT, **handled(Retry="5")}, 0),
    Case("TidingsConsumerSilent", "wants none of it", {**SILENT, **handled(Ignored="5")}, 0),
    Case("TidingsConsumerSilent", "suspended", {PUBLISHED: f"0+5{HOUR}"}, 0),
    Case("TidingsConsumerSilent", "nothing is told", {READS: f"1{HOUR}", PUBLISHED: f"5{HOUR}"}, 0),
    Case("TidingsBrokerPending", "its service is away", {WAITS: f"0+50{HOUR}"}, 1),
    Case("TidingsBrokerPending", "it keeps up in the end", {WAITS: "500 400 20 0 " * 15}, 0),
    Case("TidingsBrokerPending", "a few always", {WAITS: f"30{HOUR}"}, 0),
    Case(
        "TidingsRateLimited",
        "two wait all the time",
        {'tidings_limit_wait_seconds_total{subscription="s"}': "0+120x60"},
        1,
    ),
    Case(
        "TidingsRateLimited",
        "one waits now and then",
        {'tidings_limit_wait_seconds_total{subscription="s"}': "0+10x60"},
        0,
    ),
    Case("TidingsPublishRefused", "one", {PUBLISHED.replace("ok", "refused"): "0x54 1x6"}, 1),
    Case("TidingsPublishRefused", "none", {PUBLISHED.replace("ok", "refused"): f"3{HOUR}"}, 0),
    Case("TidingsOperatorWithoutLeader", "nobody leads", {'tidings_operator_leader{pod="a"}': f"0{HOUR}"}, 1),
    Case("TidingsOperatorWithoutLeader", "nobody is there", {}, 1),
    Case(
        "TidingsOperatorWithoutLeader",
        "one of two leads",
        {'tidings_operator_leader{pod="a"}': f"0{HOUR}", 'tidings_operator_leader{pod="b"}': f"1{HOUR}"},
        0,
    ),
    Case("TidingsOperatorWatchSilent", "silent", {'tidings_operator_watch_age_seconds{pod="a"}': f"130{HOUR}"}, 1),
    Case("TidingsOperatorWatchSilent", "not", {'tidings_operator_watch_age_seconds{pod="a"}': f"30{HOUR}"}, 0),
    Case("TidingsOperatorErrors", "12 a minute", {'tidings_operator_errors_total{what="app",why="409"}': "0+12x60"}, 1),
    Case("TidingsOperatorErrors", "one a minute", {'tidings_operator_errors_total{what="app",why="409"}': "0+1x60"}, 0),
    Case(
        "TidingsSubscriptionsNotReady",
        "two of ten",
        {"tidings_operator_declared_subscriptions": f"10{HOUR}", "tidings_operator_ready_subscriptions": f"8{HOUR}"},
        1,
    ),
    Case(
        "TidingsSubscriptionsNotReady",
        "all are",
        {"tidings_operator_declared_subscriptions": f"10{HOUR}", "tidings_operator_ready_subscriptions": f"10{HOUR}"},
        0,
    ),
]


def _test_of(case: Case) -> dict[str, Any]:
    expected = [{"labels": "{}", "value": case.fires}] if case.fires else []
    firing = f'count(ALERTS{{alertname="{case.alert}",alertstate="firing"}})'
    return {
        "name": f"{case.alert}: {case.why}",
        "interval": "1m",
        "input_series": [{"series": name, "values": values.strip()} for name, values in case.series.items()],
        "promql_expr_test": [{"expr": firing, "eval_time": "1h", "exp_samples": expected}],
    }


def test_every_alert_fires_when_it_should_and_only_then(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("NOT TESTED, no promtool here: apt-get install prometheus")
    tests = tmp_path / "tests.yaml"
    whole = {"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": [_test_of(case) for case in CASES]}
    tests.write_text(yaml.safe_dump(whole, sort_keys=False))
    ran = subprocess.run([promtool, "test", "rules", tests], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_no_alert_is_left_out() -> None:
    """Each has a case in which it fires, and one in which it does not."""
    alerts = {rule["alert"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]}
    assert {case.alert for case in CASES if case.fires} == alerts == {case.alert for case in CASES if not case.fires}
