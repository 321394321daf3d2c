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


def condition(found: dict[str, Any], kind: str) -> tuple[str, str]:
    return next((each["status"], each["reason"]) for each in found["conditions"] if each["type"] == kind)


def test_each_event_of_a_subscription_has_a_status() -> None:
    found = status(*KINDS_OF_EVENTS, SEVERAL, app="tracking")
    events = {each["name"]: (each["ready"], each["reason"], each["topics"]) for each in found["events"]}
    assert events == {
        "orders.orderConfirmed": (True, "Planned", ["orders.orderConfirmed.v2"]),
        "orders.orderPlaced": (True, "Planned", ["orders.orderPlaced.v1"]),
        "orders.orderCancelled": (False, "UnknownVersion", []),
        "kitchen.*": (True, "Planned", ["kitchen.pizzaBaked.v1"]),
    }
    assert condition(found, "Ready") == ("False", "UnknownVersion")
    assert condition(found, "Programmed") == ("True", "PartlyProgrammed")


def test_an_event_that_shared_settings_reject_is_not_ready() -> None:
    broken = {**SEVERAL, "spec": {**SEVERAL["spec"], "routes": {"rules": [{"match": "event.", "path": "/x"}]}}}
    found = status(*KINDS_OF_EVENTS, broken, app="tracking")
    assert {each["ready"] for each in found["events"]} == {False}
    assert condition(found, "Programmed") == ("False", "NotAccepted")


@pytest.mark.parametrize(
    ("by_some", "expected"), [({TOPIC}, ("False", "StillSubscribed")), (set(), ("True", "Suspended"))]
)
def test_a_suspended_topic_is_observed(by_some: set[tuple[str, str]], expected: tuple[str, str]) -> None:
    seen = Observation(by_some=frozenset(by_some), sidecars=2)
    found = status(event_type(), subscription(suspend=True), observation=seen)
    assert condition(found, "Observed") == expected
    assert condition(found, "Ready") == ("True", "Suspended")


def test_nothing_is_claimed_of_a_dead_letter_topic_of_its_own() -> None:
    found = status(event_type(), subscription(delivery={"deadLetter": {"topic": "failures"}}))
    assert condition(found, "DeadLetterReady") == ("Unknown", "OwnTopic")
