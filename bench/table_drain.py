"""How fast the table outbox drains, against one row at a time; and what recording an event costs a write.

Row at a time is what a first outbox does: read a row, publish it, delete it, commit. Publishing costs nothing on both
sides (a sidecar in memory), so what is compared is the work on the table.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from cpu_breakdown import cpu_breakdown
from rounds import Comparison, Section, compare

from tidings import Event, Service, event
from tidings.outbox.sql import Database
from tidings.outbox.table import SqlContext, TableOutbox
from tidings.outbox.table_schema import lanes, outbox
from tidings.testing import MemorySidecar
from tidings_cli.testing.programs import Ports, postgres_server, public_folder

ROWS, ONE_BY_ONE, WRITES, TASKS = 20_000, 150, 2_000, 4
DURABLE = ("fsync=on", "synchronous_commit=on", "full_page_writes=on")
SETTINGS = {
    "SQLite": "SQLite, WAL, commits synchronous=FULL (the outbox's bookkeeping NORMAL); publishing free",
    "PostgreSQL": "PostgreSQL, fsync and synchronous_commit on (off for the outbox's bookkeeping); publishing free",
    "PostgreSQL, fsync off": "PostgreSQL, fsync off, as no production has it: what is left is the processor's time",
}
EVENT = '{"id":"%d","source":"shop","type":"shop.itemSold","specversion":"1.0","subject":"s%d","data":{"price":950}}'
Work = Callable[[int, SqlContext], Awaitable[None]]
metadata = sa.MetaData()
sales = sa.Table("sales", metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("price", sa.Integer))


@event("shop.itemSold", subject="item")
class Sold(Event):
    item: str
    price: int


class Nowhere(MemorySidecar):
    """Sidecar that accepts and drops all events."""

    async def publish(self, topic: str, data: bytes, *, metadata: Any = None) -> None:
        pass

    async def publish_many(self, topic: str, events: Any) -> list[Any]:  # noqa: ARG002 - a port's signature
        return [None] * len(events)


def rows(count: int) -> list[dict[str, object]]:
    now = time.time()
    return [
        {"subject": f"s{n}", "topic": "shop.itemSold.v1", "event": EVENT % (n, n), "written": now} for n in range(count)
    ]


@asynccontextmanager
async def shop(url: str) -> AsyncIterator[Service]:
    service = Service("shop", sidecar=Nowhere("shop"), outbox=TableOutbox.on(url, tables=metadata))
    await service.start()
    await service.execute(start_up, None)
    yield service
    await service.stop()


async def insert(number: int, context: SqlContext) -> None:
    """Write a single row, the minimum for a unit of work."""
    await context.connection.execute(sa.insert(sales), {"price": number})


async def change(number: int, context: SqlContext) -> None:
    """Read and update a row, like most handlers."""
    mine = sales.c.id == number + 1
    price = (await context.connection.execute(sa.select(sales.c.price).where(mine).with_for_update())).scalar_one()
    await context.connection.execute(sa.update(sales).where(mine).values(price=price + 1))


def with_event(write: Work) -> Work:
    """Return the same unit of work, with an event."""

    async def write_and_publish(number: int, context: SqlContext) -> None:
        await write(number, context)
        context.publish(Sold(item=f"i{number}", price=number))

    return write_and_publish


async def start_up(_: None, context: SqlContext) -> None:
    """Do nothing; the first unit of work waits for the tables and the lanes."""


async def fill_abandoned_lane(database: Database, count: int) -> None:
    """Fill the lane of an instance that has ended."""
    async with database.transaction() as connection:
        gone = sa.insert(lanes).values(instance="gone", run="gone", until=0.0).returning(lanes.c.lane)
        lane = (await connection.execute(gone)).scalar_one()
        await connection.execute(sa.insert(outbox), [{**row, "lane": lane} for row in rows(count)])


async def drained(url: str) -> float:
    """Return rows per second with the SDK, from its start to the removal of the last row."""
    database = Database(url)
    await fill_abandoned_lane(database, ROWS)
    began = time.perf_counter()
    async with shop(url) as service:
        while service.outbox.depth:  # noqa: ASYNC110 - the outbox has no notification
            await asyncio.sleep(0.002)
        seconds = time.perf_counter() - began
    assert not await remaining(database)
    await database.close()
    return ROWS / seconds


async def one_by_one(url: str) -> float:
    """Return rows per second if each row is read, published, deleted and committed separately."""
    database, sidecar = Database(url), Nowhere("shop")
    await fill_abandoned_lane(database, ONE_BY_ONE)
    began = time.perf_counter()
    while True:
        async with database.transaction() as connection:
            first = sa.select(outbox).order_by(outbox.c.id).limit(1).with_for_update(skip_locked=True)
            row = (await connection.execute(first)).mappings().first()
            if row is None:
                break
            await sidecar.publish(row["topic"], row["event"].encode())
            await connection.execute(sa.delete(outbox).where(outbox.c.id == row["id"]))
    seconds = time.perf_counter() - began
    await database.close()
    return ONE_BY_ONE / seconds


async def remaining(database: Database) -> int:
    async with database.connect(write=False) as connection:
        return int((await connection.execute(sa.select(sa.func.count()).select_from(outbox))).scalar_one())


async def writes(service: Service, function: Work) -> float:
    """Return units of work per second with `TASKS` concurrent tasks."""
    numbers = iter(range(WRITES))

    async def work() -> None:
        for number in numbers:
            await service.execute(function, number)

    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(TASKS)))
    seconds = time.perf_counter() - began
    while service.outbox.depth:  # noqa: ASYNC110 - what is left to publish must not slow the other side
        await asyncio.sleep(0.002)
    return WRITES / seconds


async def draining(kind: str, url: str) -> Comparison:
    return await compare(
        f"table drain, {kind}",
        {"tidings": lambda: drained(url), "row at a time": lambda: one_by_one(url)},
        unit="rows/s",
        bar="at least 8x; 25,000 rows/s",
        target=8,
        least=25_000,
        settings=SETTINGS[kind],
    )


WHO_WORKS = f"""CPU time of a unit of work, {TASKS} at a time; for the rest of the time it waits for the disk.
The side with events includes the relay's reads and deletes, which many units of work share.

