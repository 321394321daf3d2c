"""Two replicas that receive the same events in batches, on a real PostgreSQL: each event counts once, none blocks."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import sqlalchemy as sa
from tests.support.postgres import own_database

from tidings import Event, Handlers, Rejected, Service, Settings, event
from tidings.outbox.table import TableOutbox
from tidings.testing import MemorySidecar

pytestmark = pytest.mark.real
PATH, BAD = "/events/shop.itemSold.v1", 50
metadata = sa.MetaData()
sold = sa.Table("sold", metadata, sa.Column("number", sa.Integer), sa.Column("id", sa.Integer, primary_key=True))
lists: list[int] = []


@event("shop.itemSold")
class Sold(Event):
    number: int


async def keep(events: list[Sold], context: Any) -> None:
    lists.append(len(events))
    if any(item.number == BAD for item in events):
        raise Rejected("bad")
    await context.connection.execute(sa.insert(sold), [{"number": item.number} for item in events])


async def kept(_: None, context: Any) -> list[int]:
    return list((await context.connection.execute(sa.select(sold.c.number))).scalars())


def body(number: int) -> bytes:
    attributes = {"id": f"e-{number}", "source": "t", "type": "shop.itemSold", "specversion": "1.0", "version": "1"}
    return json.dumps({**attributes, "data": {"number": number}}).encode()


@pytest.fixture
async def replicas(postgres: str) -> AsyncIterator[list[Service]]:
    handlers = Handlers()
    handlers.batch(Sold, batch_size=40)(keep)
    async with own_database(postgres) as url, AsyncExitStack() as stack:
        services = []
        for instance in ("one", "two"):
            settings, outbox = Settings(tidings_instance=instance), TableOutbox.on(url, tables=metadata)
            services.append(Service("shop", handlers, settings=settings, sidecar=MemorySidecar("shop"), outbox=outbox))
            await services[-1].start()
            stack.push_async_callback(services[-1].stop)
        yield services


async def test_every_event_counts_a_single_time_in_any_replica(replicas: list[Service]) -> None:
    async def receive(service: Service, seed: int) -> None:
        numbers = list(range(200))
        random.Random(seed).shuffle(numbers)
        waiting = set(numbers)
        while waiting:  # as the sidecar does
            order = [number for number in numbers if number in waiting]
            answers = await asyncio.gather(*(service.ingress.deliver(PATH, body(number)) for number in order))
            waiting -= {number for number, value in zip(order, answers, strict=True) if b"SUCCESS" in value}

    await asyncio.gather(*(receive(service, seed) for seed, service in enumerate(replicas)))
    expected = [number for number in range(200) if number != BAD]
    async with asyncio.timeout(60):  # an event that met a conflict too often is retried after its delivery
        while sorted(await replicas[0].execute(kept, None)) != expected:  # noqa: ASYNC110 - the database tells nobody
            await asyncio.sleep(0.05)
    assert max(lists) == 40
