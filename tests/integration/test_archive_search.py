"""The archive's full-text search and its pages, on SQLite and PostgreSQL."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from tests.integration import test_archive_any_bytes
from tests.unit.test_archive_service import PLACED, V2, Archive, fact

from tidings_archive import event_queries, fulltext
from tidings_archive.tables import events

archive = test_archive_any_bytes.archive  # a fixture: on SQLite and on PostgreSQL
NOON = datetime(2026, 3, 14, 12, tzinfo=UTC)
ORDER = str(uuid.UUID(int=2**122 + 5))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Hello, World-Wide_Web 12.50", ["hello", "world", "wide", "web", "12", "50"]),
        (f'{{"id":"{ORDER}"}}', ["id", ORDER]),
        ("ＺＯË zoë Straße STRASSE", ["zoë", "strasse"]),
        ("'; -- \" * ( ) : & | ! \\ \ufffd\U0001f355", []),
        ("x" * 100, ["x" * 64]),
        ("same same", ["same"]),
        ("注文 заказ", ["注文", "заказ"]),
    ],
)
def test_texts_are_split_into_words(text: str, found: list[str]) -> None:
    assert fulltext.words(text) == found


@given(st.text())
def test_words_need_no_quoting(text: str) -> None:
    found = fulltext.words(text)
    assert not any(character in word for word in found for character in " '\"\\:&|!()*<>\t\n\x00")
    assert fulltext.words(" ".join(found)) == found


def test_words_of_attributes_are_never_cut() -> None:
    body = " ".join(f"word{number}" for number in range(5_000))
    found = fulltext.words_of(body, "orders.orderPlaced").split(" ")
    assert len(found) == fulltext.MOST
    assert found[:2] == ["orders", "orderplaced"]


@pytest.fixture
async def filled(archive: Archive) -> Archive:
    """Store thirty events of two versions, of which every third arrives late."""
    for number in range(30):
        topic = V2 if number % 2 else PLACED
        happened = NOON + timedelta(minutes=number) - timedelta(minutes=100 if number % 3 == 0 else 0)
        data = {"name": "Zoë" if number % 5 else "Ann", "odd": "\0", "number": number}
        await archive.receive(topic, fact(topic, f"e{number}", time=happened.isoformat(), data=data, subject="all"))
    return archive


QUERIES: list[dict[str, Any]] = [
    {},
    {"type": "orders.*"},
    {"type": "*"},
    {"type": ["orders.orderPlaced", "orders.orderConfirmed.v2", "kitchen.*"]},
    {"q": "zoË"},
    {"q": "orders zoë", "type": "orders.orderPlaced"},
    {"since": NOON.isoformat()},
    {"until": NOON.isoformat(), "type": "orders.*"},
    {"since": (NOON + timedelta(minutes=5)).isoformat(), "until": (NOON + timedelta(minutes=9)).isoformat()},
    {"subject": "all", "source": "orders"},
    {"topic": V2},
]


@pytest.mark.parametrize("query", QUERIES, ids=str)
async def test_pages_together_are_the_whole_in_the_order_of_arrival(filled: Archive, query: dict[str, Any]) -> None:
    whole = await filled.ids(**query, limit=1000)
    assert whole == sorted(whole, key=lambda identity: -int(identity[1:]))
    paged: list[str] = []
    cursor = None
    while True:
        page = await filled.get("/events", **query, limit=4, cursor=cursor)
        paged += [event["id"] for event in page["events"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert paged == whole
    assert len(whole) == sum((await filled.get("/counts", **query)).values())


async def test_a_search_covers_more_types_than_are_looked_up_one_by_one(
    filled: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = await filled.ids(type="orders.*", limit=1000)
    monkeypatch.setattr(event_queries, "_MOST_KINDS", 1)
    assert await filled.ids(type="orders.*", limit=1000) == few
    assert len(few) == 30


async def test_a_text_without_words_is_refused(archive: Archive) -> None:
    answer = await archive.http.get("/events", params={"q": "%"})
    assert (answer.status_code, "letters or digits" in answer.text) == (422, True)


async def test_a_search_for_long_types_sources_and_topics_uses_their_stored_form(archive: Archive) -> None:
    source = "s" * 3_000
    await archive.receive(PLACED, fact(PLACED, "a", source=source, type="orders." + "x" * 3_000))
    assert await archive.ids(source=source) == ["a"]


async def test_words_of_a_deleted_event_are_deleted(filled: Archive) -> None:
    database = filled.service.outbox.database  # type: ignore[attr-defined]
    async with database.transaction() as connection:
        await connection.execute(sa.delete(events).where(events.c.id == "e0"))
    assert "e0" not in await filled.ids(q="ann", limit=1000)
    assert len(await filled.ids(q="ann", limit=1000)) == 5
