"""First steps of a new user: `tidings --version`, completion, and `tidings new service`."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from tidings_cli.commands import COMMANDS, app

TIDINGS = str(Path(sys.executable).with_name("tidings"))


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def test_the_version_is_that_of_the_distribution() -> None:
    result = run("--version")
    assert (result.exit_code, result.output) == (0, f"tidings {version('tidings-cli')}\n")


@pytest.mark.parametrize(("shell", "words"), [("bash", "complete"), ("zsh", "compdef"), ("fish", "complete --command")])
def test_a_completion_script_can_be_had_for_every_shell(shell: str, words: str) -> None:
    environment = os.environ | {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    done = subprocess.run(
        [TIDINGS, "--show-completion", shell], capture_output=True, text=True, check=True, env=environment
    )
    assert words in done.stdout
    assert "_TIDINGS_COMPLETE" in done.stdout


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("tidings ", set(COMMANDS)),
        ("tidings do", {"down", "doctor"}),
        ("tidings dlq re", {"replay"}),
        ("tidings new ", {"service"}),
        ("tidings lint --ag", {"--against"}),
    ],
)
def test_commands_and_options_are_completed(line: str, expected: set[str]) -> None:
    environment = {
        "_TIDINGS_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split(" ")) - 1),
    }
    done = CliRunner().invoke(app, [], prog_name="tidings", env=environment)
    words = {word for word in done.stdout.split("\n") if word}
    assert words >= expected
    assert all(word.startswith(line.rpartition(" ")[2]) for word in words)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def generated_test_passes(service: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:schemathesis", str(service)],
        capture_output=True, text=True, check=False, timeout=110,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


@pytest.mark.timeout(240)
def test_a_first_service_makes_a_project_whose_contracts_and_test_pass(folder: Path) -> None:
    result = run("new", "service", "gift-cards")
    assert result.exit_code == 0, result.output
    assert yaml.safe_load((folder / "tidings.yaml").read_text())["folders"] == ["services/*"]
    assert (folder / "components/nats/pubsub.yaml").is_file()
    assert run("lint").exit_code == 0
    generated_test_passes(folder / "services/gift-cards")


@pytest.mark.timeout(240)
def test_a_second_service_consumes_what_the_first_one_publishes(folder: Path) -> None:
    run("new", "service", "desk")
    before = (folder / "tidings.yaml").read_text()
    result = run("new", "service", "helpers", "--consumes", "desk.caseOpened")
    assert result.exit_code == 0, result.output
    assert (folder / "tidings.yaml").read_text() == before
    assert not (folder / "services/helpers/contracts/examples/helpers.openCase.v1.json").exists()
    lint = run("lint")
    assert (lint.exit_code, "desk.caseOpened" in lint.output) == (0, False)  # somebody consumes it now
    generated_test_passes(folder / "services/helpers")


FOREIGN = """\
apiVersion: tidings.dev/v1alpha1
kind: EventType
metadata: {name: shipment}
spec:
  type: freight.shipmentSent
  owner: {team: freight}
  producers: [freight]
  channel: {topic: "legacy-{version}"}
  versions:
    - {name: v1, schema: {type: object, properties: {a: {type: string}}, required: [a]}, examples: [{a: x}]}
    - name: v3
      schema:
        type: object
        properties: {count: {type: integer}, Shipment_ID: {type: string}}
        required: [count, Shipment_ID]
      examples: [{count: 1, Shipment_ID: s-1}]
    - {name: v4, state: Draft, schema: {type: object}}
---
apiVersion: tidings.dev/v1alpha1
kind: EventType
metadata: {name: order}
spec:
  type: freight.sendShipment
  intent: Command
  owner: {team: freight}
  producers: [shop]
  versions: [{name: v1, schema: {type: object}}]
---
apiVersion: tidings.dev/v1alpha1
kind: EventType
metadata: {name: counted}
spec:
  type: freight.boxesCounted
  owner: {team: freight}
  versions: [{name: v1, schema: {type: object, properties: {n: {type: integer}}, required: [n]}, examples: [{n: 1}]}]
---
apiVersion: tidings.dev/v1alpha1
kind: EventType
metadata: {name: unseen}
spec:
  type: freight.truckLoaded
  owner: {team: freight}
  versions: [{name: v1, schema: {type: object, properties: {id: {type: string}}, required: [id]}}]
"""


@pytest.fixture
def freight(folder: Path) -> Path:
    contracts = folder / "services/freight/contracts"
    contracts.mkdir(parents=True)
    (contracts / "events.yaml").write_text(FOREIGN)
    return folder


@pytest.mark.timeout(240)
def test_fields_and_topics_of_any_spelling_are_consumed(freight: Path) -> None:
    result = run("new", "service", "docks", "--consumes", "freight.shipmentSent")
    assert result.exit_code == 0, result.output
    consumed = (freight / "services/docks/src/docks/consumed.py").read_text()
    assert '@event("freight.shipmentSent", version=3, subject="shipment_id", topic="legacy-3")' in consumed
    assert 'shipment_id: str = field(name="Shipment_ID")' in consumed
    generated_test_passes(freight / "services/docks")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["Desk"], "not a valid name"),
        (["desk_1"], "not a valid name"),
        (["../desk"], "not a valid name"),
        (["desk-"], "not a valid name"),
        (["a" * 41], "not a valid name"),
        (["class"], "another module"),
        (["json"], "another module"),
        (["tidings"], "another module"),
        (["freight"], "exists already"),
        (["docks", "--consumes", "freight.shipmentSend"], "Did you mean 'freight.shipmentSent'"),
        (["docks", "--consumes", "freight.sendShipment"], "is a command"),
        (["docks", "--consumes", "freight.boxesCounted"], "no required field of type string"),
        (["docks", "--consumes", "freight.truckLoaded"], "has no example"),
    ],
)
def test_what_cannot_be_written_is_refused_and_leaves_nothing(freight: Path, arguments: list[str], words: str) -> None:
    before = sorted(freight.rglob("*"))
    result = run("new", "service", *arguments)
    assert result.exit_code == 2
    assert words in " ".join(result.output.replace("│", " ").split())
    assert sorted(freight.rglob("*")) == before
