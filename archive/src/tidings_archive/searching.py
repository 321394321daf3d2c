"""Finds archived events."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from tidings.messages.envelope import MAX_DEPTH, UNREADABLE
from tidings_archive.domain.selection import Kind, Selection
from tidings_archive.storing import delivered
from tidings_archive.tables import events


@dataclass(frozen=True, slots=True)
class Page:
    """Some events, and where the next page begins; None where there is none."""

    events: list[dict[str, Any]]
    next: int | None


def matching(selection: Selection, *, newest: bool = False) -> list[sa.ColumnElement[bool]]:
    """The conditions of a selection; with `newest` only the newest version of a fact, unless a version is named."""
    found = [
        column == value
        for column, value in (
            (events.c.correlation_id, selection.correlation_id),
            (events.c.subject, selection.subject),
            (events.c.source, selection.source),
            (events.c.topic, selection.topic),
        )
        if value is not None
    ]
    if selection.kinds or newest:
        found.append(sa.or_(*(of_kind(kind, newest) for kind in selection.kinds or [Kind("", below=True)])))
    if selection.since:
        found.append(events.c.happened >= selection.since.timestamp())
    if selection.until:
        found.append(events.c.happened < selection.until.timestamp())
    if selection.ids:
        found.append(events.c.id.in_(selection.ids))
    if selection.text:
        found.append(events.c.body.icontains(selection.text, autoescape=True))
    return found


def of_kind(kind: Kind, newest: bool) -> sa.ColumnElement[bool]:
    """Return the condition that an event is of a type, a version or a domain."""
    if kind.version is not None:
        return sa.and_(events.c.type == kind.name, events.c.version == kind.version)
    named = events.c.type == kind.name
    if kind.below:
        named = events.c.type.startswith(f"{kind.name}.", autoescape=True) if kind.name else sa.true()
    return sa.and_(named, ~_NEWER) if newest else named


_newer = events.alias("newer")
_NEWER = sa.exists().where(
    _newer.c.id == events.c.id,
    _newer.c.source == events.c.source,
    _newer.c.type == events.c.type,
    _newer.c.version > events.c.version,
)


async def search(connection: AsyncConnection, selection: Selection, limit: int, before: int | None) -> Page:
    """The latest events of a selection, the latest first, or those that arrived before a place."""
    wanted = sa.select(events).where(*matching(selection)).order_by(events.c.seq.desc()).limit(limit + 1)
    if before is not None:
        wanted = wanted.where(events.c.seq < before)
    rows = (await connection.execute(wanted)).mappings().all()
    following = rows[limit - 1]["seq"] if len(rows) > limit else None
    return Page([shown(row) for row in rows[:limit]], following)


async def versions_of(connection: AsyncConnection, identity: str) -> list[dict[str, Any]]:
    """Everything under one id: a fact in each version that it was published in."""
    wanted = sa.select(events).where(events.c.id == identity).order_by(events.c.version, events.c.seq)
    return [shown(row) for row in (await connection.execute(wanted)).mappings()]


async def counts(connection: AsyncConnection, *conditions: sa.ColumnElement[bool]) -> dict[str, int]:
    """How many events there are, by type and version."""
    wanted = (
        sa.select(events.c.type, events.c.version, sa.func.count())
        .where(*conditions)
        .group_by(events.c.type, events.c.version)
        .order_by(events.c.type, events.c.version)
    )
    return {f"{kind}.v{version}": count for kind, version, count in await connection.execute(wanted)}


def shown(row: sa.RowMapping) -> dict[str, Any]:
    """An event as the API shows it: its own attributes and data, where it was read, and when."""
    return {**opened(delivered(row)), "topic": row["topic"], "receivedAt": moment(row["received"])}


def opened(body: bytes) -> dict[str, Any]:
    """An event's attributes; what is no JSON object, or nested too deep to be answered, stands under `raw` as text."""
    try:
        found = msgspec.json.decode(body)
    except UNREADABLE:
        found = None
    return found if isinstance(found, dict) and _is_shallow(found) else {"raw": body.decode(errors="replace")}


def _is_shallow(value: object) -> bool:
    layer = [value]
    for _ in range(MAX_DEPTH):
        layer = [child for each in layer for child in _children(each)]
        if not layer:
            return True
    return False


def _children(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def moment(seconds: float) -> str:
    """Write a moment as RFC 3339."""
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
