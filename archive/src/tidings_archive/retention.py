"""Deletes archived events older than `ARCHIVE_RETENTION` allows for their type."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from tidings.outbox.sql import Database
from tidings_archive.domain.selection import TypePattern
from tidings_archive.event_queries import pattern_condition
from tidings_archive.tables import events

log = structlog.get_logger(__name__)

BATCH = 1000
"""Largest number of events deleted in one transaction, which blocks other writers."""
SOON, HOUR = 0.1, 3600.0
"""Seconds until the next batch, and until the next check."""
_LOCK = 0x72657461  # id of an advisory lock of PostgreSQL


async def run(database: Database, rules: Mapping[str, float]) -> None:
    """Delete expired events in batches, and check again every hour."""
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
    """Return the condition of each rule: events that it applies to and that have expired."""
    conditions: list[sa.ColumnElement[bool]] = []
    specific: list[sa.ColumnElement[bool]] = []
    for pattern, days in sorted(rules.items(), key=lambda rule: _specificity(rule[0]), reverse=True):
        applies = pattern_condition(TypePattern.parse(pattern), newest=False)
        before = (now - timedelta(days=days)).timestamp()
        conditions.append(sa.and_(events.c.received < before, applies, *(~condition for condition in specific)))
        specific.append(applies)
    return conditions


def _specificity(pattern: str) -> tuple[bool, bool, int]:
    """Rank a pattern: one version before a type, a type before a domain, a longer domain before a shorter one."""
    parsed = TypePattern.parse(pattern)
    return parsed.version is not None, not parsed.wildcard, len(parsed.name)
