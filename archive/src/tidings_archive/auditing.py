"""Who did what, when: written in the transaction of the deed itself."""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncConnection

from tidings_archive.storing import storable
from tidings_archive.tables import audit


class Deed(BaseModel):
    """One line of the audit."""

    at: datetime
    who: str
    action: str
    target: str
    detail: str


async def note(connection: AsyncConnection, now: datetime, who: str, action: str, target: str, detail: str) -> None:
    """Write a deed down."""
    texts = {"who": who, "action": action, "target": target, "detail": detail}
    row = {"at": now.timestamp(), **{name: storable(text) for name, text in texts.items()}}
    await connection.execute(sa.insert(audit), row)


async def deeds(
    connection: AsyncConnection, target: str | None = None, limit: int = 100, *, action: str | None = None
) -> list[Deed]:
    """Return the latest deeds, of one target or of all, of one action or of all, the latest first."""
    wanted = sa.select(audit).order_by(audit.c.seq.desc()).limit(limit)
    if action is not None:
        wanted = wanted.where(audit.c.action == action)
    if target is not None:
        wanted = wanted.where(audit.c.target == target)
    return [
        Deed(
            at=datetime.fromtimestamp(row.at, UTC), who=row.who, action=row.action, target=row.target, detail=row.detail
        )
        for row in await connection.execute(wanted)
    ]
