"""Replays, step by step.

Each step is one transaction: the events of the step stand in the outbox, and the place that the replay has reached is
moved on, together. After a crash the next step goes on from there: what was in the outbox and not yet acknowledged
may go out twice, under the same id, and the consumer's inbox drops the second.

No clock decides which events belong to a replay: after `ARCHIVE_REPLAY_SETTLE` the number of the latest arrival is
written down, and the replay ends there.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import msgspec
import sqlalchemy as sa
import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from tidings import Settings
from tidings.context import Outgoing
from tidings.errors import SidecarError, StateRefused
from tidings.messages.events import encode
from tidings.outbox import sql
from tidings.outbox.table import SqlContext
from tidings_archive import auditing, consumers
from tidings_archive.addressing import Address, addressed
from tidings_archive.commands import CloseReplay, ContinueReplay
from tidings_archive.deadletters import OUTCOMES, UNCONFIRMED
from tidings_archive.domain.replaying import LOWEST_RATE, TICK, Ended, pace, replay_topic
from tidings_archive.domain.selection import Kind, Selection, SelectionError
from tidings_archive.events import ReplayCompleted, ReplayEvents
from tidings_archive.keeping import last_arrival
from tidings_archive.searching import counts, matching, moment, opened
from tidings_archive.settings import settings
from tidings_archive.storing import delivered, storable
from tidings_archive.tables import events, replays
from tidings_plan.resources import matching as filtering
from tidings_plan.resources.subscription import Filter

log = structlog.get_logger(__name__)

EVERY_SUBSCRIPTION = "*"
_PAGE = 500
_stored = msgspec.json.Decoder(ReplayEvents)
_MOST_LOOKED_AT = 5000  # events in one step, of which few may match
IDLE = timedelta(seconds=TICK)
_LONGEST_SHOWN = 250  # characters of an event's id beside the reason for which it was skipped
_MOST_SHOWN = 100  # skipped events of a replay that are written down one by one
_READ = [events.c[name] for name in ("seq", "id", "type", "version", "body", "raw")]
LONGEST_ID = 100
_NAME = re.compile(rf"[^\s\x00-\x1f\x7f-\x9f]{{1,{LONGEST_ID}}}")


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

    def takes(self, body: bytes) -> bool:
        """Whether an event matches the filters."""
        return not self.filters or filtering.matches(self.filters, opened(body))


def check(request: ReplayEvents) -> Wanted:
    """What a replay is about.

    Raises:
        ReplayError: No such consumer, no such type, no time between since and until, or a filter that is none.

    """
    for name, text in (("replayId", request.replay_id), ("consumer", request.consumer)):
        if not _NAME.fullmatch(text):
            raise ReplayError(f"{name} must be 1 to {LONGEST_ID} characters without spaces and control characters")
    if request.rate_per_second is not None and request.rate_per_second < LOWEST_RATE:
        raise ReplayError(f"ratePerSecond must be at least {LOWEST_RATE}, not {request.rate_per_second:g}")
    known = consumers.known()
    if known and request.consumer not in known:
        raise ReplayError(f"{request.consumer} reads no events: there are {', '.join(sorted(known))}")
    try:
        kinds = tuple(Kind.parse(text) for text in request.types)
        selection = Selection(kinds, request.since, request.until, request.correlation_id, ids=request.ids)
        filters = msgspec.convert(request.match, tuple[Filter, ...])
    except (SelectionError, msgspec.ValidationError, RecursionError) as error:
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
    wanted = check(request)
    if (there := await _row(connection, request.replay_id)) is not None:
        return shown(there)
    matched = await _counted(connection, wanted)
    row = {
        "id": request.replay_id,
        "consumer": request.consumer,
        "subscription": request.subscription or EVERY_SUBSCRIPTION,
        "request": encode(request).decode(),
        "rate": min(request.rate_per_second or settings().replay_rate, settings().replay_rate),
        "state": "running",
        "matched": sum(matched.values()),
        "requested": context.now.timestamp(),
        "requested_by": storable(asked.by),
    }
    await connection.execute(sa.insert(replays), row)
    detail = f"{row['matched']} events to {row['consumer']} {row['subscription']}"
    await auditing.note(connection, context.now, asked.by, "replay", f"replay/{request.replay_id}", detail)
    context.schedule(ContinueReplay(replay_id=request.replay_id))
    context.schedule(CloseReplay(replay_id=request.replay_id), after=settings().settle)
    return shown(await _known(connection, request.replay_id))


async def close(replay_id: str, context: SqlContext) -> None:
    """Let what arrives from now on be no part of a replay."""
    latest_arrival = await last_arrival(context.connection)
    this = sa.and_(replays.c.id == replay_id, replays.c.closes.is_(None))
    await context.connection.execute(sa.update(replays).where(this).values(closes=latest_arrival))


async def go_on(step: ContinueReplay, context: SqlContext) -> None:
    """Send the next events of a replay, or end it. One that cannot go on ends as failed."""
    row = await _row(context.connection, step.replay_id, lock=True)
    if row is None or row["state"] != "running":
        return
    try:
        async with context.connection.begin_nested():
            looked, ended = await _step(context, row)
    except Exception as error:
        kind = type(error) if isinstance(error, SidecarError) else sql.meaning(error)
        if kind is not None and not issubclass(kind, StateRefused):
            raise  # the database did not answer, or somebody was in the way: the step is tried again
        log.exception("replay.failed", replay_id=row["id"])
        await _end(context, row, "failed", storable(f"{type(error).__name__}: {error}")[:2000])
        return
    if ended:
        await _end(context, row, "completed")
    else:
        speed = pace(row["rate"]).pause
        context.schedule(step, after=speed if looked else min(speed, IDLE))


async def _step(context: SqlContext, row: sa.RowMapping) -> tuple[bool, bool]:
    """Send the next events; answers whether there were any, and whether the replay is over."""
    latest_arrival = await last_arrival(context.connection)
    until = latest_arrival if row["closes"] is None else row["closes"]
    found, reached = await _next(context.connection, row, until, pace(row["rate"]).events)
    address = Address(row["subscription"], row["id"], Settings().tidings_max_event)
    sent, skipped = [], []
    for each in found:
        try:
            sent.append(Outgoing(replay_topic(row["consumer"]), msgspec.Raw(addressed(delivered(each), address))))
        except ValueError as error:
            skipped.append((each["id"], str(error)))
    if reached > row["reached"]:
        total = row["skipped"] + len(skipped)
        await _change(context, row, sent=row["sent"] + len(sent), skipped=total, reached=reached)
        for identity, reason in skipped[: max(_MOST_SHOWN - row["skipped"], 0)]:
            detail = f"event {identity[:_LONGEST_SHOWN]}: {reason}"[:2000]
            await auditing.note(context.connection, context.now, "archive", "skipped", f"replay/{row['id']}", detail)
    context.outgoing.extend(sent)
    return bool(found), row["closes"] is not None and reached <= row["reached"]


async def cancel(asked: tuple[str, str], context: SqlContext) -> dict[str, Any]:
    """End a replay, given its id and who wants that; one that has ended stays as it is.

    Raises:
        UnknownReplay: There is none of that id.

    """
    identity, by = asked
    row = await _known(context.connection, identity, lock=True)
    if row["state"] == "running":
        await _end(context, row, "cancelled", f"by {by}")
        detail = f"after {row['sent']} of {row['matched']} events"
        await auditing.note(context.connection, context.now, by, "cancel", f"replay/{identity}", detail)
    return shown(await _known(context.connection, identity))


async def one(connection: AsyncConnection, identity: str) -> dict[str, Any]:
    """Return how far a replay is, with the latest events that it could not send.

    Raises:
        UnknownReplay: There is none of that id.

    """
    row = await _known(connection, identity)
    deeds = await auditing.deeds(connection, f"replay/{row['id']}", action="skipped") if row["skipped"] else []
    return {**shown(row), "skippedEvents": [each.detail for each in deeds]}


async def latest(connection: AsyncConnection, limit: int) -> list[dict[str, Any]]:
    """The latest replays, the latest first."""
    wanted = sa.select(replays).order_by(replays.c.seq.desc()).limit(limit)
    return [shown(row) for row in (await connection.execute(wanted)).mappings()]


async def _counted(connection: AsyncConnection, wanted: Wanted) -> dict[str, int]:
    """How many events there are, by type and version; with filters, each is looked at."""
    if not wanted.filters:
        return await counts(connection, *wanted.conditions)
    found: Counter[str] = Counter()
    reached = 0
    while page := await _page(connection, wanted, reached, _PAGE):
        found.update(f"{each['type']}.v{each['version']}" for each in page if wanted.takes(delivered(each)))
        reached = page[-1]["seq"]
    return dict(sorted(found.items()))


async def _next(
    connection: AsyncConnection, row: sa.RowMapping, until: int, limit: int
) -> tuple[list[sa.RowMapping], int]:
    """The next events that match, at most so many, and how far was looked."""
    wanted = check(_request(row))
    found: list[sa.RowMapping] = []
    reached, looked_at = row["reached"], 0
    while looked_at < _MOST_LOOKED_AT:
        page = await _page(connection, wanted, reached, _PAGE if wanted.filters else limit, events.c.seq <= until)
        for each in page:
            reached = each["seq"]
            if wanted.takes(delivered(each)):
                found.append(each)
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
        sa.select(*_READ).where(*wanted.conditions, *more, events.c.seq > after).order_by(events.c.seq).limit(limit)
    )
    return list((await connection.execute(following)).mappings())


def _request(row: sa.RowMapping) -> ReplayEvents:
    return _stored.decode(row["request"])


async def _end(context: SqlContext, row: sa.RowMapping, state: Ended, reason: str = "") -> None:
    """End a replay, and tell whoever asked for it."""
    await _change(context, row, state=state, ended=context.now.timestamp(), reason=reason)
    after = await _known(context.connection, row["id"])
    context.publish(
        ReplayCompleted(
            replay_id=row["id"],
            consumer=row["consumer"],
            count=after["sent"],
            completed_at=context.now,
            state=state,
            skipped=after["skipped"],
            reason=reason,
        )
    )
    if state != "cancelled":
        detail = f"{after['sent']} events sent to {row['consumer']}, {after['skipped']} skipped. {reason}".rstrip()
        await auditing.note(context.connection, context.now, "archive", state, f"replay/{row['id']}", detail)


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
    request = _request(row)
    confirmed = {name: row[name] for name in OUTCOMES}
    return {
        "replayId": row["id"],
        "state": row["state"],
        "reason": row["reason"] or None,
        "consumer": row["consumer"],
        "subscription": row["subscription"],
        "types": list(request.types),
        "since": request.since.isoformat() if request.since else None,
        "until": request.until.isoformat() if request.until else None,
        "correlationId": request.correlation_id,
        "ratePerSecond": row["rate"],
        "matched": row["matched"],
        "sent": row["sent"],
        "skipped": row["skipped"],
        **confirmed,
        UNCONFIRMED: max(row["sent"] - sum(confirmed.values()), 0),
        "requestedAt": moment(row["requested"]),
        "requestedBy": row["requested_by"],
        "endedAt": moment(row["ended"]) if row["ended"] is not None else None,
    }
