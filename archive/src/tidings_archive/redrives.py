"""Redrives: replays of the dead letters that match a filter, step by step at a rate, as `replays` sends events.

A redrive sends each dead letter that was open when it was requested, and is still open, at most once. Its id is the
batch of the dead letters that it sends.
"""

from dataclasses import dataclass
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from tidings.outbox.table import SqlContext
from tidings_archive import deadletters, replays
from tidings_archive.commands import ContinueRedrive
from tidings_archive.domain.deadletter import DeadLetterError, LetterFilter
from tidings_archive.domain.replay import pace
from tidings_archive.replays import DEAD_LETTERS, EVERY_SUBSCRIPTION
from tidings_archive.tables import dead_letters

EVERY_APP = "*"


@dataclass(frozen=True, slots=True)
class RedriveOrder:
    """A request for a redrive of the open dead letters that match a filter, and who made it."""

    replay_id: str
    letter_filter: LetterFilter
    rate: float | None
    by: str


async def start(order: RedriveOrder, context: SqlContext) -> dict[str, Any]:
    """Start a redrive. An existing one with the same id is returned unchanged.

    Raises:
        ReplayError: The id or the rate is invalid.

    """
    replays.check_name("replayId", order.replay_id)
    rate, connection, letter_filter = replays.limit_rate(order.rate), context.connection, order.letter_filter
    if await replays.find(connection, order.replay_id) is not None:
        return await replays.get_replay(connection, order.replay_id)
    last = (await connection.execute(sa.select(sa.func.max(dead_letters.c.seq)))).scalar() or 0
    row = {
        "id": order.replay_id,
        "kind": DEAD_LETTERS,
        "consumer": letter_filter.app or EVERY_APP,
        "subscription": letter_filter.subscription or EVERY_SUBSCRIPTION,
        "request": msgspec.json.encode(letter_filter).decode(),
        "rate": rate,
        "matched": sum((await preview(connection, letter_filter)).values()),
        "closes": last,
    }
    chosen = [f"{name} {value}" for name, value in msgspec.to_builtins(letter_filter).items() if value is not None]
    detail = f"{row['matched']} dead letters, at most {rate:g} per second: {', '.join(chosen) or 'all'}"
    await replays.record_start(context, row, order.by, "redrive", detail)
    context.schedule(ContinueRedrive(replay_id=order.replay_id))
    return await replays.get_replay(connection, order.replay_id)


async def preview(connection: AsyncConnection, letter_filter: LetterFilter) -> dict[str, int]:
    """Count the open dead letters that a redrive would send, by subscription; an empty name: none is recorded."""
    subscription = dead_letters.c.subscription
    counted = sa.select(subscription, sa.func.count()).where(*_open(letter_filter))
    rows = await connection.execute(counted.group_by(subscription).order_by(subscription))
    return {name: int(count) for name, count in rows}


async def send_next(step: ContinueRedrive, context: SqlContext) -> None:
    """Send the next dead letters of a redrive, or end it."""
    await replays.advance(step, context, _step)


async def _step(context: SqlContext, row: sa.RowMapping) -> tuple[bool, bool]:
    """Send the next dead letters; return whether there were any, and whether there are no more."""
    letter_filter = msgspec.json.decode(row["request"], type=LetterFilter)
    number = dead_letters.c.seq
    following = (number > row["reached"], number <= row["closes"])
    query = sa.select(number).where(*_open(letter_filter), *following).order_by(number).limit(pace(row["rate"]).events)
    numbers = (await context.connection.execute(query)).scalars().all()
    # Locked separately: PostgreSQL leaves out rows that another transaction changes meanwhile, though more follow.
    locked = sa.select(dead_letters).where(number.in_(numbers), dead_letters.c.state == "open").order_by(number)
    letters = (await context.connection.execute(locked.with_for_update())).mappings().all()
    sent, skipped = [], []
    for letter in letters:
        try:
            sent.append(_prepare(letter))
        except DeadLetterError as error:
            skipped.append(f"dead letter {letter['seq']}: {error}")
    await deadletters.send(context, sent, row["requested_by"], row["id"])
    if numbers:
        await replays.record_progress(context, row, len(sent), skipped, numbers[-1])
    return bool(letters), not numbers


def _prepare(letter: sa.RowMapping) -> deadletters.PreparedReplay:
    if not letter["version"] and letter["error"]:  # an app without the SDK may read an event without a version
        raise DeadLetterError("no version could be read, so no handler would take it: discard it")
    return deadletters.prepare_replay(letter, None)


def _open(letter_filter: LetterFilter) -> list[sa.ColumnElement[bool]]:
    return [dead_letters.c.state == "open", *deadletters.conditions_for(letter_filter)]
