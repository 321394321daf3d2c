"""Notify owners: one event for each matter, and a message to the webhook, with a silence period in between.

The record of what was sent is a row per matter, written in the transaction that publishes the event. So the operator
may repeat its notices as often as it likes, and both it and the archive may restart.
"""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from tidings import Service
from tidings.messages.events import message_type
from tidings.outbox.sql import Database, insert_new
from tidings.outbox.table import SqlContext
from tidings_archive import deadletters
from tidings_archive.attribution import load_subscriptions
from tidings_archive.domain.notice import describe, is_silent, matter
from tidings_archive.event_queries import format_time
from tidings_archive.events import DeadLettersAccumulated, Notice, Owner
from tidings_archive.settings import ArchiveSettings, settings
from tidings_archive.storage import hash_key, sanitize
from tidings_archive.tables import notices

LOOK = 60.0
"""Seconds between counts of the dead letters."""
KEPT = timedelta(days=400)
"""How long a matter is remembered after its last notice."""


async def notify(notice: Notice, context: SqlContext) -> bool:
    """Publish a notice, unless its matter was notified within the silence period; return whether it was published."""
    connection, now, chosen = context.connection, context.now, settings()
    kind, message = message_type(type(notice)).name, describe(notice)
    identity = hash_key(kind, *matter(notice))
    changed: dict[str, Any] = {
        "title": sanitize(message.title),
        "text": sanitize(message.text),
        "owners": sanitize(message.owners),
        "sent": now.timestamp(),
        "due": now.timestamp() if chosen.notice_webhook else None,
        "attempts": 0,
        "error": "",
    }
    first = {"key": identity, "type": kind, "first": now.timestamp(), "times": 1}
    if not await insert_new(connection, notices, {**first, **changed}):
        same = notices.c.key == identity
        last = (await connection.execute(sa.select(notices.c.sent).where(same).with_for_update())).scalar_one()
        if is_silent(kind, datetime.fromtimestamp(last, UTC), now, chosen.notice_silence):
            return False
        await connection.execute(sa.update(notices).where(same).values(**changed, times=notices.c.times + 1))
    context.publish(notice)
    return True


async def watch_dead_letters(service: Service, database: Database) -> None:
    """Notify owners of apps whose dead letters have reached the limit, until cancelled."""
    while settings().notice_dead_letters:
        await check_dead_letters(service, database, settings())
        await asyncio.sleep(LOOK)


async def check_dead_letters(service: Service, database: Database, chosen: ArchiveSettings) -> None:
    """Notify owners of apps whose dead letters have reached the limit, and forget old matters."""
    async with database.connect(write=False) as connection:
        waiting = await deadletters.count_open_by_app(connection)
    for app, count in waiting.items():
        if count >= chosen.notice_dead_letters:
            readers = [reader for reader in load_subscriptions(chosen.map) if reader.app == app and reader.owner]
            own = sorted({(reader.owner[:253], reader.contact[:2000]) for reader in readers})
            notice = DeadLettersAccumulated(
                namespace=chosen.namespace,
                app=app[:253],
                count=count,
                threshold=chosen.notice_dead_letters,
                owners=tuple(Owner(name=name, contact=contact) for name, contact in own)[:100],
            )
            await service.execute(notify, notice)
    await service.execute(_forget, KEPT)


async def _forget(age: timedelta, context: SqlContext) -> None:
    old = notices.c.sent < (context.now - age).timestamp()
    await context.connection.execute(sa.delete(notices).where(old))


async def latest(connection: AsyncConnection, limit: int) -> list[dict[str, Any]]:
    """Return the latest notices, the latest first."""
    rows = await connection.execute(
        sa.select(notices).order_by(notices.c.sent.desc(), notices.c.seq.desc()).limit(limit)
    )
    return [
        {
            "type": row.type,
            "title": row.title,
            "text": row.text,
            "owners": row.owners,
            "times": row.times,
            "firstAt": format_time(row.first),
            "sentAt": format_time(row.sent),
            "webhook": _webhook_state(row),
            "webhookError": row.error or None,
        }
        for row in rows
    ]


def _webhook_state(row: sa.Row[Any]) -> str:
    if row.due is not None:
        return "pending"
    if row.error:
        return "failed"
    return "sent" if row.attempts else "none"
