"""Queries for archived events."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from tidings.messages.envelope import MAX_DEPTH, UNREADABLE
from tidings_archive.domain.selection import Selection, TypePattern
from tidings_archive.storage import original_body
from tidings_archive.tables import events


@dataclass(frozen=True, slots=True)
class Page:
    """A page of events, and the cursor of the next page, or None on the last."""

    events: list[dict[str, Any]]
    next: int | None


def conditions_for(selection: Selection, *, newest: bool = False) -> list[sa.ColumnElement[bool]]:
    """Return the SQL conditions of a selection.

    With `newest`, only the newest version of each event matches, unless the selection names a version.
    """
    conditions = [
        column == value
        for column, value in (
            (events.c.correlation_id, selection.correlation_id),
            (events.c.subject, selection.subject),
            (events.c.source, selection.source),
            (events.c.topic, selection.topic),
        )
        if value is not None
    ]
    if selection.patterns or newest:
        patterns = selection.patterns or [TypePattern("", wildcard=True)]
        conditions.append(sa.or_(*(pattern_condition(pattern, newest) for pattern in patterns)))
    if selection.since:
        conditions.append(events.c.happened >= selection.since.timestamp())
    if selection.until:
        conditions.append(events.c.happened < selection.until.timestamp())
    if selection.ids:
        conditions.append(events.c.id.in_(selection.ids))
    if selection.text:
        conditions.append(events.c.body.icontains(selection.text, autoescape=True))
    return conditions


def pattern_condition(pattern: TypePattern, newest: bool) -> sa.ColumnElement[bool]:
    """Return the SQL condition of a type pattern."""
    if pattern.version is not None:
        return sa.and_(events.c.type == pattern.name, events.c.version == pattern.version)
    condition = events.c.type == pattern.name
    if pattern.wildcard:
        condition = events.c.type.startswith(f"{pattern.name}.", autoescape=True) if pattern.name else sa.true()
    return sa.and_(condition, ~_NEWER) if newest else condition


_newer = events.alias("newer")
_NEWER = sa.exists().where(
    _newer.c.id == events.c.id,
    _newer.c.source == events.c.source,
    _newer.c.type == events.c.type,
    _newer.c.version > events.c.version,
)


async def search(connection: AsyncConnection, selection: Selection, limit: int, before: int | None) -> Page:
    """Return a page of the selected events, newest first; `before` is the cursor of the page."""
    query = sa.select(events).where(*conditions_for(selection)).order_by(events.c.seq.desc()).limit(limit + 1)
    if before is not None:
        query = query.where(events.c.seq < before)
    rows = (await connection.execute(query)).mappings().all()
    following = rows[limit - 1]["seq"] if len(rows) > limit else None
    return Page([to_json(row) for row in rows[:limit]], following)


async def find_versions(connection: AsyncConnection, identity: str) -> list[dict[str, Any]]:
    """Return an event in every version in which it was published."""
    query = sa.select(events).where(events.c.id == identity).order_by(events.c.version, events.c.seq)
    return [to_json(row) for row in (await connection.execute(query)).mappings()]


async def count_by_type(connection: AsyncConnection, *conditions: sa.ColumnElement[bool]) -> dict[str, int]:
    """Count events by type and version."""
    query = (
        sa.select(events.c.type, events.c.version, sa.func.count())
        .where(*conditions)
        .group_by(events.c.type, events.c.version)
        .order_by(events.c.type, events.c.version)
    )
    return {f"{kind}.v{version}": count for kind, version, count in await connection.execute(query)}


def to_json(row: sa.RowMapping) -> dict[str, Any]:
    """Return an event for the API: its attributes and data, its topic and its time of arrival."""
    return {**parse_body(original_body(row)), "topic": row["topic"], "receivedAt": format_time(row["received"])}


def parse_body(body: bytes) -> dict[str, Any]:
    """Parse an event. A body that is not a JSON object or is nested too deeply is returned as text under `raw`."""
    try:
        event = msgspec.json.decode(body)
    except UNREADABLE:
        event = None
    return event if isinstance(event, dict) and _is_shallow(event) else {"raw": body.decode(errors="replace")}


def _is_shallow(value: object) -> bool:
    layer = [value]
    for _ in range(MAX_DEPTH):
        layer = [child for parent in layer for child in _children(parent)]
        if not layer:
            return True
    return False


def _children(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def format_time(seconds: float) -> str:
    """Format seconds since 1970 as an RFC 3339 time."""
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
