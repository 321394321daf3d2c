"""`tidings forget` destroys a key for good, and says what it did."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tidings.subject_keys import KeyFile
from tidings_cli.commands import app
from tidings_cli.up.folder import RunFolder


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


def test_the_keys_of_the_local_run_are_the_default(tmp_path: Path):
    folder = RunFolder(tmp_path / ".run")
    folder.prepare([], fresh=False)
    KeyFile(folder.keys).create("p-1")
    done = CliRunner().invoke(app, ["forget", "p-1", "--yes", "--run-dir", str(folder.path)])
    assert (done.exit_code, KeyFile(folder.keys).create("p-1")) == (0, None)
    nowhere = CliRunner().invoke(app, ["forget", "p-1", "--yes", "--run-dir", str(tmp_path)])
    assert (nowhere.exit_code, "name the file that the services use" in " ".join(nowhere.output.split())) == (1, True)


@pytest.mark.parametrize("subject", ["a\nb", "\x1b[2J", "\u200b"])
def test_what_no_event_can_name_is_not_forgotten(tmp_path: Path, subject: str):
    KeyFile(tmp_path / "keys.db")
    done = CliRunner().invoke(app, ["forget", subject, "--yes", "--keys", str(tmp_path / "keys.db")])
    assert (done.exit_code, KeyFile(tmp_path / "keys.db").forgotten()) == (1, [])


def test_nothing_is_destroyed_without_consent_or_created_by_mistake(tmp_path: Path):
    path = tmp_path / "keys.db"
    assert CliRunner().invoke(app, ["forget", "p-1", "--yes", "--keys", str(path)]).exit_code == 1
    assert not path.exists()
    key = KeyFile(path).create("p-1")
    assert CliRunner().invoke(app, ["forget", "p-1", "--keys", str(path)], input="n\n").exit_code == 1
    assert KeyFile(path).key("p-1") == key
