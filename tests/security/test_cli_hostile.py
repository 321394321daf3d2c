"""Untrusted files on the command line: it neither hangs, nor follows them, nor discloses secrets."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from tidings.terminal import is_unsafe
from tidings_cli.commands import app
from tidings_plan.resources import load, reading

HOSTILE = "\x1b[2J\x1b]0;x\x07 \u202eevil\u202c \x9b31m \u2028 \ufeff \u2066 \u200b"
TYPE = {
    "apiVersion": "tidings.dev/v1alpha1",
    "kind": "EventType",
    "metadata": {"name": "zoo.animalfed"},
    "spec": {
        "type": "zoo.animalFed",
        "owner": {"team": "zoo"},
        "producers": ["zoo"],
        "versions": [{"name": "v1", "schema": {"type": "object", "properties": {"a": {"type": "string"}}}}],
    },
}


@dataclass
class Done:
    """A command's output and exit code."""

    wording: str
    code: int


def run(folder: Path, *arguments: str, **environment: str) -> Done:
    """Run `tidings` in a folder."""
    with contextlib.chdir(folder):
        done = CliRunner(env={"NO_COLOR": "1", "TERM": "dumb", **environment}).invoke(app, [*arguments])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return Done(done.output, done.exit_code)


def assert_harmless(done: Done) -> None:
    assert "Traceback" not in done.wording
    assert [item for item in done.wording if is_unsafe(item) and item not in "\n\t"] == [], done.wording
    assert done.code in (0, 1, 2, 3)


def written(folder: Path, *documents: Any, name: str = "types.yaml") -> Path:
    (folder / name).write_text(yaml.safe_dump_all(documents))
    return folder / name


def with_(at: tuple[Any, ...], value: Any) -> dict[str, Any]:
    copy: dict[str, Any] = json.loads(json.dumps(TYPE))
    place: Any = copy
    for key in at[:-1]:
        place = place[key]
    place[at[-1]] = value
    return copy


PLACES: dict[str, tuple[Any, ...]] = {
    "name": ("metadata", "name"),
    "namespace": ("metadata", "namespace"),
    "type": ("spec", "type"),
    "team": ("spec", "owner", "team"),
    "contact": ("spec", "owner", "contact"),
    "description": ("spec", "description"),
    "producer": ("spec", "producers", 0),
    "version": ("spec", "versions", 0, "name"),
    "schema's file": ("spec", "versions", 0, "schema"),
    "schema's title": ("spec", "versions", 0, "schema", "title"),
    "schema's field": ("spec", "versions", 0, "schema", "properties", HOSTILE),
    "topic": ("spec", "channel"),
    "kind": ("kind",),
    "apiVersion": ("apiVersion",),
    "unknown field": ("spec", HOSTILE),
    "label": ("metadata", "labels"),
}


@pytest.mark.parametrize("place", [*PLACES])
@pytest.mark.parametrize("command", ["lint", "plan", "consumers", "asyncapi", "render --declared", "render -o json"])
def test_the_text_of_a_field_is_shown_and_never_obeyed(tmp_path: Path, place: str, command: str) -> None:
    value: Any = {"topic": {"topic": HOSTILE}, "label": {HOSTILE: HOSTILE}}.get(place, HOSTILE)
    written(tmp_path, with_(PLACES[place], value))
    assert_harmless(run(tmp_path, *command.split(), "."))


@pytest.mark.parametrize("place", ["unknown field", "kind", "team", "type"])
def test_the_text_of_an_earlier_state_is_shown_and_never_obeyed(tmp_path: Path, place: str) -> None:
    (tmp_path / "old").mkdir()
    written(tmp_path / "old", with_(PLACES[place], HOSTILE))
    written(tmp_path, TYPE)
    done = run(tmp_path, "lint", "types.yaml", "--against", "./old")
    assert_harmless(done)


