"""Code, schemas, examples and YAML agree, within every service and between services."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from tests.support.contracts import contract_files

from tidings.consume.handlers import Handler
from tidings.messages import events
from tidings.messages.events import MessageType
from tidings_cli.export import declared, stale
from tidings_plan import Plan, plan
from tidings_plan.resources import Inventory, contracts_folders, load

ROOT = Path(__file__).parents[2]
FOLDERS = {path.parents[1].name: path.parents[1] for path in contract_files("events.yaml")}
SERVICES = sorted(FOLDERS)
READERS = sorted(path.parents[1].name for path in contract_files("subscriptions.yaml"))
SHAPE = ("README.md", "pyproject.toml", "contracts/events.yaml", "contracts/subscriptions.yaml")
MODULES = ("main.py", "api.py", "handlers.py", "events.py")

UNCONSUMED = {
    "delivery.driverCameOnDuty": "for wages and rosters, which nobody has built yet",
    "delivery.driverWentOffDuty": "the same",
    "staff.memberClockedIn": "the same",
    "staff.memberClockedOut": "the same",
    "loyalty.pointsRejected": "for the people who look after customers: they find it in the archive",
    "notifications.emailRefused": "the same",
    "tidings.subjectForgotten": "for services that store personal data unencrypted: none here does",
    "tidings.versionDeprecated": "for the owners of event types and subscriptions: the webhook has it",
    "tidings.removalApproached": "the same",
    "tidings.incompatibleChangeProposed": "the same",
    "tidings.subscriptionFailed": "the same",
    "tidings.deadLettersAccumulated": "the same",
}
"""Facts that no service but the archive reads, and why they are published all the same."""


@pytest.fixture(scope="module")
def inventory() -> Inventory:
    return load(contracts_folders(ROOT))


@pytest.fixture(scope="module")
def planned(inventory: Inventory) -> Plan:
    return plan(inventory)


def package_of(service: str) -> str:
    return "tidings_archive" if service == "archive" else service


def schema_of(label: str) -> Path:
    (result,) = contract_files(f"schemas/{label}.json")
    return result


def examples_of(label: str) -> list[Path]:
    return contract_files(f"examples/{label}.json") + sorted(contract_files(f"examples/{label}.*.json"))


LABELS = sorted(path.stem for path in contract_files("schemas/*.json"))


def readers() -> Iterator[tuple[str, Handler]]:
    for service in READERS:
        for handler in importlib.import_module(f"{package_of(service)}.main").handlers:
            yield service, handler


def internal(kind: MessageType) -> bool:
    """Return a command that a service schedules for itself: no other service sees it, so it has no contract."""
    return kind.intent == "command" and kind.label not in LABELS


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_has_the_same_shape(service: str) -> None:
    folder, package = FOLDERS[service], package_of(service)
    missing = [name for name in SHAPE if not (folder / name).is_file()]
    missing += [name for name in MODULES if not (folder / "src" / package / name).is_file()]
    missing += [] if any((folder / "src" / package).glob("domain*")) else ["domain"]
    assert missing == []
    assert importlib.import_module(f"{package}.main").app.title == service


@pytest.mark.parametrize("service", SERVICES)
def test_schema_files_match_the_classes(service: str) -> None:
    folder = FOLDERS[service] / "contracts" / "schemas"
    outdated = [path.name for path, _ in stale(f"{package_of(service)}.events", folder)]
    assert outdated == [], "write them anew with `make contracts`"
    assert {path.stem for path in folder.glob("*.json")} == set(declared(f"{package_of(service)}.events"))


@pytest.mark.parametrize("service", SERVICES)
def test_the_yaml_names_every_schema_and_example_and_no_other(service: str, inventory: Inventory) -> None:
    versions = {
        f"{kind.spec.type}.{version.name}": version
        for kind in inventory.types.values()
        if service in (kind.spec.owner.team, *(() if kind.spec.intent == "Command" else kind.spec.producers))
        for version in kind.spec.versions
    }
    folder = FOLDERS[service] / "contracts"
    assert set(versions) == {path.stem for path in folder.glob("schemas/*.json")}
    assert all(version.examples for version in versions.values())


@pytest.mark.parametrize("label", LABELS)
def test_jsonschema_can_check_the_formats_of_a_schema(label: str) -> None:
    """It ignores a format whose validator is not installed."""
    used = set(re.findall(r'"format": "([^"]+)"', schema_of(label).read_text()))
    assert used <= jsonschema.Draft202012Validator.FORMAT_CHECKER.checkers.keys()


@pytest.mark.parametrize("label", LABELS)
def test_examples_keep_to_their_schema(label: str) -> None:
    schema = json.loads(schema_of(label).read_text())
    result = examples_of(label)
    assert result, f"{label} has no example"
    for path in result:
        jsonschema.validate(
            json.loads(path.read_text()), schema, jsonschema.Draft202012Validator,
            format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("service", "handler"),
    [
        pytest.param(*reader, id=f"{reader[0]}-{reader[1].kind.label}")
        for reader in readers()
        if not internal(reader[1].kind)
    ],
)
def test_every_reader_reads_every_example_of_every_version_it_accepts(service: str, handler: Handler) -> None:
    for version in handler.versions:
        result = examples_of(f"{handler.kind.name}.v{version}")
        assert result
        for path in result:
            decoded = events.decode(handler.kind, version, path.read_bytes())
            assert handler.kind.subject_of(decoded) != ""


def test_a_message_that_a_service_sends_fits_the_schema_of_its_owner() -> None:
    """Commands are declared by their senders too, in classes of their own: they must say what the owner reads."""
    checked = set()
    for service in READERS:
        try:
            sent = declared(f"{package_of(service)}.commands")
        except ModuleNotFoundError:
            continue
        for label in sent.keys() & LABELS:
            owner, sender = json.loads(schema_of(label).read_text()), events.json_schema(sent[label])
            assert set(owner["required"]) <= set(sender["required"]), f"{service} sends {label}"
            for name, kind in sender["properties"].items():
                assert _type(owner["properties"][name]) == _type(kind), f"{service} sends {label}.{name}"
            checked.add(label)
    assert checked == {"archive.replayEvents.v1", "notifications.sendEmail.v1", "payments.takePayment.v1"}


def _type(schema: dict[str, Any]) -> Any:
    return schema.get("type", schema.get("enum", schema.get("$ref", schema)))


@pytest.mark.parametrize("service", READERS)
def test_handlers_and_subscriptions_are_the_same(service: str, planned: Plan) -> None:
    policy = planned.apps[service].policy
    fed = {(entry.type, entry.topic) for entry in policy.subscriptions}
    handled = set()
    for handler in importlib.import_module(f"{package_of(service)}.main").handlers:
        if not internal(handler.kind):
            handled |= {(handler.kind.name, f"{handler.kind.name}.v{version}") for version in handler.versions}
    if service == "archive":  # reads whatever there is: tests/contract/test_archive_covers_everything.py
        handled = {item for item in handled if item in fed}
        fed &= handled
    assert handled == fed


def test_the_contracts_of_all_services_fit_together(planned: Plan) -> None:
    problems = [str(finding) for finding in planned.findings if finding.severity != "info"]
    expected = [problem for problem in problems if "deprecated" in problem]
    assert [problem for problem in problems if problem not in expected] == []


def test_every_event_has_a_reader(planned: Plan, inventory: Inventory) -> None:
    unread = {finding.resource for finding in planned.findings if finding.rule == "unconsumed-type"}
    assert {kind.spec.type for kind in inventory.types.values() if kind.ref in unread} == set(UNCONSUMED)