"""


async def writing(kind: str, url: str) -> list[Comparison | Section]:
    results: list[Comparison | Section] = []
    async with shop(url) as service:
        for what, write in (("a row inserted", insert), ("a row read and changed", change)):
            sides = {"with": partial(writes, service, with_event(write)), "without": partial(writes, service, write)}
            compared = await compare(
                f"write rate with outbox (table, {kind}), {what}",
                sides,
                unit="units of work/s",
                bar="at least 0.9x",
                target=0.9,
                settings=f"{SETTINGS[kind]}; {TASKS} at a time",
            )
            breakdown = Section(
                f"Table strategy, {kind}, {what}: CPU breakdown", WHO_WORKS + await cpu_breakdown(sides, WRITES)
            )
            results += [compared, breakdown]
    return results


async def on(kind: str, url: str) -> list[Comparison | Section]:
    async with shop(url):
        pass  # creates the tables
    return [await draining(kind, url), *await writing(kind, url)]


def on_postgres(stack: ExitStack, *durability: str) -> str:
    ports, public = stack.enter_context(Ports()), stack.enter_context(public_folder())
    return stack.enter_context(postgres_server(public, ports.take(), *durability))


async def run() -> list[Comparison | Section]:
    """Measure on both databases, and the writes also on a PostgreSQL that does not wait for the disk."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        hasty = on_postgres(stack)
        return [
            *await on("SQLite", f"sqlite:///{folder}/shop.db"),
            *await on("PostgreSQL", on_postgres(stack, *DURABLE)),
            *await writing("PostgreSQL, fsync off", hasty),
        ]


if __name__ == "__main__":
    for result in asyncio.run(run()):
        print(result.row() if isinstance(result, Comparison) else result.text)