@pytest.mark.parametrize(
    "name",
    [b"\xff\xfe.yaml", b"\x1b[2J.yaml", b"a\nb.yaml", b"-o.yaml", b"[red]x[blink].yaml", "\u202egp.yaml".encode()],
)
@pytest.mark.parametrize("content", [": : :", yaml.safe_dump(TYPE), "a: !!python/object:os.system x"])
def test_a_files_name_is_shown_and_never_obeyed(tmp_path: Path, name: bytes, content: str) -> None:
    with open(os.path.join(os.fsencode(tmp_path), name), "w") as file:  # noqa: PTH118, PTH123 - no Unicode name
        file.write(content)
    for arguments in (["lint", "."], ["plan", "-o", "json", "."], ["lint", "--", os.fsdecode(name)]):
        assert_harmless(run(tmp_path, *arguments))


@pytest.mark.parametrize(
    "against", ["--output=stolen", "-o", "\x1b[2J", "HEAD:../..", "a..b", "@{-1}", ":/x", "x\ny", "", " "]
)
def test_a_revision_is_no_option_of_git(tmp_path: Path, against: str) -> None:
    written(tmp_path, TYPE)
    subprocess.run(["git", "init", "-q", "."], cwd=tmp_path, check=True)
    before = {*tmp_path.iterdir()}
    done = run(tmp_path, "lint", "types.yaml", f"--against={against}")
    assert_harmless(done)
    assert done.code == 2, done.wording
    assert {*tmp_path.iterdir()} == before


@pytest.mark.parametrize("how", ["absolute", "relative", "link", "linked folder"])
def test_a_contract_reads_no_file_outside_of_its_folder(tmp_path: Path, how: str) -> None:
    """Continuous integration runs `lint` and `render` on what strangers propose, and shows what they print."""
    secret = tmp_path / "secret.json"
    secret.write_text('{"auths": {"x": "s3cret"}}')
    folder = tmp_path / "contracts"
    folder.mkdir()
    (folder / "link.json").symlink_to(secret)
    (folder / "up").symlink_to(tmp_path)
    name = {
        "absolute": str(secret),
        "relative": "../secret.json",
        "link": "link.json",
        "linked folder": "up/secret.json",
    }
    for place in (("schema",), ("examples",)):
        value: Any = name[how] if place == ("schema",) else [name[how]]
        written(folder, with_(("spec", "versions", 0, *place), value))
        for command in ("lint", "render --declared", "asyncapi"):
            done = run(tmp_path, *command.split(), "contracts")
            assert_harmless(done)
            assert "s3cret" not in done.wording
        (finding,) = [item for item in load([folder]).findings if item.rule == "schema-unreadable"]
        assert "outside" in finding.message


def test_a_schema_next_to_the_contract_is_read_through_links_as_kubernetes_mounts_them(tmp_path: Path) -> None:
    data = tmp_path / "..2026"
    (data / "schemas").mkdir(parents=True)
    (data / "schemas" / "a.json").write_text('{"type": "object"}')
    written(data, with_(("spec", "versions", 0, "schema"), "schemas/a.json"))
    (tmp_path / "..data").symlink_to("..2026")
    (tmp_path / "types.yaml").symlink_to("..data/types.yaml")
    (tmp_path / "schemas").symlink_to("..data/schemas")
    assert load([tmp_path / "types.yaml"]).findings == []


