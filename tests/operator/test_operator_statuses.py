"""The status of a subscription, as a pure function: per event, and with nothing claimed that was not observed."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.test_plan import KINDS_OF_EVENTS, SEVERAL, TODAY, event_type, inventory, subscription

from tidings_operator.statuses import Observation, Outcome
from tidings_operator.statuses import subscription as status_of
from tidings_plan import plan_app

TOPIC = ("pubsub", "orders.orderConfirmed.v2")


def status(*documents: dict[str, Any], app: str = "kitchen", observation: Observation | None = None) -> dict[str, Any]:
    known = inventory(*documents)
    planned = plan_app(("default", app), known, TODAY)
    this = known.of_app(("default", app))[0]
    return status_of(this, Outcome(planned, (), observation=observation), known, {}, "2026-11-29T12:00:00Z")


def condition(actual: dict[str, Any], kind: str) -> tuple[str, str]:
    return next((item["status"], item["reason"]) for item in actual["conditions"] if item["type"] == kind)


def test_every_event_of_a_subscription_has_a_status() -> None:
    result = status(*KINDS_OF_EVENTS, SEVERAL, app="tracking")
    events = {event["name"]: (event["ready"], event["reason"], event["topics"]) for event in result["events"]}
    assert events == {
        "orders.orderConfirmed": (True, "Planned", ["orders.orderConfirmed.v2"]),
        "orders.orderPlaced": (True, "Planned", ["orders.orderPlaced.v1"]),
        "orders.orderCancelled": (False, "UnknownVersion", []),
        "kitchen.*": (True, "Planned", ["kitchen.pizzaBaked.v1"]),
    }
    assert condition(result, "Ready") == ("False", "UnknownVersion")
    assert condition(result, "Programmed") == ("True", "PartlyProgrammed")


def test_an_event_that_shared_settings_reject_is_not_ready() -> None:
    broken = {**SEVERAL, "spec": {**SEVERAL["spec"], "routes": {"rules": [{"match": "event.", "path": "/x"}]}}}
    result = status(*KINDS_OF_EVENTS, broken, app="tracking")
    assert {event["ready"] for event in result["events"]} == {False}
    assert condition(result, "Programmed") == ("False", "NotAccepted")


@pytest.mark.parametrize(
    ("by_some", "expected"), [({TOPIC}, ("False", "StillSubscribed")), (set(), ("True", "Suspended"))]
)
def test_a_suspended_topic_is_observed(by_some: set[tuple[str, str]], expected: tuple[str, str]) -> None:
    seen = Observation(by_some=frozenset(by_some), sidecars=2)
    result = status(event_type(), subscription(suspend=True), observation=seen)
    assert condition(result, "Observed") == expected
    assert condition(result, "Ready") == ("True", "Suspended")


def test_nothing_is_claimed_of_a_dead_letter_topic_of_its_own() -> None:
    result = status(event_type(), subscription(delivery={"deadLetter": {"topic": "failures"}}))
    assert condition(result, "DeadLetterReady") == ("Unknown", "OwnTopic")
