"""`tidings asyncapi`: a document that the official AsyncAPI 3.0 schema accepts and that agrees with the contracts."""

import json
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from referencing import Registry
from referencing.jsonschema import DRAFT7
from typer.testing import CliRunner, Result

from tidings_cli.commands import app
from tidings_plan import plan
from tidings_plan.asyncapi import document, schemas
from tidings_plan.resources import contracts_folders, load

DATA = Path("tests/unit/data").resolve()
SHOP, PIZZA = (DATA / "shop",), tuple(contracts_folders(Path.cwd()))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["asyncapi", *(str(argument) for argument in arguments)])


@lru_cache
def official() -> jsonschema.Draft7Validator:
    return jsonschema.Draft7Validator(json.loads((DATA / "asyncapi-3.0.0.json").read_text()))


@lru_cache
def made(folders: tuple[Path, ...], only: str = "") -> dict[str, Any]:
    inventory = load(folders)
    return document(inventory, plan(inventory), title="Pizza", version="2.1.0", app=only)


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for item in value.values():
            yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def follow(whole: dict[str, Any], reference: str) -> Any:
    target: Any = whole
    for step in reference.removeprefix("#/").split("/"):
        target = target[step.replace("~1", "/").replace("~0", "~")]
    return target


def problems(whole: dict[str, Any]) -> list[str]:
    errors = official().iter_errors(whole)
    dangling = [reference for reference in references(whole) if not resolves(whole, reference)]
    return [f"{error.json_path}: {error.message}"[:300] for error in errors] + dangling


def resolves(whole: dict[str, Any], reference: str) -> bool:
    try:
        follow(whole, reference)
    except (KeyError, IndexError, TypeError):
        return False
    return True


@pytest.mark.parametrize(
    ("folder", "only"), [(SHOP, ""), (SHOP, "kitchen"), (PIZZA, ""), (PIZZA, "archive"), (PIZZA, "orders")]
)
def test_the_official_schema_accepts_it(folder: tuple[Path, ...], only: str):
    assert problems(made(folder, only)) == []


def test_the_official_schema_would_notice():
    broken = json.loads(json.dumps(made(SHOP)))
    next(iter(broken["operations"].values()))["action"] = "sends"
    broken["channels"]["orders.orderConfirmed.v2"]["messages"]["x"] = {"$ref": "#/components/messages/gone"}
    assert len(problems(broken)) == 2


@pytest.mark.parametrize("folder", [SHOP, PIZZA])
def test_an_operation_names_messages_of_its_own_channel(folder: tuple[Path, ...]):
    whole = made(folder)
    for operation in whole["operations"].values():
        channel = operation["channel"]["$ref"]
        assert operation["messages"]
        assert all(message["$ref"].startswith(f"{channel}/messages/") for message in operation["messages"])


def test_the_plan_and_the_document_agree():
    """Senders and receivers in the document match the rights of the sidecars."""
    whole, planned = made(PIZZA), plan(load(PIZZA))
    result = {
        (operation["tags"][0]["name"], operation["action"], follow(whole, operation["channel"]["$ref"])["address"])
        for operation in whole["operations"].values()
    }
    expected = {
        (name, action, topic)
        for name, item in planned.apps.items()
        for action, topics_of in (("send", item.publishes), ("receive", item.reads))
        for topics in topics_of.values()
        for topic in topics
    }
    assert result == expected
    assert {channel["address"] for channel in whole["channels"].values()} == set(planned.topics)


def test_what_one_app_sees():
    whole = made(SHOP, "kitchen")
    assert set(whole["channels"]) == {
        "orders.orderConfirmed.v2",
        "deadletter.kitchen",
        "replay.kitchen",
        "archive.recordReplayOutcome.v1",
    }
    receive = whole["operations"]["kitchen.receive.orders.orderConfirmed.v2"]
    assert receive["x-subscriptions"] == [
        {"name": "kitchen-order-confirmed", "path": "/events/orders.orderConfirmed.v2"},
        {"name": "kitchen-web-orders", "path": "/events/web-orders"},
    ]
    assert set(whole["components"]["messages"]) == {"orders.orderConfirmed.v2", "DeadLetter", "Replayed"}
    assert "orders.orderConfirmed.v1" not in whole["components"]["schemas"]


def test_a_deprecated_version_is_marked():
    message = made(SHOP)["components"]["messages"]["orders.orderConfirmed.v1"]
    assert {"name": "deprecated"} in message["tags"]
    assert "removed on 2099-03-01. Read v2 instead." in message["description"]


