"""Replays, step by step.

One transaction per step writes the events to the outbox and advances the replay's position. After a crash the next
step continues from that position. Events that were in the outbox without an acknowledgement may be published twice
under the same id; the consumer's inbox drops the duplicates.

A replay covers events up to a sequence number, not up to a time: the number of the latest event once
`ARCHIVE_REPLAY_SETTLE` has passed.
"""

import re
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import msgspec
import sqlalchemy as sa
import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from tidings import Settings
from tidings.context import Outgoing
from tidings.conventions import replay_topic
from tidings.errors import SidecarError, StateRefused
from tidings.messages.events import encode
from tidings.outbox import sql
from tidings.outbox.table import SqlContext
from tidings_archive import audit_log, consumers
from tidings_archive.commands import CloseReplay, ContinueRedrive, ContinueReplay
from tidings_archive.deadletters import OUTCOMES, UNCONFIRMED, count_outcomes
from tidings_archive.domain.deadletter import LetterFilter
from tidings_archive.domain.replay import LOWEST_RATE, TICK, FinalState, pace
from tidings_archive.domain.selection import Selection, SelectionError, TypePattern
from tidings_archive.event_queries import conditions_for, count_by_type, format_time, parse_body
from tidings_archive.events import ReplayCompleted, ReplayEvents
from tidings_archive.recording import latest_sequence_number
from tidings_archive.replay_envelope import ReplayTarget, build_replay_event
from tidings_archive.settings import settings
from tidings_archive.storage import original_body, sanitize
from tidings_archive.tables import events, replays
from tidings_plan.resources import matching as filtering
from tidings_plan.resources.subscription import Filter

log = structlog.get_logger(__name__)

EVERY_SUBSCRIPTION = "*"
DEAD_LETTERS = "deadLetters"
"""Kind of a replay that sends dead letters: see `redrives`."""
_PAGE = 500
_decoder = msgspec.json.Decoder(ReplayEvents)
_MAX_SCANNED = 5000  # events read in one step, of which few may match
IDLE = timedelta(seconds=TICK)
_MAX_ID_SHOWN = 250  # characters of a skipped event's id in the audit log
_MAX_SKIPPED_ENTRIES = 100  # skipped events of a replay that get an audit entry each
_COLUMNS = [events.c[name] for name in ("seq", "id", "type", "version", "body", "raw")]
MAX_REPLAY_ID = 100
# A part of the URLs of its state and of its end: clients and proxies change `.`, `..` and an encoded slash.
_NAME = re.compile(rf"(?!\.{{1,2}}$)[^\s/\x00-\x1f\x7f-\x9f]{{1,{MAX_REPLAY_ID}}}")


class ReplayError(Exception):
    """The replay cannot be carried out as requested."""


class UnknownReplay(ReplayError):
    """No replay has this id."""


@dataclass(frozen=True, slots=True)
class ReplayOrder:
    """A request for a replay, and who made it."""

    request: ReplayEvents
    by: str


@dataclass(frozen=True, slots=True)
class ReplayQuery:
    """Events of a replay: a selection for the database, and filters for the selected events."""

    selection: Selection
    filters: tuple[Filter, ...] = ()

    @property
    def conditions(self) -> list[sa.ColumnElement[bool]]:
        """Each fact once, in its newest version, unless a version is named; nothing that could not be read.

        All versions of a fact have one id: a broker that drops duplicates by id would let only the first through.
        """
        return [*conditions_for(self.selection, newest=True), events.c.type != ""]

    def matches(self, body: bytes) -> bool:
        """Return whether an event matches the filters."""
        return not self.filters or filtering.matches(self.filters, parse_body(body))


def parse_query(request: ReplayEvents) -> ReplayQuery:
    """Return the query of a replay.

    Raises:
        ReplayError: The consumer is unknown, or a type, the period or a filter is invalid.

    """
    check_name("replayId", request.replay_id)
    check_name("consumer", request.consumer)
    limit_rate(request.rate_per_second)
    apps = consumers.known_consumers()
    if apps and request.consumer not in apps:
        raise ReplayError(f"{request.consumer} reads no events: choose one of {', '.join(sorted(apps))}")
    try:
        patterns = tuple(TypePattern.parse(text) for text in request.types)
        selection = Selection(patterns, request.since, request.until, request.correlation_id, ids=request.ids)
        filters = msgspec.convert(request.match, tuple[Filter, ...])
    except (SelectionError, msgspec.ValidationError, RecursionError) as error:
        raise ReplayError(str(error)) from error
    if filtering.has_cel(filters):
        raise ReplayError("match: the archive does not evaluate CEL; use exact, prefix, suffix, all, any or not")
    return ReplayQuery(selection, filters)


