"""Databases of a test's own on a PostgreSQL that tests share."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
import sqlalchemy as sa


@asynccontextmanager
async def own_database(server: str) -> AsyncIterator[str]:
    """Create a database, give its URL, and drop it at the end, whoever is connected to it."""
    name = f"test_{uuid.uuid4().hex}"
    async with await psycopg.AsyncConnection.connect(server, autocommit=True) as admin:
        await admin.execute(f'create database "{name}"')
        try:
            yield sa.make_url(server).set(database=name).render_as_string()
        finally:
            await admin.execute(f'drop database "{name}" with (force)')
