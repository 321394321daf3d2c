"""Log lines: bounded files, and what people see of them."""

from itertools import islice
from pathlib import Path

import pytest

from tidings_cli.up.logs import Entry, LogFile, follow, parse_line, tail, worth_showing
from tidings_cli.up.state import Role

DEEP = f'{{"event": {"[" * 9_000}{"]" * 9_000}}}'


@pytest.mark.parametrize(
    ("line", "entry"),
    [
        ("just text", Entry(1, "just text")),
        ("WARNING: careful", Entry(2, "WARNING: careful")),
        ("Traceback (most recent call last):", Entry(3, "Traceback (most recent call last):")),
        ("{not json", Entry(1, "{not json")),
        (DEEP, Entry(1, DEEP)),
        (
            '{"level":"error","event":"refused","order":"7","items":[1],"correlation_id":"c1","timestamp":"2026-01-01T10:11:12Z"}',
            Entry(3, "refused", "c1", (("order", "7"), ("items", "[1]")), "10:11:12"),
        ),
        (
            '{"app_id":"a","instance":"vm","level":"warning","msg":"slow","scope":"dapr","time":"2026-01-01T10:11:12.5Z"}',
            Entry(2, "slow", "", (), "10:11:12"),
        ),
    ],
)
def test_parse_line(line: str, entry: Entry) -> None:
    assert parse_line(line) == entry


@pytest.mark.parametrize(
    ("entry", "role", "verbose", "shown"),
    [
        (Entry(1, "placed"), "service", False, True),
        (Entry(0, "details"), "service", False, False),
        (Entry(1, "loaded"), "sidecar", False, False),
        (Entry(1, "loaded"), "sidecar", True, True),
        (Entry(2, "app is not healthy"), "sidecar", False, True),
        (Entry(2, "mTLS is disabled. Skipping"), "sidecar", False, False),
        (Entry(3, "disk full"), "broker", False, True),
    ],
)
def test_what_is_worth_showing(entry: Entry, role: Role, verbose: bool, shown: bool) -> None:
    assert worth_showing(entry, role, verbose=verbose) is shown


def test_a_log_is_bounded_and_its_end_is_read_across_files(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "a.log", max_bytes=100)
    for number in range(50):
        log.write(f"line {number}\n".encode())
    log.close()
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= 200
    assert list(tail(tmp_path / "a.log", 13)) == [f"line {number}" for number in range(37, 50)]


def test_the_last_lines_are_those_of_the_present_process(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "a.log")
    log.write(b"of the one before\n")
    log.forget_last_lines()
    log.write(b"\xff broken\n")
    assert log.last() == ["\N{REPLACEMENT CHARACTER} broken"]
    log.close()


def test_following_goes_on_after_a_rotation(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    log = LogFile(path, max_bytes=20)
    log.write(b"old\n")
    lines = follow(path)
    assert next(lines) == ""
    log.write(b"first\n")
    assert next(lines) == "first"
    log.write(b"second, in a new file\n")
    assert "second, in a new file" in islice(lines, 3)
    log.close()
