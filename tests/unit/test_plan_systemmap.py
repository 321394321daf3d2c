"""The system map, from which the archive's console is drawn."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.support.contracts import one_event
from typer.testing import CliRunner

from tidings_cli.commands import app as tidings
from tidings_cli.up import system
from tidings_cli.up.system import Options
from tidings_plan import plan, system_map
from tidings_plan.resources import Inventory, contracts_folders, load, parse_resource

ROOT = Path(__file__).parents[2]
Document = dict[str, Any]


def resource(kind: str, name: str, **spec: Any) -> Document:
    return {"apiVersion": "tidings.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def reader(app: str, name: str, expected: str = "orders.orderConfirmed", **spec: Any) -> Document:
    value = {"pattern" if "*" in expected else "type": expected, "consumer": {"appId": app}, **spec}
    return resource("EventSubscription", name, **one_event(value))


CONFIRMED = resource(
    "EventType",
    "confirmed",
    type="orders.orderConfirmed",
    description="An order is certain.",
    owner={"team": "sales", "contact": "sales@pizza.example"},
    producers=["orders"],
    versions=[
        {
            "name": "v1",
            "schema": {},
            "state": "Deprecated",
            "deprecation": {"effective": "2026-01-01", "removal": "2036-07-01", "alternative": "v2"},
        },
        {"name": "v2", "schema": {}},
    ],
)
LATE = reader("loyalty", "loyalty-confirmed", versions=["v1"])
BOTH = reader("pickup", "pickup-confirmed", versions=["v2", "v1"], rateLimit={"eventsPerSecond": 5})
MODERN = reader("kitchen", "kitchen-confirmed", versions=["v2"], suspend=True)
EVERYTHING = reader("archive", "archive-everything", "*")
DEAD_LETTERS = reader("archive", "archive-dead-letters", "deadletter.*")
WRONG = reader("menu", "menu-confirmed", versions=["v9"])


def drawn(*documents: Document) -> Document:
    inventory = Inventory()
    for document in documents:
        parsed, findings = parse_resource(document)
        assert parsed is not None, findings
        inventory.put(parsed)
    answer = system_map(inventory, plan(inventory))
    assert json.loads(json.dumps(answer)) == answer  # plain data, nothing that JSON changes
    return answer


def test_apps_have_their_namespace_in_the_map_only_where_there_are_several() -> None:
    """The archive of a namespace knows its apps by their ids alone."""
    near = [{**document, "metadata": {**document["metadata"], "namespace": "near"}} for document in (CONFIRMED, LATE)]
    far = [{**document, "metadata": {**document["metadata"], "namespace": "far"}} for document in (CONFIRMED, LATE)]
    assert {subscription["app"] for subscription in drawn(*near)["subscriptions"]} == {"loyalty"}
    assert {subscription["app"] for subscription in drawn(*near, *far)["subscriptions"]} == {
        "near/loyalty",
        "far/loyalty",
    }


def test_a_type_reports_its_owner_and_the_channel_of_every_version() -> None:
    [result] = drawn(CONFIRMED)["types"]
    assert result["producers"] == ["orders"]
    assert (result["owner"], result["contact"], result["intent"]) == ("sales", "sales@pizza.example", "Fact")
    assert result["versions"] == [
        {"name": "v1", "state": "Deprecated", "pubsub": "pubsub", "topic": "orders.orderConfirmed.v1"},
        {"name": "v2", "state": "Active", "pubsub": "pubsub", "topic": "orders.orderConfirmed.v2"},
    ]


@pytest.mark.parametrize(
    ("document", "app", "reads", "about"),
    [
        (LATE, "loyalty", ["v1"], {"pattern": False, "suspended": False, "eventsPerSecond": None}),
        (BOTH, "pickup", ["v1", "v2"], {"eventsPerSecond": 5.0}),
        (EVERYTHING, "archive", ["v1", "v2"], {"pattern": True}),
    ],
)
def test_a_subscription_reports_its_topics(document: Document, app: str, reads: list[str], about: Document) -> None:
    [result] = drawn(CONFIRMED, document)["subscriptions"]
    assert result["app"] == app
    assert result["reads"] == {"orders.orderConfirmed": reads}
    assert about.items() <= result.items()


def test_what_is_suspended_stays_on_the_map() -> None:
    [result] = drawn(CONFIRMED, MODERN)["subscriptions"]
    assert result["suspended"] is True


def test_what_has_an_error_reads_nothing_and_dead_letters_are_no_events() -> None:
    assert [subscription["name"] for subscription in drawn(CONFIRMED, LATE, WRONG, DEAD_LETTERS)["subscriptions"]] == [
        LATE["metadata"]["name"]
    ]


def test_a_deprecated_version_names_who_reads_it_but_not_who_reads_by_pattern() -> None:
    [result] = drawn(CONFIRMED, LATE, BOTH, MODERN, EVERYTHING)["deprecated"]
    assert result == {
        "type": "orders.orderConfirmed",
        "version": "v1",
        "effective": "2026-01-01",
        "removal": "2036-07-01",
        "alternative": "v2",
        "readers": [
            {"app": "loyalty", "subscription": "loyalty-confirmed"},
            {"app": "pickup", "subscription": "pickup-confirmed"},
        ],
    }


def test_a_version_deprecated_without_a_date_is_reported_too() -> None:
    undated = {**CONFIRMED["spec"], "versions": [{"name": "v1", "schema": {}, "state": "Deprecated"}]}
    [result] = drawn({**CONFIRMED, "spec": undated})["deprecated"]
    assert (result["effective"], result["removal"], result["alternative"]) == (None, None, None)


def test_the_command_line_prints_the_map_of_the_pizza_system() -> None:
    contracts = sorted(str(folder) for folder in contracts_folders(ROOT))
    answer = CliRunner().invoke(tidings, ["render", "-o", "map", *contracts])
    assert answer.exit_code == 0, answer.output
    inventory = load(map(Path, contracts))
    assert json.loads(answer.stdout) == system_map(inventory, plan(inventory))


def test_the_local_run_draws_the_same_map_and_gives_it_to_the_archive() -> None:
    result = system.read(ROOT, Options())
    assert {item["type"] for item in result.map["types"]} >= {"orders.orderPlaced", "kitchen.pizzaBoxed"}
    [archive] = {
        instance.service.name: instance.service for instance in result.instances if instance.service.name == "archive"
    }.values()
    assert archive.environment["ARCHIVE_MAP"] == "${map}"
