"""Messages handled together with `once`: after a crash each of them, not only the first, counts once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from tidings import Event, Handlers, Service, StateContext, command
from tidings.messages.envelope import Envelope
from tidings.outbox.documents import Scheduled
from tidings.outbox.table import SqlContext, TableOutbox
from tidings.testing import MemorySidecar

metadata = sa.MetaData()
till = sa.Table("till", metadata, sa.Column("number", sa.Integer), sa.Column("id", sa.Integer, primary_key=True))
lists: list[list[int]] = []


@command("shop.addNote", subject="number")
class AddNote(Event):
    number: int


@command("shop.tellNote", subject="number")
class SendNote(Event):
    number: int


class Till(Event):
    notes: tuple[int, ...] = ()


async def add_to_document(commands: list[AddNote], context: StateContext) -> None:
    lists.append([item.number for item in commands])
    await asyncio.sleep(0.001)  # a store takes its time: meanwhile others come
    result = await context.load(Till, "main") or Till()
    context.save("main", Till(notes=(*result.notes, *(item.number for item in commands))))


async def add_to_table(commands: list[AddNote], context: SqlContext) -> None:
    lists.append([item.number for item in commands])
    await context.connection.execute(sa.insert(till), [{"number": item.number} for item in commands])


async def in_document(service: Service) -> list[int]:
    async def look(_: None, context: StateContext) -> list[int]:
        return list((await context.load(Till, "main") or Till()).notes)

    return await service.execute(look, None)


async def in_table(service: Service) -> list[int]:
    async def look(_: None, context: SqlContext) -> list[int]:
        return list((await context.connection.execute(sa.select(till.c.number))).scalars())

    return await service.execute(look, None)


class Shop:
    """A service that may die and be started again on what it has stored."""

    def __init__(self, handler: Callable[..., Any], outbox: Any = None) -> None:
        self.sidecar = MemorySidecar("shop")
        self.handlers = Handlers()
        self.handlers.batch(AddNote, batch_size=3, deduplicate=True)(handler)
        self.outbox = outbox

    @asynccontextmanager
    async def process(self) -> AsyncIterator[Service]:
        memory_sidecar = MemorySidecar("shop", self.sidecar.broker, self.sidecar.store)
        service = Service("shop", self.handlers, sidecar=memory_sidecar, outbox=self.outbox)
        await service.start()
        yield service
        await service.stop()


@pytest.fixture(params=["document", "table"])
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Shop, Callable[[Service], Any]]:
    lists.clear()
    if request.param == "document":
        return Shop(add_to_document), in_document
    return Shop(add_to_table, TableOutbox.on(f"sqlite:///{tmp_path}/shop.db", tables=metadata)), in_table


def message(number: int, kind: str = "addNote") -> Scheduled:
    body = Envelope(
        id=f"note-{number}", source="shop", type=f"shop.{kind}", specversion="1.0", version="1",
        datacontenttype="application/json", data=msgspec.Raw(msgspec.json.encode({"number": number})),
    ).encode()  # fmt: skip
    return Scheduled(0.0, msgspec.Raw(body))


async def deliver(service: Service, *numbers: int, kind: str = "addNote") -> None:
    await asyncio.gather(*(service._scheduler.deliver(message(number, kind)) for number in numbers))


async def test_what_a_crash_brings_again_counts_a_single_time(shop: tuple[Shop, Callable[[Service], Any]]) -> None:
    system, notes = shop
    async with system.process() as service:
        await deliver(service, 1, 2, 3, 4)
        assert sorted(map(len, lists)) == [1, 3]
    async with system.process() as service:  # it died before the messages were taken off the list
        await deliver(service, 5, 2, 3, 4, 1, 6)
        assert sorted(await notes(service)) == [1, 2, 3, 4, 5, 6]


async def test_two_replicas_receive_the_same_messages(shop: tuple[Shop, Callable[[Service], Any]]) -> None:
    system, notes = shop
    async with system.process() as one, system.process() as other:
        await asyncio.gather(deliver(one, *range(9)), deliver(other, *reversed(range(9))))
        assert sorted(await notes(one)) == list(range(9))


async def test_messages_that_save_nothing_are_published_one_by_one() -> None:
    system = Shop(add_to_document)
    handlers = Handlers()

    @handlers.batch(SendNote, deduplicate=True)
    async def send(commands: list[SendNote], context: StateContext) -> None:
        for item in commands:
            context.publish(AddNote(number=item.number))

    system.handlers = handlers
    for _ in range(2):
        async with system.process() as service:
            await deliver(service, 1, 2, 3, kind="tellNote")
    assert sorted(event["data"]["number"] for event in system.sidecar.broker.events("shop.addNote.v1")) == [1, 2, 3]
