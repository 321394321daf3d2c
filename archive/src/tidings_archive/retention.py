"""Deletes archived events after the time that `ARCHIVE_RETENTION` sets for their type."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from tidings.outbox.sql import Database
from tidings_archive.domain.selection import Kind
from tidings_archive.searching import of_kind
from tidings_archive.tables import events

log = structlog.get_logger(__name__)

BATCH = 1000
"""Events that one transaction deletes: others that write wait for it."""
SOON, HOUR = 0.1, 3600.0
"""Seconds until the next batch, and until the next look."""
_LOCK = 0x72657461  # id of an advisory lock of PostgreSQL


async def run(database: Database, rules: Mapping[str, float]) -> None:
    """Delete expired events, batch by batch, and look again every hour."""
    while rules:
        async with database.transaction() as connection:
            deleted = await delete_expired(connection, rules, datetime.now(UTC))
        if deleted:
            log.info("retention.events_deleted", count=deleted)
        await asyncio.sleep(SOON if deleted == BATCH else HOUR)


async def delete_expired(connection: AsyncConnection, rules: Mapping[str, float], now: datetime) -> int:
    """Delete at most one batch of expired events; return how many."""
    if connection.dialect.name == "postgresql":
        # Several replicas would select the same rows and wait for each other.
        await connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
    deleted = 0
    for condition in expired(rules, now):
        oldest = sa.select(events.c.seq).where(condition).order_by(events.c.received).limit(BATCH - deleted)
        result = await connection.execute(sa.delete(events).where(events.c.seq.in_(oldest)))
        deleted += result.rowcount
        if deleted >= BATCH:
            break
    return deleted


def expired(rules: Mapping[str, float], now: datetime) -> list[sa.ColumnElement[bool]]:
    """Return a condition per rule: events that it applies to, and that arrived too long ago."""
    found: list[sa.ColumnElement[bool]] = []
    specific: list[sa.ColumnElement[bool]] = []
    for pattern, days in sorted(rules.items(), key=lambda rule: _specificity(rule[0]), reverse=True):
        applies = of_kind(Kind.parse(pattern), newest=False)
        before = (now - timedelta(days=days)).timestamp()
        found.append(sa.and_(events.c.received < before, applies, *(~other for other in specific)))
        specific.append(applies)
    return found


def _specificity(pattern: str) -> tuple[bool, bool, int]:
    """Rank a pattern: one version before a type, a type before a domain, a longer domain before a shorter one."""
    kind = Kind.parse(pattern)
    return kind.version is not None, not kind.below, len(kind.name)
