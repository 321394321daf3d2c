"""The archive's migrations: with data, from replicas at once, and against the models."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
import sqlalchemy as sa
import stamina
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from tidings.errors import SidecarUnavailable
from tidings.outbox.sql import Database
from tidings_archive import migrations
from tidings_archive.tables import failures, metadata


@pytest_asyncio.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    made = Database(f"sqlite:///{tmp_path / 'archive.db'}")
    yield made
    await made.close()


async def test_a_database_at_the_head_keeps_its_data(database: Database) -> None:
    await database.create(migrations.upgrade)
    async with database.transaction() as connection:
        await connection.execute(sa.insert(failures).values(key="k"))
    await database.create(migrations.upgrade)
    async with database.connect(write=False) as connection:
        assert (await connection.execute(sa.select(failures.c.key))).scalars().all() == ["k"]
    assert await _revision(database) == _head()


async def test_models_and_migrations_agree(database: Database) -> None:
    await database.create(migrations.upgrade)
    async with database.connect(write=False) as connection:
        assert await connection.run_sync(differences) == []


async def test_replicas_that_start_at_the_same_time_migrate_a_single_time(tmp_path: Path) -> None:
    databases = [Database(f"sqlite:///{tmp_path / 'archive.db'}") for _ in range(3)]
    await asyncio.gather(*(_start(item) for item in databases))
    assert await _revision(databases[0]) == _head()
    for entry in databases:
        await entry.close()


async def _start(database: Database) -> None:
    """Migrate as a service does at start, which waits for a database that is locked."""
    async for attempt in stamina.retry_context(on=SidecarUnavailable, attempts=None, timeout=60.0):
        with attempt:
            await database.create(migrations.upgrade)


def differences(connection: sa.Connection) -> list[object]:
    """Return what a new migration would change."""
    options = {"include_name": migrations.is_compared}
    return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))


async def _revision(database: Database) -> str:
    async with database.connect(write=False) as connection:
        return str((await connection.execute(sa.text("SELECT version_num FROM archive_revision"))).scalar_one())


def _head() -> str | None:
    with sa.create_engine("sqlite://").connect() as connection:
        return ScriptDirectory.from_config(migrations.config(connection)).get_current_head()