@pytest.mark.parametrize("kind", ["fifo", "device", "loop", "folder", "proc", "socket"])
def test_what_is_no_file_is_a_finding(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "a.yaml"
    if kind == "fifo":
        os.mkfifo(place)
    elif kind == "folder":
        place.mkdir()
    else:
        target = {"device": "/dev/zero", "loop": str(place), "proc": "/proc/self/environ", "socket": "/dev/log"}
        place.symlink_to(target[kind])
    done = run(tmp_path, "lint", ".", SECRET="s3cret")
    assert_harmless(done)
    assert "s3cret" not in done.wording


# -- texts that only YAML can hold -------------------------------------------------------------------------------------

BOMBS = {
    "base 60": "a: 1" + ":1" * 200_000,
    "base 60, tagged": "a: !!int '" + "1:" * 200_000 + "1'",
    "base 60, as a fraction": "a: 1" + ":1" * 200_000 + ".5",
    "digits": "a: " + "9" * 100_000,
    "hexadecimal": "a: 0x" + "f" * 100_000,
    "binary": "a: 0b" + "1" * 100_000,
    "octal": "a: 0" + "7" * 100_000,
    "a large exponent": "a: 1.0e+" + "9" * 1_000,
    "documents": "---\na\n" * 20_000,
    "aliases": "\n".join(f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9) if n else '1'}]" for n in range(30)),
    "merged aliases": "a0: &a0 {x: 1}\n"
    + "\n".join(f"a{n}: &a{n}\n  <<: [{','.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)),
    "an alias within itself": "a: &a [*a]",
    "merging itself": "a: &a {<<: *a}",
    "nested lists": "[" * 5_000,
    "nested maps": "{a: " * 5_000,
    "nested blocks": "".join(" " * n + "-\n" for n in range(500)),
    "a tag that runs": "a: !!python/object/apply:os.system ['touch stolen']",
    "a tag of its own": "a: !x y",
    "a redefined tag": "%TAG !! tag:evil,2026:\n---\na: !!int 1",
    "a set": "a: !!set {b, c}",
    "binary data": "a: !!binary aGVsbG8=",
    "a list as a field's name": "? [a]\n: 1",
    "half a character": 'a: "\\ud800"',
    "another version": "%YAML 9.9\n---\na: 1",
}


@pytest.mark.parametrize("name", [*BOMBS])
def test_a_bomb_is_a_finding_or_plain_text(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.yaml").write_text(BOMBS[name], encoding="utf-8")
    done = run(tmp_path, "lint", ".")
    assert_harmless(done)
    assert done.code == 1, done.wording
    assert not (tmp_path / "stolen").exists()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1:30", "1:30"),
        ("190:20:30", "190:20:30"),
        ("1:30.5", "1:30.5"),
        ("1e5", 1e5),
        ("-2E-3", -2e-3),
        ("'1e5'", "1e5"),
        ("1_000", 1000),
        ("0x1F", 31),
        ("2026-01-01", "2026-01-01"),
        ("null", None),
        ("yes", True),
    ],
)
def test_a_number_is_what_kubernetes_reads(text: str, value: Any) -> None:
    """Else the files are checked with another value than the cluster gets."""
    (document,), findings = reading.parse(f"a: {text}")
    assert (document.data, findings) == ({"a": value}, [])


@pytest.mark.parametrize("twice", ["a: 1\na: 2", 'a: 1\n"a": 2', "a: 1\n'a': 2", "a: 1\n? a\n: 2", "x: {b: 1, b: 1}"])
def test_a_duplicate_field_is_a_finding(twice: str) -> None:
    _, findings = reading.parse(twice)
    assert [item.rule for item in findings] == ["yaml-duplicate-field"]


@pytest.mark.parametrize("number", [".nan", ".inf", "-.inf", "1e400", "0x" + "f" * 300, "9" * 300])
@pytest.mark.parametrize(
    "field", ["rateLimit: {eventsPerSecond: %s}", "maxConcurrency: %s", "delivery: {retry: {maxRetries: %s}}"]
)
def test_a_number_that_json_does_not_have_is_a_finding(tmp_path: Path, number: str, field: str) -> None:
    head = "apiVersion: tidings.dev/v1alpha1\nkind: EventSubscription\nmetadata: {name: x}\n"
    head += "spec:\n  consumer: {appId: x}\n"
    (tmp_path / "a.yaml").write_text(head + "  " + field % number)
    result = load([tmp_path])
    assert not result.subscriptions
    assert result.findings
