"""The table outbox on SQLite; on PostgreSQL: tests/integration/test_outbox_table_postgres.py."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from tests.conformance import poll
from tests.conformance.table import (
    Counted,
    Shop,
    TableConformance,
    counted,
    deliver,
    postpone,
    published,
)
from tests.support.refused_writes import ANYWHERE, SQLITE, Write, check_race, check_refused, parametrized

from tidings.errors import PublishRefused, SidecarError, SidecarUnavailable
from tidings.outbox import table_relay
from tidings.outbox.table_relay import Row

AWAY, REFUSED = SidecarUnavailable("away"), PublishRefused("no")


class TestTableOnSqlite(TableConformance):
    @pytest.fixture
    def database_url(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path}/shop.db"


async def test_a_database_that_does_not_answer_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDINGS_DEADLINE", "0.2")
    shop = Shop(f"sqlite:///{tmp_path}/shop.db")
    async with shop.process() as (service, sidecar):
        sidecar.fail("publish", error=SidecarUnavailable("not yet"))
        await deliver(service, counted())
        await service.execute(postpone, Counted(item="pear", slow=0.1))
        other = sqlite3.connect(tmp_path / "shop.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        assert await deliver(service, counted()) == b'{"status":"RETRY"}'
        await poll(lambda: shop.published_all() == [1])
        assert service.outbox.depth == 1, "published, but the row could not be removed"
        other.execute("ROLLBACK")
        other.close()
        await published(service)
        await poll(lambda: shop.published_all("pear") == [1])


def row(number: int, subject: str = "", *, topic: str = "t", size: int = 10) -> Row:
    return Row(number, subject or f"s{number}", topic, "x" * size, 0.0, 0, None)


class Refusing:
    """A sidecar that notes what it is given and lets nothing of some pass."""

    def __init__(self, errors: dict[str, SidecarError]) -> None:
        self.errors = errors
        self.calls: list[tuple[str, list[str]]] = []

    async def publish_many(self, topic: str, events: list[bytes]) -> list[SidecarError | None]:
        self.calls.append((topic, [event.decode() for event in events]))
        return [self.errors.get(event.decode()) for event in events]


async def test_a_subject_is_published_in_order_and_stops_at_its_first_failure() -> None:
    order = [("a", "a1"), ("b", "b1"), ("a", "a2"), ("a", "a3"), ("b", "b2"), ("c", "c1")]
    rows = [Row(number, subject, "t", event, 0.0, 0, None) for number, (subject, event) in enumerate(order)]
    sidecar = Refusing({"a2": REFUSED})
    went, failed = await table_relay.publish(sidecar, rows)  # type: ignore[arg-type] # it can only publish
    assert sidecar.calls == [("t", ["a1", "b1", "c1"]), ("t", ["a2", "b2"])]
    assert (went, failed) == ([0, 1, 5, 4], {2: REFUSED})


def test_a_call_has_one_topic_and_is_never_too_large() -> None:
    rows = [row(number, topic="odd" if number % 2 else "even") for number in range(250)]
    calls = list(table_relay._calls(rows))
    assert [(call[0].topic, len(call)) for call in calls] == [("even", 100), ("even", 25), ("odd", 100), ("odd", 25)]
    large = [row(number, size=400_000) for number in range(5)]
    assert [len(call) for call in table_relay._calls(large)] == [2, 1, 2]
    assert [len(call) for call in table_relay._calls([row(1, size=3_000_000)])] == [1]


@pytest.mark.parametrize(
    ("failed", "went", "blamed"),
    [
        ([AWAY, AWAY], 0, []),
        ([AWAY, AWAY], 1, []),
        ([AWAY], 1, [0]),
        ([AWAY, AWAY], 50, [0, 1]),
        ([REFUSED], 0, [0]),
        ([AWAY, REFUSED, AWAY], 0, [1]),
        ([AWAY, REFUSED], 1, [0, 1]),
    ],
)
def test_a_row_is_blamed_only_while_the_broker_takes_the_rest(
    failed: list[SidecarError], went: int, blamed: list[int]
) -> None:
    assert list(table_relay._own_failures(dict(enumerate(failed)), went)) == blamed


@parametrized(ANYWHERE | SQLITE)
async def test_a_write_that_sqlite_refuses_is_a_dead_letter_immediately(write: Write, tmp_path: Path) -> None:
    await check_refused(f"sqlite:///{tmp_path}/shop.db", write)


async def test_a_key_that_another_unit_of_work_has_just_inserted_is_looked_for_again(tmp_path: Path) -> None:
    await check_race(f"sqlite:///{tmp_path}/shop.db")
