"""Queries and operator actions on dead letters; each action is one unit of work."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from tidings import Settings
from tidings.context import Outgoing
from tidings.conventions import replay_topic
from tidings.messages.envelope import new_id
from tidings.outbox.table import SqlContext
from tidings_archive import audit_log
from tidings_archive.domain import deadletter
from tidings_archive.domain.deadletter import DeadLetterError, LetterFilter, LetterStatus
from tidings_archive.event_queries import format_time, parse_body
from tidings_archive.replay_envelope import ReplayTarget, build_replay_event
from tidings_archive.storage import original_body
from tidings_archive.tables import dead_letters, letter_replays

_EXACT = ("app", "subscription", "type", "state", "correlation_id", "id")
_COLUMNS = [column for column in dead_letters.c if column.name not in ("body", "raw")]
OUTCOMES = ("handled", "failed", "unread", "dropped")
EXAMINED = 20_000
"""Dead letters that a page examines one by one, for conditions without an index."""
UNCONFIRMED = "unconfirmed"
"""Outcome of a replay that its consumer has not confirmed yet."""


class UnknownDeadLetter(DeadLetterError):
    """No dead letter has this number."""


@dataclass(frozen=True, slots=True)
class Decision:
    """An operator's decision about a dead letter.

    `subscription` is required only if the letter does not record one; `batch` groups replays, for example of an
    EventReplay.
    """

    number: int
    by: str
    reason: str = ""
    subscription: str | None = None
    batch: str = ""


async def replay(decision: Decision, context: SqlContext) -> dict[str, Any]:
    """Replay a dead letter to the subscription that failed. A batch replays each letter at most once.

    Raises:
        DeadLetterError: The dead letter does not exist or may not be replayed.

    """
    row = await _lock_row(context.connection, decision.number)
    if decision.batch and await _is_in_batch(decision, context.connection):
        return await _current(context.connection, decision.number)
    await send(context, [prepare_replay(row, decision.subscription)], decision.by, decision.batch)
    return await _current(context.connection, decision.number)


@dataclass(frozen=True, slots=True)
class PreparedReplay:
    """A replay of one dead letter: its id, the subscription that receives the event, and the event."""

    number: int
    app: str
    id: str
    subscription: str
    event: bytes


async def send(context: SqlContext, prepared: Sequence[PreparedReplay], by: str, batch: str) -> None:
    """Send locked dead letters to their subscriptions, and record it."""
    if not prepared:
        return
    now, connection = context.now, context.connection
    context.outgoing.extend(Outgoing(replay_topic(item.app), msgspec.Raw(item.event)) for item in prepared)
    recorded = [
        {
            "id": item.id,
            "letter": item.number,
            "batch": batch,
            "subscription": item.subscription,
            "sent": now.timestamp(),
        }
        for item in prepared
    ]
    await connection.execute(sa.insert(letter_replays), recorded)
    changed = sa.update(dead_letters).where(dead_letters.c.seq == sa.bindparam("number"))
    changed = changed.values(state="sent", replay_id=sa.bindparam("replay"))
    await connection.execute(changed, [{"number": item.number, "replay": item.id} for item in prepared])
    entries = [(f"deadletter/{item.number}", f"to {item.subscription}") for item in prepared]
    await audit_log.record_all(connection, now, by, "sent", entries)


async def count_outcomes(connection: AsyncConnection, *batches: str) -> dict[str, dict[str, int]]:
    """Count the replays of each batch, in total and by confirmed outcome."""
    batch, outcome = letter_replays.c.batch, letter_replays.c.outcome
    counted = sa.select(batch, outcome, sa.func.count()).where(batch.in_(batches)).group_by(batch, outcome)
    counts = {batch_id: dict.fromkeys(("sent", *OUTCOMES, UNCONFIRMED), 0) for batch_id in batches}
    for name, confirmed, count in await connection.execute(counted):
        counts[name][confirmed or UNCONFIRMED] = count
        counts[name]["sent"] += count
    return counts


async def preview(connection: AsyncConnection, decision: Decision) -> dict[str, Any]:
    """Return what a replay would send and to which topic, without sending it.

    Raises:
        DeadLetterError: The dead letter does not exist or may not be replayed.

    """
    query = sa.select(dead_letters).where(dead_letters.c.seq == decision.number)
    row = _require_row(await connection.execute(query), decision.number)
    planned = prepare_replay(row, decision.subscription, "dry-run")
    sent = {"app": row["app"], "subscription": planned.subscription, "topic": replay_topic(row["app"])}
    return {"dryRun": True, **sent, "event": parse_body(planned.event)}


async def discard(decision: Decision, context: SqlContext) -> dict[str, Any]:
    """Discard a dead letter. It remains readable.

    Raises:
        DeadLetterError: The dead letter does not exist or was handled.

    """
    row = await _lock_row(context.connection, decision.number)
    deadletter.check_discardable(_status(row))
    number, connection = row["seq"], context.connection
    await connection.execute(sa.update(dead_letters).where(dead_letters.c.seq == number).values(state="discarded"))
    target = f"deadletter/{number}"
    await audit_log.record(connection, context.now, decision.by, "discarded", target, decision.reason)
    return await _current(connection, number)


def conditions_for(letter_filter: LetterFilter) -> list[sa.ColumnElement[bool]]:
    """Return the SQL conditions of a filter."""
    letter = dead_letters.c
    conditions = [letter[name] == value for name in _EXACT if (value := getattr(letter_filter, name)) is not None]
    if letter_filter.reason:
        shown = sa.case((letter.error == "", letter.reason), else_=letter.error + ": " + letter.reason)
        conditions.append(shown.icontains(letter_filter.reason, autoescape=True))
    if letter_filter.since:
        conditions.append(letter.received >= letter_filter.since.timestamp())
    if letter_filter.until:
        conditions.append(letter.received < letter_filter.until.timestamp())
    return conditions


async def find(
    connection: AsyncConnection,
    letter_filter: LetterFilter,
    limit: int,
    before: int | None,
    *,
    not_batch: str | None = None,
) -> tuple[list[dict[str, Any]], int | None]:
    """Return a page of dead letters, newest first, and the cursor of the next page.

    The page has fewer than `limit` dead letters, or none, but a next page, if it has examined `EXAMINED`.
    """
    oldest = await _oldest_examined(connection, letter_filter, before)
    query = _with_replay(*_COLUMNS).order_by(dead_letters.c.seq.desc()).limit(limit + 1)
    query = query.where(*conditions_for(letter_filter))
    if before is not None:
        query = query.where(dead_letters.c.seq < before)
    if oldest is not None:
        query = query.where(dead_letters.c.seq >= oldest)
    if not_batch is not None:
        sent = letter_replays.alias("sent_in_batch")
        query = query.where(~sa.exists().where(sent.c.letter == dead_letters.c.seq, sent.c.batch == not_batch))
    rows = (await connection.execute(query)).mappings().all()
    return [_to_json(row) for row in rows[:limit]], rows[limit - 1]["seq"] if len(rows) > limit else oldest


async def _oldest_examined(connection: AsyncConnection, letter_filter: LetterFilter, before: int | None) -> int | None:
    """Return the number of the last dead letter that a page may examine; None if it may examine all that are left."""
    indexed = LetterFilter(app=letter_filter.app, state=letter_filter.state)
    if letter_filter == indexed or letter_filter.id is not None:
        return None
    number = dead_letters.c.seq
    candidates = sa.select(number).where(*conditions_for(indexed)).order_by(number.desc())
    if before is not None:
        candidates = candidates.where(number < before)
    return (await connection.execute(candidates.offset(EXAMINED - 1).limit(1))).scalar()


async def get_details(connection: AsyncConnection, number: int) -> dict[str, Any]:
    """Return a dead letter with its event and its audit log.

    Raises:
        UnknownDeadLetter: No dead letter has this number.

    """
    row = _require_row(await connection.execute(_with_replay(dead_letters).where(dead_letters.c.seq == number)), number)
    entries = await audit_log.list_entries(connection, f"deadletter/{number}")
    return {
        **_to_json(row),
        "event": parse_body(original_body(row)),
        "audit": [entry.model_dump(mode="json") for entry in entries],
    }


async def count_open_by_app(connection: AsyncConnection) -> dict[str, int]:
    """Count the open dead letters by app."""
    counted = sa.select(dead_letters.c.app, sa.func.count()).where(dead_letters.c.state == "open")
    rows = await connection.execute(counted.group_by(dead_letters.c.app).order_by(dead_letters.c.app))
    return {app: int(count) for app, count in rows}


def _with_replay(*columns: Any) -> sa.Select[Any]:
    """Build a query for dead letters with their latest replays."""
    latest = letter_replays.c
    more = (latest.outcome.label("outcome"), latest.reason.label("why"), latest.sent.label("sent"))
    joined = dead_letters.outerjoin(letter_replays, latest.id == dead_letters.c.replay_id)
    return sa.select(*columns, *more).select_from(joined)


def prepare_replay(row: sa.RowMapping, subscription: str | None, replay_id: str = "") -> PreparedReplay:
    """Prepare the replay of a dead letter to the subscription that failed, or to the given one if none is recorded.

    Raises:
        DeadLetterError: It may not be replayed, or cannot be sent.

    """
    target = ReplayTarget(
        deadletter.replay_target(_status(row), subscription), replay_id or new_id(), Settings().tidings_max_event
    )
    try:
        event = build_replay_event(original_body(row), target)
    except ValueError as error:
        raise DeadLetterError(f"it cannot be sent again: {error}") from error
    return PreparedReplay(row["seq"], row["app"], target.replay_id, target.subscription, event)


async def _lock_row(connection: AsyncConnection, number: int) -> sa.RowMapping:
    return _require_row(
        await connection.execute(sa.select(dead_letters).where(dead_letters.c.seq == number).with_for_update()), number
    )


def _require_row(result: sa.CursorResult[Any], number: int) -> sa.RowMapping:
    row = result.mappings().one_or_none()
    if row is None:
        raise UnknownDeadLetter(f"there is no dead letter {number}")
    return row


def _status(row: sa.RowMapping) -> LetterStatus:
    return LetterStatus(row["state"], row["subscription"])


async def _current(connection: AsyncConnection, number: int) -> dict[str, Any]:
    result = await connection.execute(_with_replay(*_COLUMNS).where(dead_letters.c.seq == number))
    return _to_json(_require_row(result, number))


async def _is_in_batch(decision: Decision, connection: AsyncConnection) -> bool:
    """Return whether a batch has already replayed a dead letter."""
    sent = letter_replays.c
    query = sa.select(sent.id).where(sent.letter == decision.number, sent.batch == decision.batch)
    return (await connection.execute(query.limit(1))).first() is not None


def _to_json(row: sa.RowMapping) -> dict[str, Any]:
    return {
        "number": row["seq"],
        "state": row["state"],
        "app": row["app"],
        "subscription": row["subscription"] or None,
        "eventId": row["id"],
        "type": row["type"],
        "version": row["version"],
        "subject": row["subject"],
        "correlationId": row["correlation_id"],
        "topic": row["topic"],
        "reason": row["reason"],
        "error": row["error"],
        "attempts": row["attempts"],
        "failures": row["failures"],
        "firstAttempt": row["first"] or None,
        "lastAttempt": row["last"] or None,
        "receivedAt": format_time(row["received"]),
        "replay": {
            "replayId": row["replay_id"],
            "sentAt": format_time(row["sent"]),
            "outcome": row["outcome"] or UNCONFIRMED,
            "reason": row["why"],
        }
        if row["replay_id"]
        else None,
    }