def check_name(field: str, text: str) -> None:
    """Check the id of a replay or an app.

    Raises:
        ReplayError: It is too long, or contains spaces, slashes or control characters, or only dots.

    """
    if not _NAME.fullmatch(text):
        raise ReplayError(
            f"{field} must be 1 to {MAX_REPLAY_ID} characters without spaces, slashes and control characters, and more "
            "than dots"
        )


def limit_rate(requested: float | None) -> float:
    """Return the rate of a replay, in events per second: the requested one, at most the archive's.

    Raises:
        ReplayError: The rate is too low.

    """
    if requested is not None and requested < LOWEST_RATE:
        raise ReplayError(f"ratePerSecond must be at least {LOWEST_RATE}, not {requested:g}")
    return min(requested or settings().replay_rate, settings().replay_rate)


async def preview(connection: AsyncConnection, request: ReplayEvents) -> dict[str, int]:
    """Count the events that a replay would send, by type and version.

    Raises:
        ReplayError: The request is invalid.

    """
    return await _count(connection, parse_query(request))


async def start(order: ReplayOrder, context: SqlContext) -> dict[str, Any]:
    """Start a replay. An existing replay with the same id is returned unchanged.

    Raises:
        ReplayError: The request is invalid.

    """
    request, connection = order.request, context.connection
    query = parse_query(request)
    if await find(connection, request.replay_id) is not None:
        return await get_replay(connection, request.replay_id)
    matched = await _count(connection, query)
    row = {
        "id": request.replay_id,
        "consumer": request.consumer,
        "subscription": request.subscription or EVERY_SUBSCRIPTION,
        "request": encode(request).decode(),
        "rate": limit_rate(request.rate_per_second),
        "matched": sum(matched.values()),
    }
    detail = f"{row['matched']} events to {row['consumer']} {row['subscription']}"
    await record_start(context, row, order.by, "replay", detail)
    context.schedule(ContinueReplay(replay_id=request.replay_id))
    context.schedule(CloseReplay(replay_id=request.replay_id), after=settings().settle)
    return await get_replay(connection, request.replay_id)


async def record_start(context: SqlContext, row: Mapping[str, object], by: str, action: str, detail: str) -> None:
    """Store a new replay as running, and who requested it."""
    begun = {"state": "running", "requested": context.now.timestamp(), "requested_by": sanitize(by)}
    await context.connection.execute(sa.insert(replays), {**row, **begun})
    await audit_log.record(context.connection, context.now, by, action, f"replay/{row['id']}", detail)


async def set_last_event(replay_id: str, context: SqlContext) -> None:
    """Set the last event of a replay to the latest one in the archive."""
    latest_arrival = await latest_sequence_number(context.connection)
    condition = sa.and_(replays.c.id == replay_id, replays.c.closes.is_(None))
    await context.connection.execute(sa.update(replays).where(condition).values(closes=latest_arrival))


async def send_next(step: ContinueReplay, context: SqlContext) -> None:
    """Send the next events of a replay, or end it."""
    await advance(step, context, _step)


Step = Callable[[SqlContext, sa.RowMapping], Awaitable[tuple[bool, bool]]]
"""Sends the next events of a replay; returns whether there were any, and whether the replay is complete."""


async def advance(step: ContinueReplay | ContinueRedrive, context: SqlContext, send: Step) -> None:
    """Take the next step of a replay, or end it. A replay that cannot continue ends as failed."""
    row = await find(context.connection, step.replay_id, lock=True)
    if row is None or row["state"] != "running":
        return
    try:
        async with context.connection.begin_nested():
            has_events, ended = await send(context, row)
    except Exception as error:
        kind = type(error) if isinstance(error, SidecarError) else sql.meaning(error)
        if kind is not None and not issubclass(kind, StateRefused):
            raise  # The database was unavailable or there was a conflict: the step is retried.
        log.exception("replay.failed", replay_id=row["id"])
        await fail(row["id"], f"{type(error).__name__}: {error}", context)
        return
    if ended:
        await _end(context, row, "completed")
    else:
        pause = pace(row["rate"]).pause
        context.schedule(step, after=pause if has_events else min(pause, IDLE))


