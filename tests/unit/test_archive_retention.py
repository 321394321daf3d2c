"""Retention of archived events by type."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from pydantic import ValidationError

from tidings.outbox.sql import Database
from tidings_archive import migrations, retention
from tidings_archive.settings import ArchiveSettings
from tidings_archive.tables import events

NOW = datetime(2026, 11, 29, tzinfo=UTC)
RULES = {"*": 90.0, "orders.*": 365.0, "orders.orderPlaced": 10.0, "orders.orderPlaced.v2": 1.0}


def _row(key: str, kind: str, days: float, version: int = 1) -> dict[str, object]:
    texts = dict.fromkeys(("topic", "source", "subject", "correlation_id", "body"), "")
    received = (NOW - timedelta(days=days)).timestamp()
    return {
        **texts,
        "key": key,
        "id": key,
        "type": kind,
        "version": version,
        "happened": received,
        "received": received,
    }


async def test_the_most_specific_rule_applies(tmp_path: Path) -> None:
    rows = [
        _row("menu-old", "menu.recipePublished", 91),
        _row("menu-new", "menu.recipePublished", 89),
        _row("order-kept", "orders.orderConfirmed", 100),
        _row("order-old", "orders.orderConfirmed", 366),
        _row("placed-old", "orders.orderPlaced", 11),
        _row("placed-new", "orders.orderPlaced", 9),
        _row("placed-v2-old", "orders.orderPlaced", 2, version=2),
    ]
    database = Database(f"sqlite:///{tmp_path / 'archive.db'}")
    await database.create(migrations.upgrade)
    async with database.transaction() as connection:
        await connection.execute(sa.insert(events), rows)
        assert await retention.delete_expired(connection, RULES, NOW) == 4
    async with database.connect(write=False) as connection:
        kept = (await connection.execute(sa.select(events.c.key).order_by(events.c.seq))).scalars().all()
    assert kept == ["menu-new", "order-kept", "placed-new"]
    await database.close()


async def test_a_batch_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH", 2)
    database = Database(f"sqlite:///{tmp_path / 'archive.db'}")
    await database.create(migrations.upgrade)
    async with database.transaction() as connection:
        await connection.execute(sa.insert(events), [_row(str(number), "a.b", 100) for number in range(3)])
        assert await retention.delete_expired(connection, {"*": 90.0}, NOW) == 2
        assert await retention.delete_expired(connection, {"*": 90.0}, NOW) == 1
        assert await retention.delete_expired(connection, {"b.*": 90.0}, NOW) == 0
    await database.close()


def test_rules_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHIVE_RETENTION", "orders.*=365, *=90")
    assert ArchiveSettings().retention == {"orders.*": 365.0, "*": 90.0}


@pytest.mark.parametrize("text", ["orders.*", "Orders=1", "*=0", "*=-1", "*=many", "*=nan", "*=1e9"])
def test_a_wrong_rule_is_named(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHIVE_RETENTION", text)
    with pytest.raises(ValidationError, match="ARCHIVE_RETENTION"):
        ArchiveSettings()
