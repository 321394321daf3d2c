"""Replays, step by step.

Each step is one transaction: the events of the step stand in the outbox, and the place that the replay has reached is
moved on, together. After a crash the next step goes on from there: what was in the outbox and not yet acknowledged
may go out twice, under the same id, and the consumer's inbox drops the second.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from archive import auditing, consumers
from archive.commands import ContinueReplay
from archive.domain.replaying import State, addressed, pace, replay_topic
from archive.domain.selection import Kind, Selection, SelectionError
from archive.events import ReplayCompleted, ReplayEvents
from archive.searching import counts, matching, moment, opened
from archive.settings import settings
from archive.tables import events, replay_filters, replays
from tidings.context import Outgoing
from tidings.outbox.table import SqlContext
from tidings.resources import matching as filtering
from tidings.resources.subscription import Filter

EVERY_SUBSCRIPTION = "*"
_PAGE = 500
_MOST_LOOKED_AT = 5000  # events in one step, of which few may match
_VISIBLE = 1.0  # seconds until PostgreSQL shows a row in its place: an earlier one may still be under way


class ReplayError(Exception):
    """What was asked for cannot be replayed."""


class UnknownReplay(ReplayError):
    """There is no replay of that id."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A replay as somebody asked for it."""

    request: ReplayEvents
    by: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a replay is about: what the database finds, and of that what matches."""

    selection: Selection
    filters: tuple[Filter, ...] = ()

    @property
    def conditions(self) -> list[sa.ColumnElement[bool]]:
        """Each fact once, in its newest version, unless a version is named; nothing that could not be read.

        All versions of a fact have one id: a broker that drops duplicates by id would let only the first through.
        """
        return [*matching(self.selection, newest=True), events.c.type != ""]

    def takes(self, body: str) -> bool:
        """Whether an event matches the filters."""
        return filtering.matches(self.filters, opened(body))


def check(request: ReplayEvents) -> Wanted:
    """What a replay is about.

    Raises:
        ReplayError: No such consumer, no such type, no time between since and until, or a filter that is none.

    """
    known = consumers.known()
    if known and request.consumer not in known:
        raise ReplayError(f"{request.consumer} reads no events: there are {', '.join(sorted(known))}")
    try:
        kinds = tuple(Kind.parse(text) for text in request.types)
        selection = Selection(kinds, request.since, request.until, request.correlation_id, ids=request.ids)
        filters = msgspec.convert(request.match, tuple[Filter, ...])
    except (SelectionError, msgspec.ValidationError) as error:
        raise ReplayError(str(error)) from error
    if filtering.has_cel(filters):
        raise ReplayError("match: the archive reads no CEL; write exact, prefix, suffix, all, any or not")
    return Wanted(selection, filters)


async def preview(connection: AsyncConnection, request: ReplayEvents) -> dict[str, int]:
    """How many events a replay would send, by type and version.

    Raises:
        ReplayError: It cannot be replayed.

    """
    return await _counted(connection, check(request))


async def begin(asked: Asked, context: SqlContext) -> dict[str, Any]:
    """Start a replay; one of that id that there is already goes on as it is.

    Raises:
        ReplayError: It cannot be replayed.

    """
    request, connection = asked.request, context.connection
    if (there := await _row(connection, request.replay_id)) is not None:
        return shown(there)
    matched = await _counted(connection, check(request))
    until = min(context.now, request.until) if request.until else context.now
    row = {
        "id": request.replay_id,
        "consumer": request.consumer,
        "subscription": request.subscription or EVERY_SUBSCRIPTION,
        "types": list(request.types),
        "since": request.since.isoformat() if request.since else "",
        "until": request.until.isoformat() if request.until else "",
        "correlation_id": request.correlation_id or "",
        "rate": min(request.rate_per_second or settings().replay_rate, settings().replay_rate),
        "state": "running",
        "matched": sum(matched.values()),
        "closes": max((until + settings().settle).timestamp(), context.now.timestamp()),
        "requested": context.now.timestamp(),
        "requested_by": asked.by,
    }
    await connection.execute(sa.insert(replays), row)
    if request.ids or request.match:
        given = {"id": request.replay_id, "ids": list(request.ids), "match": list(request.match)}
        await connection.execute(sa.insert(replay_filters), given)
    detail = f"{row['matched']} events to {row['consumer']} {row['subscription']}"
    await auditing.note(connection, context.now, asked.by, "replay", f"replay/{request.replay_id}", detail)
    context.schedule(ContinueReplay(replay_id=request.replay_id))
    return shown(await _known(connection, request.replay_id))


async def go_on(step: ContinueReplay, context: SqlContext) -> None:
    """Send the next events of a replay, or end it."""
    row = await _row(context.connection, step.replay_id, lock=True)
    if row is None or row["state"] != "running":
        return
    speed = pace(row["rate"])
    # What arrived just now may yet be preceded by a row that is being committed.
    shows = context.now.timestamp() - (_VISIBLE if context.connection.dialect.name == "postgresql" else 0.0)
    bodies, reached = await _next(context.connection, row, min(shows, row["closes"]), speed.events)
    for each in bodies:
        event = addressed(each, row["subscription"])
        context.outgoing.append(Outgoing(replay_topic(row["consumer"]), msgspec.Raw(event)))
    if reached > row["reached"]:
        await _change(context, row, sent=row["sent"] + len(bodies), reached=reached)
    elif shows >= row["closes"]:
        await _complete(context, row)
        return
    context.schedule(step, after=speed.pause)


async def cancel(asked: tuple[str, str], context: SqlContext) -> dict[str, Any]:
    """End a replay, given its id and who wants that; one that has ended stays as it is.

    Raises:
        UnknownReplay: There is none of that id.

    """
    identity, by = asked
    row = await _known(context.connection, identity, lock=True)
    if row["state"] == "running":
        await _end(context, row, "cancelled")
        detail = f"after {row['sent']} of {row['matched']} events"
        await auditing.note(context.connection, context.now, by, "cancel", f"replay/{identity}", detail)
    return shown(await _known(context.connection, identity))


async def one(connection: AsyncConnection, identity: str) -> dict[str, Any]:
    """How far a replay is.

    Raises:
        UnknownReplay: There is none of that id.

    """
    return shown(await _known(connection, identity))


async def latest(connection: AsyncConnection, limit: int) -> list[dict[str, Any]]:
    """The latest replays, the latest first."""
    wanted = sa.select(replays).order_by(replays.c.requested.desc()).limit(limit)
    return [shown(row) for row in (await connection.execute(wanted)).mappings()]


async def _counted(connection: AsyncConnection, wanted: Wanted) -> dict[str, int]:
    """How many events there are, by type and version; with filters, each is looked at."""
    if not wanted.filters:
        return await counts(connection, *wanted.conditions)
    found: Counter[str] = Counter()
    reached = 0
    while page := await _page(connection, wanted, reached, _PAGE):
        found.update(f"{each['type']}.v{each['version']}" for each in page if wanted.takes(each["body"]))
        reached = page[-1]["seq"]
    return dict(sorted(found.items()))


async def _next(connection: AsyncConnection, row: sa.RowMapping, until: float, limit: int) -> tuple[list[str], int]:
    """The next events that match, at most so many, and how far was looked."""
    wanted = await _remembered(connection, row)
    found: list[str] = []
    reached, looked_at = row["reached"], 0
    while looked_at < _MOST_LOOKED_AT:
        page = await _page(connection, wanted, reached, _PAGE if wanted.filters else limit, events.c.received <= until)
        for each in page:
            reached = each["seq"]
            if wanted.takes(each["body"]):
                found.append(each["body"])
            if len(found) == limit:
                return found, reached
        looked_at += len(page)
        if len(page) < _PAGE:
            break
    return found, reached


async def _page(
    connection: AsyncConnection, wanted: Wanted, after: int, limit: int, *more: sa.ColumnElement[bool]
) -> list[sa.RowMapping]:
    following = (
        sa.select(events.c.seq, events.c.type, events.c.version, events.c.body)
        .where(*wanted.conditions, *more, events.c.seq > after)
        .order_by(events.c.seq)
        .limit(limit)
    )
    return list((await connection.execute(following)).mappings())


async def _remembered(connection: AsyncConnection, row: sa.RowMapping) -> Wanted:
    query = sa.select(replay_filters).where(replay_filters.c.id == row["id"])
    given = (await connection.execute(query)).mappings().one_or_none()
    selection = Selection(
        kinds=tuple(Kind.parse(text) for text in row["types"]),
        since=datetime.fromisoformat(row["since"]) if row["since"] else None,
        until=datetime.fromisoformat(row["until"]) if row["until"] else None,
        correlation_id=row["correlation_id"] or None,
        ids=tuple(given["ids"]) if given else (),
    )
    return Wanted(selection, msgspec.convert(given["match"], tuple[Filter, ...]) if given else ())


async def _complete(context: SqlContext, row: sa.RowMapping) -> None:
    await _end(context, row, "completed")
    context.publish(
        ReplayCompleted(replay_id=row["id"], consumer=row["consumer"], count=row["sent"], completed_at=context.now)
    )
    detail = f"{row['sent']} events sent to {row['consumer']}"
    await auditing.note(context.connection, context.now, "archive", "completed", f"replay/{row['id']}", detail)


async def _end(context: SqlContext, row: sa.RowMapping, state: State) -> None:
    await _change(context, row, state=state, ended=context.now.timestamp())


async def _change(context: SqlContext, row: sa.RowMapping, **values: object) -> None:
    await context.connection.execute(sa.update(replays).where(replays.c.id == row["id"]).values(**values))


async def _row(connection: AsyncConnection, identity: str, *, lock: bool = False) -> sa.RowMapping | None:
    wanted = sa.select(replays).where(replays.c.id == identity)
    found = await connection.execute(wanted.with_for_update() if lock else wanted)
    return found.mappings().one_or_none()


async def _known(connection: AsyncConnection, identity: str, *, lock: bool = False) -> sa.RowMapping:
    row = await _row(connection, identity, lock=lock)
    if row is None:
        raise UnknownReplay(f"there is no replay {identity}")
    return row


def shown(row: sa.RowMapping) -> dict[str, Any]:
    """A replay as the API shows it."""
    return {
        "replayId": row["id"],
        "state": row["state"],
        "consumer": row["consumer"],
        "subscription": row["subscription"],
        "types": row["types"],
        "since": row["since"] or None,
        "until": row["until"] or None,
        "correlationId": row["correlation_id"] or None,
        "ratePerSecond": row["rate"],
        "matched": row["matched"],
        "sent": row["sent"],
        "requestedAt": moment(row["requested"]),
        "requestedBy": row["requested_by"],
        "endedAt": moment(row["ended"]) if row["ended"] is not None else None,
    }
