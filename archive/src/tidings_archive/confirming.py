"""What consumers confirm of replayed events. The state of a dead letter follows from it, and from no clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from tidings.outbox.sql import insert_new
from tidings_archive.auditing import note
from tidings_archive.domain.deadletter import state_after
from tidings_archive.events import RecordReplayOutcome
from tidings_archive.storing import key, storable
from tidings_archive.tables import dead_letters, failures, letter_replays, replays


async def record(connection: AsyncConnection, confirmed: Iterable[RecordReplayOutcome], now: datetime) -> None:
    """Record what became of replayed events; those of a replay that nobody knows are not for us."""
    counts: Counter[tuple[str, str]] = Counter()
    for each in sorted(confirmed, key=lambda one: one.replay_id):
        if not await _of_letter(connection, each, now):
            counts[storable(each.replay_id), each.outcome] += 1
    for (replay_id, outcome), count in sorted(counts.items()):
        counted = replays.c[outcome]
        await connection.execute(sa.update(replays).where(replays.c.id == replay_id).values({outcome: counted + count}))


async def _of_letter(connection: AsyncConnection, confirmed: RecordReplayOutcome, now: datetime) -> bool:
    """Return whether it is a dead letter's replay; if so, the letter is changed."""
    replay_id, reason = storable(confirmed.replay_id), storable(confirmed.reason)
    wanted = sa.select(letter_replays.c.letter).where(letter_replays.c.id == replay_id)
    number = (await connection.execute(wanted)).scalar()
    if number is None:
        return False
    letter = await locked(connection, dead_letters.c.seq == number)
    if letter is None or letter["id"] != storable(confirmed.event_id):
        return True
    await note_outcome(connection, replay_id, confirmed.outcome, reason)
    failed = confirmed.outcome == "failed"
    # The letter of this failure may have come first.
    is_news = not failed or await insert_new(connection, failures, {"key": failure_of(letter["key"], replay_id)})
    changed: dict[str, Any] = {}
    if after := state_after(letter["state"], letter["replay_id"], replay_id, confirmed.outcome):
        changed["state"] = after
    if failed and is_news:
        changed |= {"failures": letter["failures"] + 1, "reason": reason or letter["reason"]}
    if changed:
        await connection.execute(sa.update(dead_letters).where(dead_letters.c.seq == number).values(**changed))
    if is_news:
        action = "failed again" if failed else confirmed.outcome
        await note(connection, now, letter["app"], action, f"deadletter/{number}", reason)
    return True


async def note_outcome(connection: AsyncConnection, replay_id: str, outcome: str, reason: str) -> None:
    """Write what became of a dead letter's replay; that it was handled is final."""
    this = sa.and_(letter_replays.c.id == replay_id, letter_replays.c.outcome != "handled")
    await connection.execute(sa.update(letter_replays).where(this).values(outcome=outcome, reason=reason))


async def is_earlier(connection: AsyncConnection, letter: sa.RowMapping, replay_id: str) -> bool:
    """Return whether a replay is one of a dead letter's, but not its latest."""
    wanted = sa.select(letter_replays.c.id).where(
        letter_replays.c.id == storable(replay_id), letter_replays.c.letter == letter["seq"]
    )
    return letter["replay_id"] != replay_id and (await connection.execute(wanted)).first() is not None


async def locked(connection: AsyncConnection, which: sa.ColumnElement[bool]) -> sa.RowMapping | None:
    """Return one dead letter, which nobody else changes until the transaction ends."""
    found = await connection.execute(sa.select(dead_letters).where(which).with_for_update())
    return found.mappings().one_or_none()


def failure_of(letter: str, replay_id: str) -> str:
    """Return the key of the failure of one replay: the letter and the confirmation tell of the same one."""
    return key(letter, "replay", replay_id)
