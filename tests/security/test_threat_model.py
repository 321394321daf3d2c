"""The threat model claims nothing without a test, and names no test that does not exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/explanation/security.md").read_text()
_REFERENCE = re.compile(r"`(tests/\S+?\.py|…)(?:::(test_\w+))?`")


@cache
def defined_in(file: str) -> frozenset[str]:
    return frozenset(re.findall(r"^(?:async )?def (test_\w+)", (ROOT / file).read_text(), re.MULTILINE))


def references(text: str) -> Iterator[tuple[str, str]]:
    """Yield every file and test that is named; `…` is the file that was named last."""
    last = ""
    for file, test in _REFERENCE.findall(text):
        last = last if file == "…" else file
        yield last, test


def rows(text: str) -> list[list[str]]:
    result = [
        [cell.strip() for cell in line.strip("| ").split(" | ")] for line in text.splitlines() if line.startswith("| ")
    ]
    return [item for item in result if item[0] not in ("threat", "attack", "asset", "")]


def test_every_test_that_is_named_exists() -> None:
    named = set(references(TEXT))
    assert len(named) > 80
    missing = [
        f"{file}::{test}"
        for file, test in named
        if not (ROOT / file).is_file() or (test and test not in defined_in(file))
    ]
    assert missing == []


@pytest.mark.parametrize(
    "row", rows(TEXT[TEXT.index("## Threats") : TEXT.index("## What is not defended")]), ids=lambda row: row[0][:60]
)
def test_every_answer_to_a_threat_names_its_test(row: list[str]) -> None:
    assert list(references(row[1])), row[0]


@pytest.mark.parametrize(
    "row",
    rows(TEXT[TEXT.index("## Attacks and their tests") : TEXT.index("## How it is checked")]),
    ids=lambda row: row[0][:60],
)
def test_every_attack_names_its_test(row: list[str]) -> None:
    assert "::" in row[1] or "tests/" in row[1], row[0]


def test_the_page_lists_what_is_not_defended() -> None:
    message = TEXT[TEXT.index("## What is not defended") : TEXT.index("## Attacks and their tests")]
    for item in ("flood of connections", "order's id", "Traffic on the wire", "Payment tokens", "taken over"):
        assert item in message
    assert "**Not defended: namespaces" in TEXT


def test_a_reference_that_leads_nowhere_would_be_noticed() -> None:
    assert list(references("`tests/a.py::test_x`, `…::test_y`, `tests/b.py`")) == [
        ("tests/a.py", "test_x"),
        ("tests/a.py", "test_y"),
        ("tests/b.py", ""),
    ]
    assert "test_every_test_that_is_named_exists" in defined_in("tests/security/test_threat_model.py")
    assert "test_nothing_of_the_kind" not in defined_in("tests/security/test_threat_model.py")
