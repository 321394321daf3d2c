"""The file that `tidings up --dapr-run` writes has the fields of `dapr run -f`, and its paths exist."""

import socket
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from typer.testing import CliRunner

from tidings_cli import programs
from tidings_cli.commands import app

ROOT = Path(__file__).parents[2]
TEXT, PORT, FLAG, COUNT = (
    {"type": "string"},
    {"type": "integer", "minimum": 1},
    {"type": "boolean"},
    {"type": "integer"},
)
SHARED = {
    "appProtocol": {"enum": ["http", "grpc", "https", "grpcs", "h2c"]},
    "apiListenAddresses": TEXT,
    "configFilePath": TEXT,
    "resourcesPaths": {"type": "array", "items": TEXT, "minItems": 1},
    "logLevel": TEXT,
    "appMaxConcurrency": COUNT,
    "enableAppHealthCheck": FLAG,
    "appHealthCheckPath": TEXT,
    "appHealthProbeInterval": COUNT,
    "appHealthProbeTimeout": COUNT,
    "appHealthThreshold": COUNT,
    "runtimePath": TEXT,
    "env": {"type": "object", "additionalProperties": TEXT},
    "daprdLogDestination": {"enum": ["console", "file", "fileAndConsole"]},
    "appLogDestination": {"enum": ["console", "file", "fileAndConsole"]},
}
OWN = {
    "appID": TEXT,
    "appDirPath": TEXT,
    "appPort": PORT,
    "daprHTTPPort": PORT,
    "daprGRPCPort": PORT,
    "daprInternalGRPCPort": PORT,
    "metricsPort": PORT,
    "command": {"type": "array", "items": TEXT, "minItems": 1},
}
# Fields and types as in the Dapr CLI (pkg/runfileconfig, pkg/standalone/run.go), which decodes the file with yaml.v2.
# The CLI ignores unknown fields; here they are errors, since they would be misspelt. It writes the common environment
# into an app's `env` without creating that map, so each app needs one.
RUN_FILE = {
    "type": "object",
    "required": ["version", "apps"],
    "additionalProperties": False,
    "properties": {
        "version": {"const": 1},
        "name": TEXT,
        "common": {"type": "object", "additionalProperties": False, "properties": SHARED},
        "apps": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["appID", "appDirPath", "env"],
                "additionalProperties": False,
                "properties": {**SHARED, **OWN},
            },
        },
    },
}


@pytest.fixture
def project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(programs, "ensure", lambda *names, **_more: {name: Path("/bin") / name for name in names})


def free_base() -> int:
    """Return the first of 100 ports that are all free."""
    for base in range(40_000, 60_000, 100):
        try:
            for port in range(base, base + 100):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return base
    raise AssertionError("no 100 free ports in a row")


@pytest.fixture
def exported(project: None, tmp_path: Path) -> dict[str, Any]:
    file = tmp_path / "dapr.yaml"
    options = ["--broker", "nats://127.0.0.1:4222", "--run-dir", str(tmp_path / "run"), "--port-base", str(free_base())]
    result = CliRunner().invoke(app, ["up", *options, "--dapr-run", str(file)])
    assert result.exit_code == 0, result.output
    content: dict[str, Any] = yaml.safe_load(file.read_text())
    return content


def test_the_run_file_has_the_fields_of_the_dapr_cli_and_every_path_exists(exported: dict[str, Any]) -> None:
    jsonschema.validate(exported, RUN_FILE)
    apps = {item["appID"]: item for item in exported["apps"]}
    services = {path.parent.name for path in ROOT.glob("services/*/pyproject.toml")}
    assert apps.keys() == services | {"archive", "saas", "smtp"}
    for entry in apps.values():
        assert Path(entry["appDirPath"]).is_dir()
        assert all(Path(folder).is_dir() for folder in entry["resourcesPaths"])
    ports = [item[name] for item in apps.values() for name in item if name.endswith("Port")]
    assert len(ports) == len(set(ports))


def test_an_app_finds_its_sidecar_its_policy_and_its_subscriptions(exported: dict[str, Any]) -> None:
    (orders,) = [item for item in exported["apps"] if item["appID"] == "orders"]
    assert orders["env"]["DAPR_HTTP_PORT"] == str(orders["daprHTTPPort"])
    assert orders["command"][-1] == "orders.main:app"
    assert str(orders["appPort"]) in orders["command"]
    assert Path(orders["env"]["TIDINGS_POLICY"]).is_file()
    (resources,) = (Path(folder) for folder in orders["resourcesPaths"])
    kinds = {yaml.safe_load(file.read_text())["kind"] for file in resources.iterdir()}
    assert kinds == {"Component", "Subscription", "Resiliency"}
    assert not {name for item in exported["apps"] for name in item["env"] if name.endswith("API_TOKEN")}


def test_a_broker_that_dapr_run_does_not_start_is_refused(project: None, tmp_path: Path) -> None:
    file = tmp_path / "dapr.yaml"
    result = CliRunner().invoke(app, ["up", "--run-dir", str(tmp_path / "run"), "--dapr-run", str(file)])
    assert result.exit_code == 1
    assert "does not start nats" in result.output
    assert not file.exists()
