"""The processes of the conformance suites: what a dead one leaves to the others."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.conformance.processes import Process, owned

from tidings.outbox.sql import Database


@pytest.mark.parametrize("steps", range(8))
async def test_a_transaction_of_a_dead_process_is_rolled_back(tmp_path: Path, steps: int) -> None:
    """It may die in any step of its end, also when the task that closes its connection has not begun."""
    url = f"sqlite:///{tmp_path}/shop.db"
    theirs, own = Database(url), Database(url)
    asyncio.get_running_loop().set_task_factory(owned)
    process, writes = Process(), asyncio.Event()

    async def write() -> None:
        async with theirs.connect() as connection:
            await connection.execute(sa.text("create table orders (id)"))
            writes.set()

    with process.inside():
        writing = asyncio.ensure_future(write())
    await writes.wait()
    for _ in range(steps):
        await asyncio.sleep(0)
    await process.kill()
    await theirs.close()
    assert writing.done()
    async with own.transaction() as connection:
        await connection.execute(sa.text("create table orders (id)"))
    await own.close()
