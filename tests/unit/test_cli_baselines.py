"""`--against` compares with something, or says why it cannot: never "nothing wrong" over an empty baseline."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml
from tests.unit.test_resources_hostile import TYPE
from typer.testing import CliRunner

from tidings_cli.commands import app

CONTRACTS = "services/orders/contracts"


def git(*arguments: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *identity, *arguments], check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    git("init", "-b", "main")
    git("commit", "--allow-empty", "-m", "nothing")
    git("tag", "empty")
    (tmp_path / CONTRACTS).mkdir(parents=True)
    (tmp_path / CONTRACTS / "events.yaml").write_text(TYPE)
    git("add", "-A")
    git("commit", "-m", "contracts")
    return tmp_path


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, [*arguments])
    return result.exit_code, " ".join(result.output.replace("│", " ").split())


def change(repository: Path) -> None:
    (repository / CONTRACTS / "events.yaml").write_text(TYPE.replace("{type: object}", "{type: array}"))


@pytest.mark.parametrize("command", ["lint", "plan", "impact"])
@pytest.mark.parametrize(
    ("against", "message"),
    [
        ("", "neither a folder nor a git revision"),
        (" ", "neither a folder nor a git revision"),
        ("--output=x", "neither a folder nor a git revision"),
        ("empty", "nothing would be compared"),
        ("main", "is a folder and a git revision"),
        ("void", "has no EventType"),
        ("broken", "has errors"),
        ("no-such-revision", "git fetch --unshallow"),
    ],
)
def test_an_empty_baseline_is_reported(repository: Path, command: str, against: str, message: str) -> None:
    for folder in ("main", "void", "broken"):
        (repository / folder).mkdir()
    (repository / "broken" / "events.yaml").write_text("{")
    code, output = run(command, f"--against={against}")
    assert (code, message in output) == (2, True), output


def test_a_moved_folder_is_compared_all_the_same(repository: Path) -> None:
    change(repository)
    (repository / "services/orders").rename(repository / "services/sales")
    assert run("lint", "--against", "main")[0] == 1


def test_a_missing_path_is_reported(repository: Path) -> None:
    (repository / CONTRACTS).rename(repository / "moved")
    code, output = run("lint", "moved", "--against", "main")
    assert (code, "moved has no files in main" in output) == (2, True), output


def test_a_new_service_next_to_the_rest_is_no_error(repository: Path) -> None:
    (repository / "services/new/contracts").mkdir(parents=True)
    text = TYPE.replace("orderConfirmed", "orderPlaced").replace("order-confirmed", "order-placed")
    (repository / "services/new/contracts/events.yaml").write_text(text)
    assert run("lint", "--against", "main")[0] == 0


def test_a_list_is_a_baseline(repository: Path) -> None:
    (repository / "old").mkdir()
    item = "".join(f"  {line}\n" for line in TYPE.splitlines())
    (repository / "old/events.yaml").write_text(f"apiVersion: v1\nkind: List\nitems:\n-{item[1:]}")
    change(repository)
    assert run("lint", "--against", "./old")[0] == 1


def test_what_git_does_not_export_is_reported(repository: Path) -> None:
    (repository / ".gitattributes").write_text("events.yaml export-ignore\n")
    git("add", "-A")
    git("commit", "-m", "attributes")
    code, output = run("lint", "--against", "main")
    assert code == 2, output


def test_a_path_outside_of_the_repository_is_reported(
    repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (outside / "events.yaml").write_text(TYPE)
    code, output = run("lint", str(outside), "--against", "main")
    assert (code, "outside" in output) == (2, True), output


def test_a_baseline_works_from_a_folder_below(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change(repository)
    monkeypatch.chdir(repository / "services/orders")
    assert run("lint", "contracts", "--against", "main")[0] == 1


def test_what_git_keeps_only_a_reference_of_is_reported(repository: Path) -> None:
    """A link whose target is not compared, and the pointer that Git LFS keeps for a file."""
    events = repository / CONTRACTS / "events.yaml"
    (repository / "shared.yaml").write_text(TYPE)
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    for name in ("link", "pointer"):
        events.unlink()
        events.symlink_to("../../../shared.yaml") if name == "link" else events.write_text(pointer)
        git("add", "-A")
        git("commit", "-m", name)
        git("tag", name)
    events.write_text(TYPE)
    for name in ("link", "pointer"):
        code, output = run("lint", "--against", name)
        assert code == 2, output


@pytest.mark.parametrize("name", ["B.YAML", "b.Yml", "b.json", "b.JSON"])
@pytest.mark.parametrize("where", ["before", "now"])
def test_a_file_with_another_ending_is_compared_and_not_passed_over(repository: Path, name: str, where: str) -> None:
    """kubectl applies JSON too: a type in such a file, next to others, must not vanish from the comparison."""
    contracts = repository / CONTRACTS
    other = TYPE.replace("orderConfirmed", "orderPlaced").replace("order-confirmed", "order-placed")
    (contracts / "events.yaml").write_text(other)
    (contracts / "schemas").mkdir()
    (contracts / "schemas/order.json").write_text('{"type": "object",\t"apiVersion": 1}')

    def write(file: str, text: str) -> None:
        is_json = file.lower().endswith(".json")
        (contracts / file).write_text(json.dumps(yaml.safe_load(text)) if is_json else text)

    write(name if where == "before" else "c.yaml", TYPE)
    git("add", "-A")
    git("commit", "-m", where)
    (contracts / (name if where == "before" else "c.yaml")).unlink()
    write("c.yaml" if where == "before" else name, TYPE.replace("{type: object}", "{type: array}"))
    code, output = run("lint", "--against", "HEAD")
    assert (code, "incompatible-schema" in output) == (1, True), output
