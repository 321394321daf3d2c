"""Records the outcomes of replays that consumers confirm. They alone decide the state of a replayed dead letter."""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from tidings.outbox.sql import insert_new
from tidings_archive import audit_log
from tidings_archive.domain.deadletter import state_after
from tidings_archive.events import RecordReplayOutcome
from tidings_archive.storage import hash_key, sanitize
from tidings_archive.tables import dead_letters, failures, letter_replays, replays


async def record_outcomes(connection: AsyncConnection, outcomes: Iterable[RecordReplayOutcome], now: datetime) -> None:
    """Record outcomes of replayed events. Outcomes of an unknown replay are ignored."""
    counts: Counter[tuple[str, str]] = Counter()
    for confirmed in sorted(outcomes, key=lambda outcome: outcome.replay_id):
        if not await _record_letter_outcome(connection, confirmed, now):
            counts[sanitize(confirmed.replay_id), confirmed.outcome] += 1
    for (replay_id, outcome), count in sorted(counts.items()):
        counted = replays.c[outcome]
        await connection.execute(sa.update(replays).where(replays.c.id == replay_id).values({outcome: counted + count}))


async def _record_letter_outcome(connection: AsyncConnection, confirmed: RecordReplayOutcome, now: datetime) -> bool:
    """Update the dead letter that was replayed; return False if the replay was not one of a dead letter."""
    replay_id, reason = sanitize(confirmed.replay_id), sanitize(confirmed.reason)
    query = sa.select(letter_replays.c.letter).where(letter_replays.c.id == replay_id)
    number = (await connection.execute(query)).scalar()
    if number is None:
        return False
    letter = await lock_letter(connection, dead_letters.c.seq == number)
    if letter is None or letter["id"] != sanitize(confirmed.event_id):
        return True
    await set_replay_outcome(connection, replay_id, confirmed.outcome, reason)
    failed = confirmed.outcome == "failed"
    # The dead letter of this failure may have arrived before the confirmation.
    is_new = not failed or await insert_new(connection, failures, {"key": replay_failure_key(letter["key"], replay_id)})
    changed: dict[str, Any] = {}
    if after := state_after(letter["state"], letter["replay_id"], replay_id, confirmed.outcome):
        changed["state"] = after
    if failed and is_new:
        changed |= {"failures": letter["failures"] + 1, "reason": reason or letter["reason"]}
    if changed:
        await connection.execute(sa.update(dead_letters).where(dead_letters.c.seq == number).values(**changed))
    if is_new:
        action = "failed again" if failed else confirmed.outcome
        await audit_log.record(connection, now, letter["app"], action, f"deadletter/{number}", reason)
    return True


async def set_replay_outcome(connection: AsyncConnection, replay_id: str, outcome: str, reason: str) -> None:
    """Set the outcome of a dead letter's replay; `handled` is final."""
    this = sa.and_(letter_replays.c.id == replay_id, letter_replays.c.outcome != "handled")
    await connection.execute(sa.update(letter_replays).where(this).values(outcome=outcome, reason=reason))


async def is_superseded(connection: AsyncConnection, letter: sa.RowMapping, replay_id: str) -> bool:
    """Return whether a replay belongs to a dead letter and is not its latest one."""
    query = sa.select(letter_replays.c.id).where(
        letter_replays.c.id == sanitize(replay_id), letter_replays.c.letter == letter["seq"]
    )
    return letter["replay_id"] != replay_id and (await connection.execute(query)).first() is not None


async def lock_letter(connection: AsyncConnection, condition: sa.ColumnElement[bool]) -> sa.RowMapping | None:
    """Return a dead letter, locked until the transaction ends."""
    result = await connection.execute(sa.select(dead_letters).where(condition).with_for_update())
    return result.mappings().one_or_none()


def replay_failure_key(letter_key: str, replay_id: str) -> str:
    """Return the key of a replay's failure, shared by its dead letter and its confirmation."""
    return hash_key(letter_key, "replay", replay_id)
