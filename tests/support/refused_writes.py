"""Writes that a database will never take, through a real handler."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa
from tests.conformance.table import Counted, counted

from tidings import Handlers, Service
from tidings.consume.policy import Policy, RetryPolicy, SubscriptionPolicy
from tidings.outbox.table import SqlContext, TableOutbox
from tidings.testing import MemorySidecar

PATH = "/events/shop.itemCounted.v1"
SUCCESS = b'{"status":"SUCCESS"}'

_tables = sa.MetaData()
parents = sa.Table("refused_parents", _tables, sa.Column("id", sa.Integer, primary_key=True))
rows = sa.Table(
    "refused_rows",
    _tables,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("short", sa.String(5), sa.CheckConstraint("length(short) <= 5")),
    sa.Column("number", sa.SmallInteger, sa.CheckConstraint("number < 100")),
    sa.Column("big", sa.BigInteger),
    sa.Column("exact", sa.Numeric(4, 2)),
    sa.Column("at", sa.DateTime(timezone=True)),
    sa.Column("parent", sa.ForeignKey("refused_parents.id")),
)
late = sa.Table(
    "refused_late",
    _tables,
    sa.Column("parent", sa.ForeignKey("refused_parents.id", deferrable=True, initially="DEFERRED")),
)

Write = Callable[[SqlContext], Awaitable[object]]


def inserted(**values: Any) -> Write:
    """Return a write that inserts one row."""
    return lambda context: context.connection.execute(sa.insert(rows).values({"id": 2, "text": "", **values}))


def run(statement: str, **values: Any) -> Write:
    """Return a write that runs a statement."""
    return lambda context: context.connection.execute(sa.text(statement), values)


async def caught(context: SqlContext) -> None:
    """Insert a row that the database refuses only at the commit."""
    await context.connection.execute(sa.insert(late).values(parent=99))


ANYWHERE: dict[str, Write] = {
    "half a surrogate pair": inserted(text="a\ud800b"),
    "no text": inserted(text=None),
    "primary key": inserted(id=1),
    "check": inserted(number=100),
    "too long": inserted(short="x" * 6),
    "foreign key": inserted(parent=99),
    "deferred foreign key": caught,
    "number of 400 digits": inserted(big=10**400),
    "number of 20 digits": inserted(big=10**19),
    "no time": inserted(at="no time"),
    "no such parameter": inserted(text=object()),
    "no such table": run("insert into nowhere values (1)"),
    "no SQL": run("insert everything"),
    "parameter is missing": run("select :n"),
}
POSTGRESQL: dict[str, Write] = {
    "NUL": inserted(text="a\0b"),
    "no UTF-8": run(r"insert into refused_rows (id, text) values (2, convert_from('\xff'::bytea, 'UTF8'))"),
    "small integer": inserted(number=40_000),
    "numeric out of range": inserted(exact=1_000),
    "division by zero": run("select 1 / 0"),
    "no date": run("select cast(:text as date)", text="2026-02-30"),
    "several rows": run("select (select n from generate_series(1, 2) n)"),
    "no right": run("set role nobody_of_that_name"),
    "index row": run(
        "create table wide (t text primary key); "
        "insert into wide select string_agg(md5(n::text), '') from generate_series(1, 9000) n"
    ),
    "raised": run("do $$ begin raise exception 'never'; end $$"),
}  # fmt: skip
SQLITE: dict[str, Write] = {
    "mismatch": run("insert into refused_rows (id, text) values ('not a number', '')"),
    "too big": run("select zeroblob(2000000000)"),
    "raised": run("insert into refused_rows (id, text) values (json('no JSON'), '')"),
}


@asynccontextmanager
async def writing(url: str, write: Write) -> AsyncIterator[tuple[Service, MemorySidecar, list[int]]]:
    """Run a service whose handler writes; the last is the number of its attempts."""
    calls: list[int] = []
    handlers = Handlers()

    @handlers.on(Counted)
    async def handle(_message: Counted, context: SqlContext) -> None:
        calls.append(1)
        await write(context)

    policy = SubscriptionPolicy("sales", "shop.itemCounted", PATH, retry=RetryPolicy(max_retries=5))
    sidecar = MemorySidecar("shop")
    outbox = TableOutbox.on(url, tables=_tables)
    service = Service("shop", handlers, sidecar=sidecar, outbox=outbox, policy=Policy("shop", (policy,)))
    await service.start()
    try:
        yield service, sidecar, calls
    finally:
        await service.stop()


async def check_refused(url: str, write: Write) -> None:
    """Deliver an event whose handler's write is refused: one dead letter at once, and nothing of it stays."""
    async with writing(url, write) as (service, sidecar, calls):
        await service.execute(_add_first, None)
        assert await service.ingress.deliver(PATH, counted().encode()) == SUCCESS
        letters = sidecar.broker.events("deadletter.shop")
        assert [letter["failureattempts"] for letter in letters] == ["1"]
        assert letters[0]["failurereason"].startswith("database ")
        assert letters[0]["failureclass"] in {"StateRefused", "KeyTaken"}
        assert len(calls) == (3 if letters[0]["failureclass"] == "KeyTaken" else 1)
        assert await service.execute(_stored, None) == [1]


async def _add_first(_message: None, context: SqlContext) -> None:
    await context.connection.execute(sa.delete(rows))
    await context.connection.execute(sa.insert(rows).values(id=1, text="", at=datetime.now(UTC)))


async def _stored(_message: None, context: SqlContext) -> list[int]:
    return list((await context.connection.execute(sa.select(rows.c.id))).scalars())


async def check_race(url: str) -> None:
    """Handle events at the same time whose handlers look for a row and insert it: all are handled."""

    async def find_or_insert(context: SqlContext) -> None:
        row = (await context.connection.execute(sa.select(rows.c.id).where(rows.c.id == 7))).first()
        await asyncio.sleep(0.05)
        if row is None:
            await context.connection.execute(sa.insert(rows).values(id=7, text="first"))

    async with writing(url, find_or_insert) as (service, sidecar, _):
        await service.execute(_add_first, None)
        bodies = [counted().encode() for _ in range(5)]
        answers = await asyncio.gather(*(service.ingress.deliver(PATH, body) for body in bodies))
        assert set(answers) == {SUCCESS}
        assert sidecar.broker.events("deadletter.shop") == []


def parametrized(writes: dict[str, Write]) -> pytest.MarkDecorator:
    """Run a test for each write."""
    return pytest.mark.parametrize("write", writes.values(), ids=writes)
