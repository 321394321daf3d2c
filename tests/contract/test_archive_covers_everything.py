"""The archive reads every topic of events and dead letters, including those added later."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidings.conventions import REPLAY_OUTCOMES, dead_letter_topic, replay_topic
from tidings_plan import Plan, plan
from tidings_plan.channels import published
from tidings_plan.resources import Inventory, contracts_folders, load

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def inventory() -> Inventory:
    return load(contracts_folders(ROOT))


@pytest.fixture(scope="module")
def planned(inventory: Inventory) -> Plan:
    return plan(inventory)


def test_every_version_of_every_event_reaches_the_archive(inventory: Inventory, planned: Plan) -> None:
    topics = {channel.topic for kind in inventory.types.values() for channel in published(kind)}
    assert len(topics) > 30
    assert topics - set(planned.apps["archive"].reads["pubsub"]) == set()


def test_every_dead_letter_reaches_the_archive_its_own_included(inventory: Inventory, planned: Plan) -> None:
    letters = {dead_letter_topic(app) for _, app in inventory.consuming_apps}
    read = set(planned.apps["archive"].reads["pubsub"])
    assert "deadletter.archive" in letters
    assert letters - read == set()


def test_every_event_has_one_way_into_the_archive(planned: Plan) -> None:
    by_topic: dict[str, set[str]] = {}
    for entry in planned.apps["archive"].policy.subscriptions:
        by_topic.setdefault(entry.topic, set()).add(entry.name)
    assert {topic for topic, names in by_topic.items() if len(names) > 1} == set()
    assert by_topic["archive.replayEvents.v1"] == {"archive-replay-events"}


def test_the_archive_may_send_to_every_app_whose_dead_letters_it_keeps(inventory: Inventory, planned: Plan) -> None:
    expected = {replay_topic(app) for _, app in inventory.consuming_apps if app != "archive"}
    assert expected - set(planned.apps["archive"].publishes["pubsub"]) == set()
    assert expected - set(planned.topics) == set()


def test_consumers_of_replays_may_confirm_them(inventory: Inventory, planned: Plan) -> None:
    for namespace, app in inventory.consuming_apps:
        assert REPLAY_OUTCOMES in planned.apps[app].publishes["pubsub"], (namespace, app)
