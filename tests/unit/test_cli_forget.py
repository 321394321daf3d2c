"""`tidings forget` destroys a key for good, and says what it did."""

from pathlib import Path

from typer.testing import CliRunner

from tidings.subject_keys import KeyFile
from tidings_cli.commands import app


def test_a_forgotten_person_has_no_key_any_more_and_gets_no_new_one(tmp_path: Path):
    path = tmp_path / "keys.db"
    KeyFile(path).create("p-1")
    KeyFile(path).create("p-2")
    done = CliRunner().invoke(app, ["forget", "p-1", "--yes"], env={"TIDINGS_KEYS": str(path)})
    assert (done.exit_code, "p-1 is forgotten" in done.output) == (0, True)
    keys = KeyFile(path)
    assert keys.create("p-1") is None
    assert keys.key("p-2") is not None
    again = CliRunner().invoke(app, ["forget", "p-1", "--yes", "--keys", str(path)])
    assert (again.exit_code, "had no key of p-1" in " ".join(again.output.split())) == (1, True)


def test_nothing_is_destroyed_without_consent_or_created_by_mistake(tmp_path: Path):
    path = tmp_path / "keys.db"
    assert CliRunner().invoke(app, ["forget", "p-1", "--yes", "--keys", str(path)]).exit_code == 1
    assert not path.exists()
    key = KeyFile(path).create("p-1")
    assert CliRunner().invoke(app, ["forget", "p-1", "--keys", str(path)], input="n\n").exit_code == 1
    assert KeyFile(path).key("p-1") == key
