"""Queries for archived events."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from tidings.errors import MalformedEvent
from tidings.messages import personal
from tidings.messages.envelope import MAX_DEPTH, UNREADABLE, decode
from tidings_archive import fulltext
from tidings_archive.domain.selection import Selection, TypePattern
from tidings_archive.storage import MAX_NUMBER, original_body
from tidings_archive.tables import INDEXED, READABLE, events

_MOST_KINDS = 400
"""Types and versions that are looked up one by one. SQLite takes at most 500 parts of a query."""


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
            (events.c.source, _shortened(selection.source)),
            (events.c.topic, _shortened(selection.topic)),
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
    return conditions


def all_conditions_for(selection: Selection, dialect: str) -> list[sa.ColumnElement[bool]]:
    """Return the SQL conditions of a selection, with those of its text."""
    text = [fulltext.containing(fulltext.words(selection.text), dialect)[0]] if selection.text else []
    return [*conditions_for(selection), *text]


def _shortened(text: str | None) -> str | None:
    """Return a source or topic as the archive stores it."""
    return None if text is None else text[:INDEXED]


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
    """Return the latest events of a selection in the order of arrival, or those that arrived before a place."""
    low, high = await _bounds(connection, selection)
    high = high if before is None else min(high, before - 1)
    number: sa.ColumnElement[int] = events.c.seq
    # The index of types is the best one if no other condition selects fewer events.
    narrower = any((selection.text, selection.correlation_id, selection.subject, selection.ids))
    kinds = await _kinds(connection) if selection.patterns and not narrower else None
    if kinds is not None:
        taken = [kind for kind in kinds if any(pattern.matches(*kind) for pattern in selection.patterns)]
        latest = _latest_by_type(taken, selection, limit + 1, (low, high))
        query = sa.select(*READABLE).where(events.c.seq.in_(latest))
    elif selection.text:
        query, number = _with_words(selection, connection.dialect.name)
        query = query.where(number.between(low, high))
    else:
        query = sa.select(*READABLE).where(*conditions_for(selection), number.between(low, high))
    page = query.order_by(number.desc()).limit(limit + 1)
    rows = (await connection.execute(page)).mappings().all()
    following = rows[limit - 1]["seq"] if len(rows) > limit else None
    return Page([to_json(row) for row in rows[:limit]], following)


async def _bounds(connection: AsyncConnection, selection: Selection) -> tuple[int, int]:
    """Return the first and the last number of the events between two times, so that pages need not read past others."""
    if selection.since is None and selection.until is None:
        return 0, MAX_NUMBER
    times = Selection(since=selection.since, until=selection.until)
    # The sum keeps PostgreSQL from reading the rows in their order until one happened at the right time.
    number = events.c.seq + 0
    result = await connection.execute(sa.select(sa.func.min(number), sa.func.max(number)).where(*conditions_for(times)))
    low, high = result.one()
    return (1, 0) if low is None else (low, high)


def _with_words(selection: Selection, dialect: str) -> tuple[sa.Select[Any], sa.ColumnElement[int]]:
    """Return the query for a text. The words of the other conditions are in the index as well: see `recording`."""
    kinds = (
        [pattern.name for pattern in selection.patterns if not pattern.wildcard] if len(selection.patterns) == 1 else []
    )
    exact = (selection.correlation_id, selection.subject, selection.source, selection.topic, *kinds)
    terms = fulltext.words(selection.text or "", *filter(None, exact))
    has_words, number = fulltext.containing(terms, dialect)
    return sa.select(*READABLE).where(has_words, *conditions_for(selection)), number


async def _kinds(connection: AsyncConnection) -> list[tuple[str, int]] | None:
    """Return the types and versions that are stored, one step in the index for each; None if there are too many."""
    place = (events.c.type, events.c.version)
    first = sa.select(events.c.seq).order_by(*place).limit(1)
    visited = sa.select(first.scalar_subquery().label("seq")).cte("kinds", recursive=True)
    last = events.alias("last")
    # SQLite would use only the type for (type, version) > (…), and read all events of the type.
    newer = sa.and_(events.c.type == last.c.type, events.c.version > last.c.version)
    ways = [
        sa.select(events.c.seq).where(following).order_by(*place).limit(1).correlate(last).scalar_subquery()
        for following in (newer, events.c.type > last.c.type)
    ]
    step = sa.select(sa.func.coalesce(*ways)).select_from(last).where(last.c.seq == visited.c.seq)
    visited = visited.union_all(step)
    pairs = sa.select(*place).where(events.c.seq == visited.c.seq).limit(_MOST_KINDS + 1)
    kinds = [(row.type, row.version) for row in await connection.execute(pairs)]
    return kinds if len(kinds) <= _MOST_KINDS else None


def _latest_by_type(
    kinds: list[tuple[str, int]], selection: Selection, limit: int, bounds: tuple[int, int]
) -> sa.Select[Any] | sa.ScalarSelect[Any]:
    """Return the query for the latest events of each type and version: each branch reads one part of the index."""
    seq = events.c.seq
    conditions = conditions_for(dataclasses.replace(selection, patterns=()))
    branches = [
        sa.select(
            sa.select(seq)
            .where(events.c.type == name, events.c.version == version, seq.between(*bounds), *conditions)
            .order_by(seq.desc())
            .limit(limit)
            .subquery()
        )
        for name, version in kinds
    ]
    return sa.select(sa.union_all(*branches).subquery()) if branches else sa.select(seq).where(sa.false())


async def find_versions(connection: AsyncConnection, identity: str) -> Sequence[sa.RowMapping]:
    """Return the rows of an event in every version in which it was published, for `to_json`."""
    query = sa.select(*READABLE).where(events.c.id == identity).order_by(events.c.version, events.c.seq)
    return (await connection.execute(query)).mappings().all()


async def count_by_type(connection: AsyncConnection, *conditions: sa.ColumnElement[bool]) -> dict[str, int]:
    """Count events by type and version."""
    query = (
        sa.select(events.c.type, events.c.version, sa.func.count())
        .where(*conditions)
        .group_by(events.c.type, events.c.version)
        .order_by(events.c.type, events.c.version)
    )
    return {f"{kind}.v{version}": count for kind, version, count in await connection.execute(query)}


def to_json(row: sa.RowMapping, *, decrypted: bool = False) -> dict[str, Any]:
    """Return an event for the API: its attributes and data, its topic and its time of arrival.

    With `decrypted`, personal data is in plain text, and `***` if the person was forgotten.
    """
    body = original_body(row)
    if decrypted:
        body = _decrypted(body)
    return {**parse_body(body), "topic": row["topic"], "receivedAt": format_time(row["received"])}


def _decrypted(body: bytes) -> bytes:
    try:
        data = personal.decrypt(decode(body))
    except MalformedEvent:  # shown as it is stored
        return body
    attributes = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    return msgspec.json.encode({**attributes, "data": msgspec.Raw(data)}) if "data" in attributes else body


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
        parents = [parent for parent in layer if isinstance(parent, dict | list)]
        layer = [child for parent in parents for child in (parent.values() if isinstance(parent, dict) else parent)]
        if not layer:
            return True
    return False


def format_time(seconds: float) -> str:
    """Format seconds since 1970 as an RFC 3339 time."""
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
