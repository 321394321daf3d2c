"""Audit log. An entry is written in the same transaction as the action that it describes."""

from collections.abc import Iterable
from datetime import UTC, datetime

import sqlalchemy as sa
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncConnection

from tidings_archive.storage import sanitize
from tidings_archive.tables import audit


class AuditEntry(BaseModel):
    """One entry of the audit log."""

    at: datetime
    who: str
    action: str
    target: str
    detail: str


async def record(connection: AsyncConnection, now: datetime, who: str, action: str, target: str, detail: str) -> None:
    """Append an entry."""
    await record_all(connection, now, who, action, [(target, detail)])


async def record_all(
    connection: AsyncConnection, now: datetime, who: str, action: str, entries: Iterable[tuple[str, str]]
) -> None:
    """Append an entry for each target and its detail."""
    rows = [
        {"who": sanitize(who), "action": sanitize(action), "target": sanitize(target), "detail": sanitize(detail)}
        for target, detail in entries
    ]
    await connection.execute(sa.insert(audit), [{"at": now.timestamp(), **row} for row in rows])


async def list_entries(
    connection: AsyncConnection,
    target: str | None = None,
    limit: int = 100,
    *,
    action: str | None = None,
    who: str | None = None,
) -> list[AuditEntry]:
    """Return the latest entries, newest first, optionally of one target, action or user."""
    query = sa.select(audit).order_by(audit.c.seq.desc()).limit(limit)
    for column, value in ((audit.c.target, target), (audit.c.action, action), (audit.c.who, who)):
        if value is not None:
            query = query.where(column == value)
    return [
        AuditEntry(
            at=datetime.fromtimestamp(row.at, UTC), who=row.who, action=row.action, target=row.target, detail=row.detail
        )
        for row in await connection.execute(query)
    ]
