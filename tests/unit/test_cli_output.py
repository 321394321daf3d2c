"""Data reaches a terminal as text: without escape sequences, direction marks or markup."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tidings_cli import output

HOSTILE = "bad [/bold] [red]text[/red] \x1b[2J\x1b[31mESC \u202eRTL \x9b31m \ud83d \x7f \u2028 \U0001f355"
ACTED_ON = ("\x1b", "\x9b", "\x07", "\x08", "\x7f", "\u202e", "\u2028", "\ud83d", "\r")


def on_terminal(text: object) -> str:
    """Return what a colourless terminal is sent."""
    console = Console(file=(file := io.StringIO()), force_terminal=True, width=1000, color_system=None)
    console.print(text)
    return file.getvalue()


def test_data_is_shown_and_never_sent() -> None:
    shown = on_terminal(output.literal(HOSTILE))
    assert not [item for item in ACTED_ON if item in shown]
    assert "[red]text[/red] \\x1b[2J\\x1b[31mESC \\u202eRTL" in shown
    assert "\U0001f355" in shown


def test_line_breaks_stay_only_where_they_are_allowed() -> None:
    assert output.printable("a\nb\tc\r") == "a\\nb\\tc\\r"
    assert output.printable("a\nb\tc\r", lines=True) == "a\nb\tc\\r"


@given(st.text(st.characters(exclude_categories=())))
def test_no_text_has_anything_left_that_a_terminal_acts_on(text: str) -> None:
    assert output.printable(output.printable(text)) == output.printable(text)
    assert all(item.isprintable() or item.isspace() or ord(item) > 0xA0 for item in output.printable(text))


@given(st.recursive(st.text(), st.lists))
def test_printed_json_is_the_same_json(value: object) -> None:
    assert json.loads(output.as_json(value)) == value


def test_json_has_no_escape_sequence_either(capsys: pytest.CaptureFixture[str]) -> None:
    output.dump({"reason": HOSTILE})
    shown = capsys.readouterr().out
    assert not [item for item in ACTED_ON if item in shown]
    assert json.loads(shown) == {"reason": HOSTILE}


def test_a_refusal_keeps_its_lines(capsys: pytest.CaptureFixture[str]) -> None:
    output.refusal("1: \x1b[2Jno\n2: [bold]no[/bold]")
    assert capsys.readouterr().err == "1: \\x1b[2Jno\n2: [bold]no[/bold]\n"