async def _step(context: SqlContext, row: sa.RowMapping) -> tuple[bool, bool]:
    """Send the next events; return whether there were any, and whether the replay is complete."""
    latest_arrival = await latest_sequence_number(context.connection)
    until = latest_arrival if row["closes"] is None else row["closes"]
    matched, reached = await _next_events(context.connection, row, until, pace(row["rate"]).events)
    target = ReplayTarget(row["subscription"], row["id"], Settings().tidings_max_event)
    sent, skipped = [], []
    for event in matched:
        try:
            sent.append(
                Outgoing(replay_topic(row["consumer"]), msgspec.Raw(build_replay_event(original_body(event), target)))
            )
        except ValueError as error:
            skipped.append(f"event {event['id'][:_MAX_ID_SHOWN]}: {error}")
    if reached > row["reached"]:
        await record_progress(context, row, len(sent), skipped, reached)
    context.outgoing.extend(sent)
    return bool(matched), row["closes"] is not None and reached <= row["reached"]


async def record_progress(
    context: SqlContext, row: sa.RowMapping, sent: int, skipped: Sequence[str], reached: int
) -> None:
    """Record the progress of a replay, and why some of its events could not be sent."""
    total = row["skipped"] + len(skipped)
    await _change(context, row, sent=row["sent"] + sent, skipped=total, reached=reached)
    shown = skipped[: max(_MAX_SKIPPED_ENTRIES - row["skipped"], 0)]
    entries = [(f"replay/{row['id']}", detail[:2000]) for detail in shown]
    if entries:
        await audit_log.record_all(context.connection, context.now, "archive", "skipped", entries)


async def cancel(request: tuple[str, str], context: SqlContext) -> dict[str, Any]:
    """Cancel a replay, given its id and the requester. A replay that has ended does not change.

    Raises:
        UnknownReplay: No replay has this id.

    """
    identity, by = request
    row = await _get(context.connection, identity, lock=True)
    if row["state"] == "running":
        await _end(context, row, "cancelled", f"by {by}")
        detail = f"after {row['sent']} of {row['matched']} events"
        await audit_log.record(context.connection, context.now, by, "cancel", f"replay/{identity}", detail)
    return await get_replay(context.connection, identity)


async def fail(replay_id: str, reason: str, context: SqlContext) -> None:
    """End a replay as failed. One that has ended does not change."""
    row = await find(context.connection, replay_id, lock=True)
    if row is not None and row["state"] == "running":
        await _end(context, row, "failed", sanitize(reason)[:2000])


async def get_replay(connection: AsyncConnection, identity: str) -> dict[str, Any]:
    """Return the progress of a replay, with the latest events that could not be sent.

    Raises:
        UnknownReplay: No replay has this id.

    """
    row = await _get(connection, identity)
    entries = (
        await audit_log.list_entries(connection, f"replay/{row['id']}", action="skipped") if row["skipped"] else []
    )
    [shown] = await _to_json(connection, [row])
    return {**shown, "skippedEvents": [entry.detail for entry in entries]}


async def list_replays(connection: AsyncConnection, limit: int) -> list[dict[str, Any]]:
    """Return the latest replays, newest first."""
    query = sa.select(replays).order_by(replays.c.seq.desc()).limit(limit)
    return await _to_json(connection, (await connection.execute(query)).mappings().all())


async def _count(connection: AsyncConnection, query: ReplayQuery) -> dict[str, int]:
    """Count the events of a query by type and version. Filters require reading each event."""
    if not query.filters:
        return await count_by_type(connection, *query.conditions)
    totals: Counter[str] = Counter()
    reached = 0
    while page := await _page(connection, query, reached, _PAGE):
        matched = (event for event in page if query.matches(original_body(event)))
        totals.update(f"{event['type']}.v{event['version']}" for event in matched)
        reached = page[-1]["seq"]
    return dict(sorted(totals.items()))


