"""The archive's rules: what becomes of dead letters, which events are meant, how they are sent again."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archive.domain import deadletter, replaying
from archive.domain.deadletter import DeadLetterError, Standing
from archive.domain.selection import Kind, Selection, SelectionError

NOON = datetime(2026, 3, 14, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("state", "failed", "named", "result"),
    [
        ("open", "a-b", None, "a-b"),
        ("open", "a-b", "a-b", "a-b"),
        ("replayed", "a-b", None, "a-b"),
        ("open", "", "a-c", "a-c"),
        ("open", "a-b", "a-c", "only a-b may have it again"),
        ("open", "", None, "name the one that is to have it again"),
        ("discarded", "a-b", None, "a decision that a replay would undo"),
    ],
)
def test_a_replay_reaches_only_who_failed(state: Any, failed: str, named: str | None, result: str) -> None:
    standing = Standing(state, failed, "")
    if " " not in result:
        assert deadletter.replay(standing, named) == result
    else:
        with pytest.raises(DeadLetterError, match=result):
            deadletter.replay(standing, named)


@pytest.mark.parametrize("state", ["open", "discarded"])
def test_what_is_not_on_its_way_can_be_discarded(state: Any) -> None:
    deadletter.discard(Standing(state, "a-b", ""))


def test_what_was_replayed_cannot_be_discarded() -> None:
    with pytest.raises(DeadLetterError, match="nothing to discard"):
        deadletter.discard(Standing("replayed", "a-b", ""))


@pytest.mark.parametrize(
    ("state", "known", "last", "again"),
    [
        ("open", "2026-03-14T12:00:00Z", "2026-03-14T12:00:00Z", False),  # delivered twice
        ("open", "2026-03-14T12:00:00Z", "2026-03-14T12:05:00Z", True),
        ("open", "2026-03-14T12:05:00Z", "2026-03-14T12:00:00Z", False),  # late
        ("replayed", "2026-03-14T12:00:00Z", "2026-03-14T12:00:00Z", False),
        ("replayed", "2026-03-14T12:00:00Z", "2026-03-14T12:05:00Z", True),
        ("discarded", "2026-03-14T12:00:00Z", "2026-03-14T12:05:00Z", True),
        ("open", "", "", False),
        ("replayed", "", "", True),  # the sidecar says no time: after a replay it can only be a new failure
        ("discarded", "", "", False),
    ],
)
def test_a_dead_letter_that_comes_again_is_a_new_failure_or_the_known_one(
    state: Any, known: str, last: str, again: bool
) -> None:
    assert deadletter.fails_again(Standing(state, "a-b", known), last) is again


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("orders.orderPlaced", Kind("orders.orderPlaced")),
        ("orders.orderConfirmed.v2", Kind("orders.orderConfirmed", 2)),
        ("orders.*", Kind("orders", below=True)),
        ("*", Kind("", below=True)),
        ("orders.v", Kind("orders.v")),
    ],
)
def test_kinds_are_read(text: str, kind: Kind) -> None:
    assert Kind.parse(text) == kind


@pytest.mark.parametrize("text", ["", ".*", "orders.", "Orders.x", "orders placed", "orders.*.v1", "o.p.v0 "])
def test_what_is_no_kind_is_refused(text: str) -> None:
    with pytest.raises(SelectionError, match="is no type"):
        Kind.parse(text)


def test_a_time_that_ends_before_it_begins_is_refused() -> None:
    Selection(since=NOON, until=NOON + timedelta(seconds=1))
    with pytest.raises(SelectionError, match="nothing happened"):
        Selection(since=NOON, until=NOON)


@given(st.floats(0.01, 5000))
def test_no_pace_is_faster_than_its_rate_nor_much_slower(rate: float) -> None:
    pace = replaying.pace(rate)
    seconds = pace.pause.total_seconds()
    assert 1 <= pace.events <= replaying.LARGEST_STEP
    assert pace.events / seconds == pytest.approx(rate, rel=0.01)
    assert seconds <= max(1 / rate, replaying.TICK) * 1.01


def test_what_is_sent_again_is_the_event_and_whom_it_is_for() -> None:
    data = '{"total" : 1.50,"b":[1, 2]}'
    body = (
        '{"id":"e-1","type":"a.b","odd":[1],"topic":"deadletter.a","pubsubname":"pubsub","traceid":"t","expiration":"x",'
        '"replayto":"old","failurereason":"r","failurelast":"l","traceparent":"00-1","data":' + data + "}"
    )
    sent = replaying.addressed(body, "a-b")
    assert data.encode() in sent
    assert json.loads(sent) == {
        "id": "e-1",
        "type": "a.b",
        "odd": [1],
        "traceparent": "00-1",
        "replayto": "a-b",
        "data": json.loads(data),
    }


@pytest.mark.parametrize("body", ["[7]", "", "{"])
def test_what_is_no_event_cannot_be_sent(body: str) -> None:
    with pytest.raises(ValueError, match="no event that could be sent"):
        replaying.addressed(body, "a-b")
