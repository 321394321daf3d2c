"""Writes what arrives: events once, dead letters once for each subscription and event."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from tidings import Received
from tidings.messages.envelope import Envelope
from tidings.outbox.sql import insert_all_new, insert_new
from tidings_archive import confirming
from tidings_archive.attribution import Attribution, attribute, readers_of
from tidings_archive.auditing import note
from tidings_archive.domain.deadletter import UNKNOWN_REASON, reopens
from tidings_archive.settings import settings
from tidings_archive.storing import key, number, storable, stored
from tidings_archive.tables import dead_letters, events, failures

_DEAD_LETTER_TOPIC = "deadletter."
_ARRIVALS = 0x61726368  # id of an advisory lock of PostgreSQL
_UNCHANGED = ("key", "app", "subscription", "id", "version", "first", "failures")


async def keep_events(connection: AsyncConnection, received: Iterable[Received], now: datetime) -> None:
    """Keep events whole; the same version of one from the same topic only once."""
    if connection.dialect.name == "postgresql":
        await connection.execute(sa.select(sa.func.pg_advisory_xact_lock_shared(_ARRIVALS)))
    await insert_all_new(connection, events, [_event(each, now) for each in in_one_order(received)])


async def last_arrival(connection: AsyncConnection) -> int:
    """Return the number of the latest event, once all up to it can be read.

    PostgreSQL numbers rows before they are committed: a lower number may appear after a higher one. So nothing is
    written from here to the end of the transaction.
    """
    if connection.dialect.name == "postgresql":
        await connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_ARRIVALS)))
    return (await connection.execute(sa.select(sa.func.max(events.c.seq)))).scalar() or 0


def in_one_order(received: Iterable[Received]) -> list[Received]:
    """In the same order in every replica: two that keep the same then wait for, and do not block, each other."""
    return sorted(received, key=lambda each: (each.envelope.id, each.topic, each.envelope.failuresubscription))


def _event(received: Received, now: datetime) -> dict[str, Any]:
    about = _about(received.envelope)
    return {
        **about,
        "key": key(about["source"], about["id"], str(about["version"]), received.topic),
        "topic": received.topic,
        "happened": _seconds(received.envelope.time, now),
        "received": now.timestamp(),
        **stored(received.body),
    }


async def keep_dead_letter(connection: AsyncConnection, received: Received, now: datetime) -> None:
    """Keep a dead letter; where the same subscription failed on the same event again, it is open again."""
    row = _dead_letter(received, now)
    is_new = await insert_new(connection, failures, {"key": _failure(row["key"], received.envelope)})
    if await insert_new(connection, dead_letters, row):
        return
    found = await confirming.locked(connection, dead_letters.c.key == row["key"])
    if found is not None:
        await _failed_again(connection, found, row, received.envelope.replayid, is_new=is_new)


async def _failed_again(
    connection: AsyncConnection, found: sa.RowMapping, row: dict[str, Any], replay_id: str, *, is_new: bool
) -> None:
    """Open a dead letter again for a new failure.

    A replay's failure may be known from its confirmation already: the letter then adds only the details.
    """
    if is_new and not reopens(found["state"], is_earlier=await confirming.is_earlier(connection, found, replay_id)):
        return
    if not is_new and (not replay_id or found["replay_id"] != replay_id or found["state"] not in ("open", "sent")):
        return
    changed = {name: value for name, value in row.items() if name not in _UNCHANGED}
    again = sa.update(dead_letters).where(dead_letters.c.seq == found["seq"])
    await connection.execute(again.values(**changed, failures=dead_letters.c.failures + int(is_new)))
    if replay_id:
        await confirming.note_outcome(connection, replay_id, "failed", row["reason"])
    if is_new:
        await note(
            connection,
            datetime.fromtimestamp(row["received"], UTC),
            row["app"],
            "failed again",
            f"deadletter/{found['seq']}",
            row["reason"],
        )


def _dead_letter(received: Received, now: datetime) -> dict[str, Any]:
    letter = received.envelope
    about = {**_about(letter), "id": storable(letter.originalid or letter.id)}
    app = received.topic.removeprefix(_DEAD_LETTER_TOPIC)
    known = Attribution(letter.failuresubscription, letter.failurereason)
    if not letter.failuresubscription and not letter.failurereason:
        known = attribute(letter, app, readers_of(settings().map))
    subscription = storable(known.subscription)
    return {
        **about,
        "key": key(app, subscription, about["source"], about["id"], str(about["version"])),
        "app": app,
        "subscription": subscription,
        "topic": storable(letter.failuretopic or letter.topic),
        "reason": storable(known.reason or UNKNOWN_REASON),
        "error": storable(letter.failureclass),
        "attempts": number(letter.failureattempts),
        "first": storable(letter.failurefirst),
        "last": storable(letter.failurelast),
        "failures": 1,
        "state": "open",
        "received": now.timestamp(),
        **stored(received.body),
    }


def _failure(letter: str, envelope: Envelope) -> str:
    """Return the key of one failure. The kit gives each a letter with an id of its own, and another one per replay."""
    if envelope.replayid:
        return confirming.failure_of(letter, envelope.replayid)
    own = (envelope.id, "") if envelope.originalid else ("", envelope.failurelast)
    return key(letter, *own)


def _about(envelope: Envelope) -> dict[str, Any]:
    return {
        "id": storable(envelope.id),
        "version": number(envelope.version),
        "type": storable(envelope.type),
        "source": storable(envelope.source),
        "subject": storable(envelope.subject),
        "correlation_id": storable(envelope.correlationid),
    }


def _seconds(time: str, now: datetime) -> float:
    """When an event happened: as its producer says, else as late as it can have been."""
    try:
        said = datetime.fromisoformat(time)
    except ValueError:
        return now.timestamp()
    return said.timestamp() if said.tzinfo else now.timestamp()