async def _next_events(
    connection: AsyncConnection, row: sa.RowMapping, until: int, limit: int
) -> tuple[list[sa.RowMapping], int]:
    """Return at most `limit` of the next matching events, and the position of the last event read."""
    query = parse_query(_request(row))
    matched: list[sa.RowMapping] = []
    reached, scanned = row["reached"], 0
    while scanned < _MAX_SCANNED:
        page = await _page(connection, query, reached, _PAGE if query.filters else limit, events.c.seq <= until)
        for event in page:
            reached = event["seq"]
            if query.matches(original_body(event)):
                matched.append(event)
            if len(matched) == limit:
                return matched, reached
        scanned += len(page)
        if len(page) < _PAGE:
            break
    return matched, reached


async def _page(
    connection: AsyncConnection, query: ReplayQuery, after: int, limit: int, *more: sa.ColumnElement[bool]
) -> list[sa.RowMapping]:
    following = (
        sa.select(*_COLUMNS).where(*query.conditions, *more, events.c.seq > after).order_by(events.c.seq).limit(limit)
    )
    return list((await connection.execute(following)).mappings())


def _request(row: sa.RowMapping) -> ReplayEvents:
    return _decoder.decode(row["request"])


async def _end(context: SqlContext, row: sa.RowMapping, state: FinalState, reason: str = "") -> None:
    """End a replay and publish the result."""
    await _change(context, row, state=state, ended=context.now.timestamp(), reason=reason)
    ended = await _get(context.connection, row["id"])
    context.publish(
        ReplayCompleted(
            replay_id=row["id"],
            consumer=row["consumer"],
            count=ended["sent"],
            completed_at=context.now,
            state=state,
            skipped=ended["skipped"],
            reason=reason,
        )
    )
    if state != "cancelled":
        detail = f"{ended['sent']} events sent to {row['consumer']}, {ended['skipped']} skipped. {reason}".rstrip()
        await audit_log.record(context.connection, context.now, "archive", state, f"replay/{row['id']}", detail)


async def _change(context: SqlContext, row: sa.RowMapping, **values: object) -> None:
    await context.connection.execute(sa.update(replays).where(replays.c.id == row["id"]).values(**values))


async def find(connection: AsyncConnection, identity: str, *, lock: bool = False) -> sa.RowMapping | None:
    """Return the row of a replay, or None if it does not exist."""
    query = sa.select(replays).where(replays.c.id == identity)
    result = await connection.execute(query.with_for_update() if lock else query)
    return result.mappings().one_or_none()


async def _get(connection: AsyncConnection, identity: str, *, lock: bool = False) -> sa.RowMapping:
    row = await find(connection, identity, lock=lock)
    if row is None:
        raise UnknownReplay(f"there is no replay {identity}")
    return row


async def _to_json(connection: AsyncConnection, rows: Sequence[sa.RowMapping]) -> list[dict[str, Any]]:
    """Return replays for the API. The outcomes of dead letters are recorded with each of them."""
    redrives = [row["id"] for row in rows if row["kind"] == DEAD_LETTERS]
    counts = await count_outcomes(connection, *redrives) if redrives else {}
    return [_as_json(row, counts.get(row["id"], row)) for row in rows]


def _as_json(row: sa.RowMapping, counts: Mapping[Any, int]) -> dict[str, Any]:
    request: ReplayEvents | LetterFilter
    if row["kind"] == DEAD_LETTERS:
        request = msgspec.json.decode(row["request"], type=LetterFilter)
        types, reason = [request.type] if request.type else [], request.reason
    else:
        request = _request(row)
        types, reason = list(request.types), None
    confirmed = {name: counts[name] for name in OUTCOMES}
    return {
        "replayId": row["id"],
        "kind": row["kind"],
        "state": row["state"],
        "reason": row["reason"] or None,
        "consumer": row["consumer"],
        "subscription": row["subscription"],
        "types": types,
        "letterReason": reason,
        "since": request.since.isoformat() if request.since else None,
        "until": request.until.isoformat() if request.until else None,
        "correlationId": request.correlation_id,
        "ratePerSecond": row["rate"],
        "matched": row["matched"],
        "sent": row["sent"],
        "skipped": row["skipped"],
        **confirmed,
        UNCONFIRMED: max(row["sent"] - sum(confirmed.values()), 0),
        "requestedAt": format_time(row["requested"]),
        "requestedBy": row["requested_by"],
        "endedAt": format_time(row["ended"]) if row["ended"] is not None else None,
    }
