"""Writes what arrives: events once, dead letters once for each subscription and event."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from archive.auditing import note
from archive.domain.deadletter import UNKNOWN_REASON, Standing, fails_again
from archive.tables import dead_letters, events
from tidings import Received
from tidings.envelope import Envelope
from tidings.sql import insert_all_new, insert_new

_DEAD_LETTER_TOPIC = "deadletter."


async def keep_events(connection: AsyncConnection, received: Iterable[Received], now: datetime) -> None:
    """Keep events whole; the same version of one from the same topic only once."""
    await insert_all_new(connection, events, [_event(each, now) for each in in_one_order(received)])


def in_one_order(received: Iterable[Received]) -> list[Received]:
    """In the same order in every replica: two that keep the same then wait for, and do not block, each other."""
    return sorted(received, key=lambda each: (each.envelope.id, each.topic, each.envelope.failuresubscription))


def _event(received: Received, now: datetime) -> dict[str, Any]:
    return {
        **_about(received.envelope),
        "topic": received.topic,
        "happened": _seconds(received.envelope.time, now),
        "received": now.timestamp(),
        "body": _text(received.body),
    }


async def keep_dead_letter(connection: AsyncConnection, received: Received, now: datetime) -> None:
    """Keep a dead letter; where the same subscription failed on the same event again, it is open again."""
    letter = received.envelope
    row = {
        **_about(letter),
        "app": received.topic.removeprefix(_DEAD_LETTER_TOPIC),
        "subscription": letter.failuresubscription,
        "topic": letter.failuretopic or letter.topic,
        "reason": letter.failurereason or UNKNOWN_REASON,
        "error": letter.failureclass,
        "attempts": int(letter.failureattempts) if letter.failureattempts.isdecimal() else 0,
        "first": letter.failurefirst,
        "last": letter.failurelast,
        "failures": 1,
        "state": "open",
        "received": now.timestamp(),
        "body": _text(received.body),
    }
    if not await insert_new(connection, dead_letters, row):
        await _failed_again(connection, row, now)


async def _failed_again(connection: AsyncConnection, row: dict[str, Any], now: datetime) -> None:
    key = [dead_letters.c[name] == row[name] for name in ("app", "subscription", "id", "version")]
    found = (await connection.execute(sa.select(dead_letters).where(*key).with_for_update())).mappings().one()
    if not fails_again(Standing(found["state"], found["subscription"], found["last"]), row["last"]):
        return
    changed = {name: row[name] for name in ("reason", "error", "attempts", "last", "state", "received", "body")}
    again = sa.update(dead_letters).where(dead_letters.c.seq == found["seq"])
    await connection.execute(again.values(**changed, failures=dead_letters.c.failures + 1))
    await note(connection, now, row["app"], "failed again", f"deadletter/{found['seq']}", row["reason"])


def _about(envelope: Envelope) -> dict[str, Any]:
    return {
        "id": envelope.id,
        "version": int(envelope.version) if envelope.version.isdecimal() else 0,
        "type": envelope.type,
        "source": envelope.source,
        "subject": envelope.subject,
        "correlation_id": envelope.correlationid,
    }


def _seconds(time: str, now: datetime) -> float:
    """When an event happened: as its producer says, else as late as it can have been."""
    try:
        said = datetime.fromisoformat(time)
    except ValueError:
        return now.timestamp()
    return said.timestamp() if said.tzinfo else now.timestamp()


def _text(body: bytes) -> str:
    """The body as text that every database takes: PostgreSQL knows no NUL, which JSON has only escaped."""
    return body.decode(errors="replace").replace("\0", "\ufffd")