@pytest.mark.parametrize("folder", [SHOP, PIZZA])
def test_every_example_is_one_of_its_message(folder: tuple[Path, ...]):
    whole = made(folder)
    registry = Registry().with_resource("urn:it", DRAFT7.create_resource(whole))
    count = 0
    for name, message in whole["components"]["messages"].items():
        place = f"urn:it#/components/messages/{name}/payload"
        validator = jsonschema.Draft7Validator({"$ref": place}, registry=registry)
        for example in message.get("examples", ()):
            assert [error.message for error in validator.iter_errors(example["payload"])] == [], name
            wrong = {**example["payload"], "type": "another.fact"}
            assert not validator.is_valid(wrong), "the payload schema says nothing"
            count += 1
    assert count >= 3


def test_an_example_whose_data_is_wrong_is_noticed():
    """Data is checked through all references, also those into definitions of a schema."""
    whole = made(PIZZA)
    example = json.loads(
        json.dumps(whole["components"]["messages"]["orders.orderConfirmed.v2"]["examples"][0]["payload"])
    )
    example["data"]["lines"][0]["quantity"] = "many"
    registry = Registry().with_resource("urn:it", DRAFT7.create_resource(whole))
    place = "urn:it#/components/messages/orders.orderConfirmed.v2/payload"
    assert not jsonschema.Draft7Validator({"$ref": place}, registry=registry).is_valid(example)


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"$schema": "s", "$id": "i", "type": "string"}, {"a.v1": {"type": "string"}}),
        (
            {"items": {"$ref": "#/$defs/Line[int]"}, "$defs": {"Line[int]": {"$ref": "#/$defs/Other"}, "Other": {}}},
            {
                "a.v1": {"items": {"$ref": "#/components/schemas/a.v1.Line_int_"}},
                "a.v1.Line_int_": {"$ref": "#/components/schemas/a.v1.Other"},
                "a.v1.Other": {},
            },
        ),
        (
            {"properties": {"me": {"$ref": "#"}, "b": {"$ref": "#/properties/me"}}},
            {
                "a.v1": {
                    "properties": {
                        "me": {"$ref": "#/components/schemas/a.v1"},
                        "b": {"$ref": "#/components/schemas/a.v1/properties/me"},
                    }
                }
            },
        ),
        (
            {"$ref": "#/definitions/X", "description": "beside", "definitions": {"X": {}}},
            {
                "a.v1": {"description": "beside", "allOf": [{"$ref": "#/components/schemas/a.v1.X"}]},
                "a.v1.X": {},
            },
        ),
        (
            {"type": "array", "prefixItems": [{"type": "string"}], "items": False},
            {"a.v1": {"type": "array", "items": [{"type": "string"}], "additionalItems": False}},
        ),
        ({"const": {"$ref": "no reference"}}, {"a.v1": {"const": {"$ref": "no reference"}}}),
        ({"properties": {"$ref": {"type": "string"}}}, {"a.v1": {"properties": {"$ref": {"type": "string"}}}}),
    ],
)
def test_schemas_are_included_in_the_document(schema: dict[str, Any], expected: dict[str, Any]):
    assert schemas.components("a.v1", schema) == expected


@given(st.text(min_size=1))
def test_every_name_is_one_that_components_may_have(name: str):
    assert re.fullmatch(r"[\w.\-]+", schemas.component_name(name), re.ASCII)


def test_for_people_and_programs():
    as_yaml = yaml.safe_load(run(*SHOP, "--title", "Shop", "--document-version", "7.0.0").stdout)
    as_json = json.loads(run(*SHOP, "--title", "Shop", "--document-version", "7.0.0", "-o", "json").stdout)
    assert as_yaml == as_json
    assert {name: as_json["info"][name] for name in ("title", "version")} == {"title": "Shop", "version": "7.0.0"}


def test_exit_codes(tmp_path: Path):
    wrong = (SHOP[0] / "subscriptions.yaml").read_text().replace("versions: [v2]\n", "versions: [v9]\n")
    (tmp_path / "subscriptions.yaml").write_text(wrong)
    result = run(SHOP[0] / "events.yaml", tmp_path)
    assert result.exit_code == 1
    assert "has no version v9" in result.stderr
    assert problems(yaml.safe_load(result.stdout)) == [], "what is right is printed all the same"
    assert run(*SHOP, "--app", "nobody").exit_code == 2
