"""Consume and inbox in lists (`Handlers.batch`), against one transaction for each event.

Both sides are the SDK, from a delivery's bytes to its answer: the inbox entry and a row of the handler's own, in one
durable transaction, with the same number of deliveries under way.
"""

from __future__ import annotations

import asyncio
import itertools
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from rounds import Comparison, compare

from tidings import Event, Handlers, Service, event
from tidings.outbox.table import SqlContext, TableOutbox
from tidings.testing import MemorySidecar
from tidings_cli.testing.programs import Ports, postgres_server, public_folder

UNDER_WAY = 64
EVENTS = {"together": 3_000, "one by one": 300}
SETTINGS = {
    "SQLite": "SQLite, WAL, synchronous=FULL: a commit is on disk",
    "PostgreSQL": "PostgreSQL, fsync on, synchronous_commit on, 10 to 20 connections",
}
PATH = "/events/shop.itemSold.v1"
BODY = (
    '{"id":"%s","source":"shop","type":"shop.itemSold","specversion":"1.0","version":"1","subject":"s",'
    '"datacontenttype":"application/json","correlationid":"c","data":{"number":%d}}'
)
metadata = sa.MetaData()
sales = sa.Table("sales", metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("number", sa.Integer))
numbers = itertools.count()


@event("shop.itemSold")
class Sold(Event):
    number: int


async def one(sold: Sold, context: SqlContext) -> None:
    await context.connection.execute(sa.insert(sales), {"number": sold.number})


async def many(events: list[Sold], context: SqlContext) -> None:
    await context.connection.execute(sa.insert(sales), [{"number": event.number} for event in events])


@asynccontextmanager
async def shop(url: str, side: str) -> AsyncIterator[Service]:
    handlers = Handlers()
    handlers.batch(Sold, batch_size=UNDER_WAY)(many) if side == "together" else handlers.on(Sold)(one)
    service = Service("shop", handlers, sidecar=MemorySidecar("shop"), outbox=TableOutbox.on(url, tables=metadata))
    await service.start()
    await service.execute(counted, None)  # waits for the tables
    yield service
    await service.stop()


async def counted(_: None, context: SqlContext) -> int:
    return int((await context.connection.execute(sa.select(sa.func.count()).select_from(sales))).scalar_one())


async def consumed(url: str, side: str) -> float:
    """Events a second."""
    async with shop(url, side) as service:
        before = await service.execute(counted, None)
        waiting = iter(range(EVENTS[side]))

        async def deliver() -> None:
            for _ in waiting:
                number = next(numbers)
                body = (BODY % (f"{side}-{number}", number)).encode()
                while await service.ingress.deliver(PATH, body) != b'{"status":"SUCCESS"}':
                    pass  # the database was too busy to answer in time: as a sidecar does, again

        began = time.perf_counter()
        await asyncio.gather(*(deliver() for _ in range(UNDER_WAY)))
        seconds = time.perf_counter() - began
        assert await service.execute(counted, None) - before == EVENTS[side]
    return EVENTS[side] / seconds


async def on(kind: str, url: str) -> Comparison:
    def side(name: str) -> Any:
        return lambda: consumed(url, name)

    return await compare(
        f"consume and inbox, {kind}",
        {"together": side("together"), "one by one": side("one by one")},
        unit="events/s",
        bar="at least 5x",
        target=5,
        settings=f"{SETTINGS[kind]}; {UNDER_WAY} deliveries under way on both sides",
    )


async def run() -> list[Comparison]:
    """Measure on both databases."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ports, public = stack.enter_context(Ports()), stack.enter_context(public_folder())
        postgres = stack.enter_context(postgres_server(public, ports.take(), "fsync=on", "synchronous_commit=on"))
        return [await on("SQLite", f"sqlite:///{folder}/shop.db"), await on("PostgreSQL", postgres)]


if __name__ == "__main__":
    for comparison in asyncio.run(run()):
        print(comparison.row())
