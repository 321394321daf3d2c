"""What people do with dead letters, each as one unit of work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from tidings import Settings
from tidings.context import Outgoing
from tidings.messages.envelope import new_id
from tidings.outbox.table import SqlContext
from tidings_archive import auditing
from tidings_archive.addressing import Address, addressed
from tidings_archive.domain import deadletter
from tidings_archive.domain.deadletter import DeadLetterError, Standing
from tidings_archive.domain.replaying import replay_topic
from tidings_archive.searching import moment, opened
from tidings_archive.storing import delivered
from tidings_archive.tables import dead_letters, letter_replays

_EXACT = ("app", "subscription", "type", "state", "correlation_id", "id")
_COLUMNS = [column for column in dead_letters.c if column.name not in ("body", "raw")]
OUTCOMES = ("handled", "failed", "unread", "dropped")
UNCONFIRMED = "unconfirmed"
"""The outcome of a replay that no consumer has answered."""


class UnknownDeadLetter(DeadLetterError):
    """There is no dead letter of that number."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What a person wants done with a dead letter, who it is and why.

    `subscription` is given only where none is known; `batch` names what a replay is part of.
    """

    number: int
    by: str
    reason: str = ""
    subscription: str | None = None
    batch: str = ""


async def replay(decision: Decision, context: SqlContext) -> dict[str, Any]:
    """Send a dead letter again, to the consumer that failed and no other. A batch sends each letter once.

    Raises:
        DeadLetterError: There is none, or it may not be replayed.

    """
    row = await _locked(context.connection, decision.number)
    if decision.batch and await _is_in(decision, context.connection):
        return await _current(context.connection, decision.number)
    replay_id = new_id()
    target, event = _addressed(row, decision, replay_id)
    context.outgoing.append(Outgoing(replay_topic(row["app"]), msgspec.Raw(event)))
    sent = {
        "id": replay_id,
        "letter": row["seq"],
        "batch": decision.batch,
        "subscription": target,
        "sent": context.now.timestamp(),
    }
    await context.connection.execute(sa.insert(letter_replays), sent)
    return await _decide(context, row, {"state": "sent", "replay_id": replay_id}, decision, f"to {target}")


async def outcomes(connection: AsyncConnection, batch: str) -> dict[str, int]:
    """Return how many dead letters were sent again as a part of a batch, and what consumers have confirmed of them."""
    counted = sa.select(letter_replays.c.outcome, sa.func.count()).where(letter_replays.c.batch == batch)
    found = {name or UNCONFIRMED: count for name, count in await connection.execute(counted.group_by(sa.text("1")))}
    return {"sent": sum(found.values()), **{name: found.get(name, 0) for name in (*OUTCOMES, UNCONFIRMED)}}


async def preview(connection: AsyncConnection, decision: Decision) -> dict[str, Any]:
    """What a replay would send, and where; nothing is sent.

    Raises:
        DeadLetterError: There is none, or it may not be replayed.

    """
    wanted = sa.select(dead_letters).where(dead_letters.c.seq == decision.number)
    row = _there(await connection.execute(wanted), decision.number)
    target, event = _addressed(row, decision, "dry-run")
    sent = {"app": row["app"], "subscription": target, "topic": replay_topic(row["app"])}
    return {"dryRun": True, **sent, "event": opened(event)}


async def discard(decision: Decision, context: SqlContext) -> dict[str, Any]:
    """Decide that nobody needs a dead letter; it stays readable.

    Raises:
        DeadLetterError: There is none, or it was handled.

    """
    row = await _locked(context.connection, decision.number)
    deadletter.discard(_standing(row))
    return await _decide(context, row, {"state": "discarded"}, decision, decision.reason)


async def found(
    connection: AsyncConnection,
    wanted: dict[str, str | None],
    limit: int,
    before: int | None,
    *,
    not_batch: str | None = None,
) -> tuple[list[dict[str, Any]], int | None]:
    """Dead letters by app, subscription, type, state, correlation_id and id, the latest first; where to go on."""
    query = _with_replay(*_COLUMNS).order_by(dead_letters.c.seq.desc()).limit(limit + 1)
    query = query.where(*(dead_letters.c[name] == wanted[name] for name in _EXACT if wanted.get(name) is not None))
    if before is not None:
        query = query.where(dead_letters.c.seq < before)
    if not_batch is not None:
        sent = letter_replays.alias("sent_in_batch")
        query = query.where(~sa.exists().where(sent.c.letter == dead_letters.c.seq, sent.c.batch == not_batch))
    rows = (await connection.execute(query)).mappings().all()
    return [_shown(row) for row in rows[:limit]], rows[limit - 1]["seq"] if len(rows) > limit else None


async def whole(connection: AsyncConnection, number: int) -> dict[str, Any]:
    """One dead letter with its event and all that was done about it.

    Raises:
        UnknownDeadLetter: There is none of that number.

    """
    row = _there(await connection.execute(_with_replay(dead_letters).where(dead_letters.c.seq == number)), number)
    deeds = await auditing.deeds(connection, f"deadletter/{number}")
    return {**_shown(row), "event": opened(delivered(row)), "audit": [each.model_dump(mode="json") for each in deeds]}


async def open_by_app(connection: AsyncConnection) -> dict[str, int]:
    """How many dead letters wait for a decision, by app."""
    counted = sa.select(dead_letters.c.app, sa.func.count()).where(dead_letters.c.state == "open")
    rows = await connection.execute(counted.group_by(dead_letters.c.app).order_by(dead_letters.c.app))
    return {app: int(count) for app, count in rows}


def _with_replay(*columns: Any) -> sa.Select[Any]:
    """Select dead letters, each with its latest replay."""
    latest = letter_replays.c
    more = (latest.outcome.label("outcome"), latest.reason.label("why"), latest.sent.label("sent"))
    joined = dead_letters.outerjoin(letter_replays, latest.id == dead_letters.c.replay_id)
    return sa.select(*columns, *more).select_from(joined)


def _addressed(row: sa.RowMapping, decision: Decision, replay_id: str) -> tuple[str, bytes]:
    """The subscription that a dead letter goes to, and the event as it is sent there."""
    target = deadletter.replay(_standing(row), decision.subscription)
    try:
        return target, addressed(delivered(row), Address(target, replay_id, Settings().tidings_max_event))
    except ValueError as error:
        raise DeadLetterError(f"it cannot be sent again: {error}") from error


async def _locked(connection: AsyncConnection, number: int) -> sa.RowMapping:
    return _there(
        await connection.execute(sa.select(dead_letters).where(dead_letters.c.seq == number).with_for_update()), number
    )


def _there(result: sa.CursorResult[Any], number: int) -> sa.RowMapping:
    row = result.mappings().one_or_none()
    if row is None:
        raise UnknownDeadLetter(f"there is no dead letter {number}")
    return row


def _standing(row: sa.RowMapping) -> Standing:
    return Standing(row["state"], row["subscription"])


async def _decide(
    context: SqlContext, row: sa.RowMapping, changed: dict[str, str], decision: Decision, detail: str
) -> dict[str, Any]:
    number, connection = row["seq"], context.connection
    await connection.execute(sa.update(dead_letters).where(dead_letters.c.seq == number).values(**changed))
    await auditing.note(connection, context.now, decision.by, changed["state"], f"deadletter/{number}", detail)
    return await _current(connection, number)


async def _current(connection: AsyncConnection, number: int) -> dict[str, Any]:
    found = await connection.execute(_with_replay(*_COLUMNS).where(dead_letters.c.seq == number))
    return _shown(_there(found, number))


async def _is_in(decision: Decision, connection: AsyncConnection) -> bool:
    """Return whether a dead letter was sent as a part of the batch already."""
    sent = letter_replays.c
    wanted = sa.select(sent.id).where(sent.letter == decision.number, sent.batch == decision.batch)
    return (await connection.execute(wanted.limit(1))).first() is not None


def _shown(row: sa.RowMapping) -> dict[str, Any]:
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
        "receivedAt": moment(row["received"]),
        "replay": _replayed(row),
    }


def _replayed(row: sa.RowMapping) -> dict[str, Any] | None:
    """Return the latest replay as the API shows it; None where there was none."""
    if not row["replay_id"]:
        return None
    return {
        "replayId": row["replay_id"],
        "sentAt": moment(row["sent"]),
        "outcome": row["outcome"] or UNCONFIRMED,
        "reason": row["why"],
    }
