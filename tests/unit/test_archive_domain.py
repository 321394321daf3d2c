"""The archive's rules: what becomes of dead letters, which events are meant, how they are sent again."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidings.consume.deadletters import encode_dead_letters, malformed
from tidings.messages.envelope import salvage
from tidings_archive import storage
from tidings_archive.domain import deadletter, replay
from tidings_archive.domain.deadletter import DeadLetterError, LetterStatus
from tidings_archive.domain.selection import Selection, SelectionError, TypePattern
from tidings_archive.replay_envelope import ReplayTarget, build_replay_event

NOON = datetime(2026, 3, 14, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("state", "failed", "named", "result"),
    [
        ("open", "a-b", None, "a-b"),
        ("open", "a-b", "a-b", "a-b"),
        ("sent", "a-b", None, "a-b"),
        ("handled", "a-b", None, "a-b"),
        ("open", "", "a-c", "a-c"),
        ("open", "a-b", "a-c", "can be replayed only to a-b"),
        ("open", "", None, "name the subscription to replay it to"),
        ("discarded", "a-b", None, "a replay would undo that decision"),
    ],
)
def test_a_replay_reaches_only_who_failed(state: Any, failed: str, named: str | None, result: str) -> None:
    standing = LetterStatus(state, failed)
    if " " not in result:
        assert deadletter.replay_target(standing, named) == result
    else:
        with pytest.raises(DeadLetterError, match=result):
            deadletter.replay_target(standing, named)


@pytest.mark.parametrize("state", ["open", "sent", "dropped", "discarded"])
def test_an_unhandled_letter_can_be_discarded(state: Any) -> None:
    deadletter.check_discardable(LetterStatus(state, "a-b"))


def test_what_was_handled_cannot_be_discarded() -> None:
    with pytest.raises(DeadLetterError, match="discarded only if it fails again"):
        deadletter.check_discardable(LetterStatus("handled", "a-b"))


@pytest.mark.parametrize(
    ("state", "replay_id", "outcome", "after"),
    [
        ("sent", "latest", "handled", "handled"),
        ("sent", "latest", "failed", "open"),
        ("sent", "latest", "unread", "open"),
        ("sent", "latest", "dropped", "dropped"),
        ("sent", "earlier", "handled", "handled"),  # handled is handled
        ("sent", "earlier", "failed", None),
        ("sent", "earlier", "unread", None),
        ("handled", "latest", "failed", None),
        ("open", "latest", "handled", "handled"),
        ("discarded", "latest", "unread", None),
    ],
)
def test_the_state_follows_from_what_the_consumer_confirms(
    state: str, replay_id: str, outcome: Any, after: str | None
) -> None:
    assert deadletter.state_after(state, "latest", replay_id, outcome) == after


@pytest.mark.parametrize("state", ["open", "sent", "handled", "dropped", "discarded"])
def test_a_new_failure_opens_a_dead_letter_but_not_an_obsolete_one(state: str) -> None:
    assert deadletter.reopens(state, is_superseded=False)
    assert deadletter.reopens(state, is_superseded=True) is (state != "handled")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("orders.orderPlaced", TypePattern("orders.orderPlaced")),
        ("orders.orderConfirmed.v2", TypePattern("orders.orderConfirmed", 2)),
        ("orders.*", TypePattern("orders", wildcard=True)),
        ("*", TypePattern("", wildcard=True)),
        ("orders.v", TypePattern("orders.v")),
    ],
)
def test_kinds_are_read(text: str, kind: TypePattern) -> None:
    assert TypePattern.parse(text) == kind


@pytest.mark.parametrize("text", ["", ".*", "orders.", "Orders.x", "orders placed", "orders.*.v1", "o.p.v0 "])
def test_what_is_no_kind_is_refused(text: str) -> None:
    with pytest.raises(SelectionError, match="is no type"):
        TypePattern.parse(text)


def test_a_time_that_ends_before_it_begins_is_refused() -> None:
    Selection(since=NOON, until=NOON + timedelta(seconds=1))
    with pytest.raises(SelectionError, match="nothing happened"):
        Selection(since=NOON, until=NOON)


@given(st.floats(0.01, 5000))
def test_no_pace_is_faster_than_its_rate_nor_much_slower(rate: float) -> None:
    pace = replay.pace(rate)
    seconds = pace.pause.total_seconds()
    assert 1 <= pace.events <= replay.LARGEST_STEP
    assert pace.events / seconds == pytest.approx(rate, rel=0.01)
    assert seconds <= max(1 / rate, replay.TICK) * 1.01


ADDRESS = ReplayTarget("a-b", "r-1")
STANDARD = '"source":"s","specversion":"1.0","version":"1"'


def test_what_is_sent_again_is_the_event_and_whom_it_is_for() -> None:
    data = '{"total" : 1.50,"b":[1, 2]}'
    body = (
        f'{{"id":"e-1","type":"a.b",{STANDARD},"odd":[1],"topic":"a.b.v1","pubsubname":"pubsub","traceid":7,'
        '"expiration":"x","replayto":"old","replayid":"old","failurereason":"r","failurelast":"l",'
        '"traceparent":"00-1","subject":null,"data":' + data + "}"
    )
    sent = build_replay_event(body.encode(), ADDRESS)
    assert data.encode() in sent
    assert json.loads(sent) == {
        "id": "e-1",
        "type": "a.b",
        "source": "s",
        "specversion": "1.0",
        "version": "1",
        "odd": [1],
        "traceparent": "00-1",
        "replayto": "a-b",
        "replayid": "r-1",
        "replaytopic": "a.b.v1",
        "data": json.loads(data),
    }


@pytest.mark.parametrize(
    "attributes",
    [{"topic": "customers"}, {"failuretopic": "customers"}, {"topic": "replay.crm", "replaytopic": "customers"}],
)
def test_what_is_sent_again_names_the_topic_that_the_event_was_published_on_first(attributes: dict[str, str]) -> None:
    assert json.loads(build_replay_event(letter(**attributes), ADDRESS))["replaytopic"] == "customers"


def letter(**attributes: Any) -> bytes:
    """Return a dead letter as the SDK publishes it."""
    standard = {"id": "d-1", "originalid": "e-1", "source": "s", "type": "a.b", "specversion": "1.0", "version": "1"}
    return json.dumps({**standard, "failurereason": "r", **attributes}).encode()


def unreadable(event: bytes, subscription: str = "a-b") -> bytes:
    """Return the dead letter that the SDK publishes of an event that it could not read."""
    failed = malformed(event, salvage(event, "odd"), "odd", subscription)
    return next(encode_dead_letters(failed, max_event=1_000_000))


UNREADABLE_EVENTS = [
    (
        f'{{"id":"e-1","type":"a.b",{STANDARD},"data":{"[" * deep}{"]" * deep}}}'.encode(),
        "nested deeper than 128 levels",
    )
    for deep in (128, 980, 1_000, 9_000)
] + [
    (b'{"a":' * 9_000 + b"1" + b"}" * 9_000, "nested deeper than 128 levels"),
    (b"[" * 100_000, "nested deeper than 128 levels"),
    (b"", "not a CloudEvents envelope"),
    (b"[7]", "not a CloudEvents envelope"),
    (b"\xff\x00", "not UTF-8"),
    (b'{"id":"\\ud800"}', "half of a surrogate pair"),
    (f'{{"id":"e-1","type":"a.b",{STANDARD},"subject":[]}}'.encode(), "subject must be a string"),
]


def test_a_dead_letters_event_has_its_own_id_again() -> None:
    sent = json.loads(build_replay_event(letter(data={"n": 1}), ADDRESS))
    assert (sent["id"], sent["data"]) == ("e-1", {"n": 1})
    assert "originalid" not in sent


def test_bytes_that_can_be_read_after_all_are_sent_as_they_arrived() -> None:
    body = unreadable(f'{{"id":"e-1","type":"a.b",{STANDARD},"data":{{"n":1}}}}'.encode())
    assert json.loads(build_replay_event(body, ADDRESS))["data"] == {"n": 1}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"[7]", "not a CloudEvents envelope"),
        (b"", "not a CloudEvents envelope"),
        (b"{", "not a CloudEvents envelope"),
        (b"\xff\x00", "not UTF-8"),
        (letter(failureshortened="3000000"), "shortened from 3000000 bytes"),
        (letter(failureclass="MalformedEvent", data_base64="AP8="), "not a CloudEvents envelope"),
        *((unreadable(event), reason) for event, reason in UNREADABLE_EVENTS),
        (letter(data="x" * 2000), "at most 1500 can be published"),
        (letter(version="99999999999999999999"), "version must be"),
    ],
)
def test_what_is_no_event_cannot_be_sent(body: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        build_replay_event(body, ReplayTarget("a-b", "r-1", 1500))


@given(st.binary(max_size=200))
def test_any_bytes_are_stored_without_loss_and_as_text_for_every_database(body: bytes) -> None:
    columns = storage.body_columns(body)
    assert storage.original_body(columns) == body
    assert "\0" not in columns["body"]
    columns["body"].encode()


@given(st.text(st.characters(exclude_categories=())))
def test_any_text_can_be_stored(text: str) -> None:
    assert "\0" not in storage.sanitize(text)
    storage.sanitize(text).encode()
    assert len(storage.hash_key(storage.sanitize(text))) == 64


@pytest.mark.parametrize(
    ("text", "number"),
    [("3", 3), ("9" * 9, 10**9 - 1), ("9" * 20, 0), ("9" * 5000, 0), ("-1", 0), ("", 0), ("\u0661", 0)],
)
def test_counts_are_bounded(text: str, number: int) -> None:
    assert storage.parse_count(text) == number


def test_keys_differ_where_their_parts_do() -> None:
    assert storage.hash_key("a", "bc") != storage.hash_key("ab", "c") != storage.hash_key("ab", "c", "")
