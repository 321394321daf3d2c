"""Databases of a test's own on a PostgreSQL that tests share."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
import sqlalchemy as sa

_SLOTS = "from pg_replication_slots where database = %s"
_END = (
    f"select pg_terminate_backend(active_pid) {_SLOTS} and active",
    f"select pg_drop_replication_slot(slot_name) {_SLOTS} and not active",
)


@asynccontextmanager
async def own_database(server: str) -> AsyncIterator[str]:
    """Create a database, yield its URL, and drop it with its replication slots at the end, despite open connections."""
    name = f"test_{uuid.uuid4().hex}"
    async with await psycopg.AsyncConnection.connect(server, autocommit=True) as admin:
        await admin.execute(f'create database "{name}"')
        try:
            yield sa.make_url(server).set(database=name).render_as_string()
        finally:
            await drop_slots(admin, name)
            await admin.execute(f'drop database "{name}" with (force)')


async def drop_slots(admin: psycopg.AsyncConnection, database: str) -> None:
    """Drop the replication slots of a database; a session that has ended holds its slot for a moment longer."""
    async with asyncio.timeout(60):
        while await (await admin.execute(f"select 1 {_SLOTS}", [database])).fetchone():
            for statement in _END:
                await admin.execute(statement, [database])
            await asyncio.sleep(0.01)
