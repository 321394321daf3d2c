"""Stores incoming events once, and dead letters once per subscription and event."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from tidings import Received
from tidings.conventions import DEAD_LETTER_PREFIX
from tidings.messages.envelope import Envelope
from tidings.outbox.sql import insert_all_new, insert_new
from tidings_archive import audit_log, replay_outcomes
from tidings_archive.attribution import Attribution, attribute, load_subscriptions
from tidings_archive.domain.deadletter import UNKNOWN_REASON, reopens
from tidings_archive.fulltext import words_of
from tidings_archive.settings import settings
from tidings_archive.storage import body_columns, hash_key, parse_count, sanitize
from tidings_archive.tables import INDEXED, dead_letters, events, failures

_SEQUENCE_LOCK = 0x61726368  # id of an advisory lock of PostgreSQL
_UNCHANGED = ("key", "app", "subscription", "id", "version", "first", "failures")


async def record_events(connection: AsyncConnection, received: Iterable[Received], now: datetime) -> None:
    """Store events unchanged, each once per version and topic."""
    if connection.dialect.name == "postgresql":
        await connection.execute(sa.select(sa.func.pg_advisory_xact_lock_shared(_SEQUENCE_LOCK)))
    await insert_all_new(connection, events, [_event_row(event, now) for event in sorted_by_identity(received)])


async def latest_sequence_number(connection: AsyncConnection) -> int:
    """Return the sequence number of the latest event, once all events up to it are visible.

    PostgreSQL numbers rows before they are committed, so a lower number may appear after a higher one. The lock keeps
    other transactions from inserting events until this one ends.
    """
    if connection.dialect.name == "postgresql":
        await connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_SEQUENCE_LOCK)))
    return (await connection.execute(sa.select(sa.func.max(events.c.seq)))).scalar() or 0


def sorted_by_identity(received: Iterable[Received]) -> list[Received]:
    """Sort events identically in every replica, so that two replicas storing the same ones cannot deadlock."""
    return sorted(received, key=lambda event: (event.envelope.id, event.topic, event.envelope.failuresubscription))


def _event_row(received: Received, now: datetime) -> dict[str, Any]:
    attributes = _attribute_columns(received.envelope)
    body = body_columns(received.body)
    searched = (*(attributes[name] for name in ("type", "source", "subject", "correlation_id")), received.topic)
    return {
        **attributes,
        "type": attributes["type"][:INDEXED],
        "source": attributes["source"][:INDEXED],
        "key": hash_key(attributes["source"], attributes["id"], str(attributes["version"]), received.topic),
        "topic": received.topic[:INDEXED],
        "happened": _event_time(received.envelope.time, now),
        "received": now.timestamp(),
        "words": words_of(body["body"], *searched),
        **body,
    }


async def record_dead_letter(connection: AsyncConnection, received: Received, now: datetime) -> None:
    """Store a dead letter, or reopen it if the same subscription has failed on the same event again."""
    row = _dead_letter_row(received, now)
    is_new = await insert_new(connection, failures, {"key": _failure_key(row["key"], received.envelope)})
    if await insert_new(connection, dead_letters, row):
        return
    letter = await replay_outcomes.lock_letter(connection, dead_letters.c.key == row["key"])
    if letter is not None:
        await _reopen(connection, letter, row, received.envelope.replayid, is_new=is_new)


async def _reopen(
    connection: AsyncConnection, letter: sa.RowMapping, row: dict[str, Any], replay_id: str, *, is_new: bool
) -> None:
    """Reopen a dead letter after a new failure.

    If the confirmation of a replay has already recorded this failure, the letter only adds the details.
    """
    is_superseded = await replay_outcomes.is_superseded(connection, letter, replay_id)
    if is_new and not reopens(letter["state"], is_superseded=is_superseded):
        return
    if not is_new and (not replay_id or letter["replay_id"] != replay_id or letter["state"] not in ("open", "sent")):
        return
    changed = {name: value for name, value in row.items() if name not in _UNCHANGED}
    again = sa.update(dead_letters).where(dead_letters.c.seq == letter["seq"])
    await connection.execute(again.values(**changed, failures=dead_letters.c.failures + int(is_new)))
    if replay_id:
        await replay_outcomes.set_replay_outcome(connection, replay_id, "failed", row["reason"])
    if is_new:
        await audit_log.record(
            connection,
            datetime.fromtimestamp(row["received"], UTC),
            row["app"],
            "failed again",
            f"deadletter/{letter['seq']}",
            row["reason"],
        )


def _dead_letter_row(received: Received, now: datetime) -> dict[str, Any]:
    envelope = received.envelope
    attributes = {**_attribute_columns(envelope), "id": sanitize(envelope.originalid or envelope.id)}
    app = received.topic.removeprefix(DEAD_LETTER_PREFIX)
    attribution = Attribution(envelope.failuresubscription, envelope.failurereason)
    if not envelope.failuresubscription and not envelope.failurereason:
        attribution = attribute(envelope, app, load_subscriptions(settings().map))
    subscription = sanitize(attribution.subscription)
    return {
        **attributes,
        "key": hash_key(app, subscription, attributes["source"], attributes["id"], str(attributes["version"])),
        "app": app,
        "subscription": subscription,
        "topic": sanitize(envelope.origin),
        "reason": sanitize(attribution.reason or UNKNOWN_REASON),
        "error": sanitize(envelope.failureclass),
        "attempts": parse_count(envelope.failureattempts),
        "first": sanitize(envelope.failurefirst),
        "last": sanitize(envelope.failurelast),
        "failures": 1,
        "state": "open",
        "received": now.timestamp(),
        **body_columns(received.body),
    }


def _failure_key(letter_key: str, envelope: Envelope) -> str:
    """Return the key of one failure. The SDK gives each failure a dead letter with its own id."""
    if envelope.replayid:
        return replay_outcomes.replay_failure_key(letter_key, envelope.replayid)
    parts = (envelope.id, "") if envelope.originalid else ("", envelope.failurelast)
    return hash_key(letter_key, *parts)


def _attribute_columns(envelope: Envelope) -> dict[str, Any]:
    return {
        "id": sanitize(envelope.id),
        "version": parse_count(envelope.version),
        "type": sanitize(envelope.type),
        "source": sanitize(envelope.source),
        "subject": sanitize(envelope.subject),
        "correlation_id": sanitize(envelope.correlationid),
    }


def _event_time(time: str, now: datetime) -> float:
    """Return the producer's time of an event, or the time of arrival if that one is missing or invalid."""
    try:
        parsed = datetime.fromisoformat(time)
    except ValueError:
        return now.timestamp()
    return parsed.timestamp() if parsed.tzinfo else now.timestamp()
