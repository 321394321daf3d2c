"""The worlds of the outbox conformance suite: an app with one strategy, on a broker and a store."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from tests.conformance.processes import Process, owned
from tests.conformance.shop import TOPIC, Counted, count_document, count_row, pass_on, tables
from tests.conformance.support import PATIENCE

from tidings import Handlers, Service
from tidings.dapr import Operation, Sidecar, Upsert
from tidings.messages.envelope import Envelope
from tidings.outbox import cdc, lanes, table_lease, table_relay
from tidings.outbox.cdc import CdcOutbox
from tidings.outbox.dapr import DaprOutbox
from tidings.outbox.direct import DirectOutbox
from tidings.outbox.port import Outbox
from tidings.outbox.table import TableOutbox
from tidings.settings import Settings
from tidings.testing.broker import MemoryBroker
from tidings.testing.sidecar import MemorySidecar
from tidings.testing.store import MemoryStore

Make = Callable[[Sidecar, Settings], Outbox]


def effects(published: Iterable[Mapping[str, Any]]) -> dict[str, list[int]]:
    """Return the totals of each item as a consumer sees them that handles each id once."""
    seen: dict[str, dict[str, int]] = {}
    for entry in published:
        known = seen.setdefault(entry["subject"], {})
        assert known.setdefault(entry["id"], entry["data"]["total"]) == entry["data"]["total"], "one id, one fact"
    return {item: list(result.values()) for item, result in seen.items()}


class World:
    """One app with the log strategy, in memory; other strategies and real programs are made from it.

    Attributes:
        accepts: What may be away while events are accepted: `broker`, `sidecar`.
        tries: After how many a refused event is parked, once in a hurry.
        name: The service, by which its events are known.
        contended: How many facts two replicas publish about one item.
        ordered: Whether these are published in the order of their commits.
        patience: The time, in seconds, in which everything is published.

    """

    name = "shop"
    patience = PATIENCE
    contended = 120
    ordered = True
    accepts: frozenset[str] = frozenset({"broker"})
    tries = 3

    def __init__(self, *, atomic: bool = True) -> None:
        self.broker = MemoryBroker()
        self.store = MemoryStore(atomic=atomic)
        self.handlers = Handlers()
        self.handlers.on(Counted)(self.handler())

    def handler(self) -> Callable[[Any, Any], Awaitable[None]]:
        """Handle an event."""
        return count_document

    def outbox(self) -> Make | None:
        """Return the strategy; None is the log."""
        return None

    def sidecar(self) -> Any:
        """Return a sidecar that fails on request."""
        return MemorySidecar("shop", self.broker, self.store)

    async def published(self) -> list[dict[str, Any]]:
        """Return all published events, including duplicates, by their ids."""
        return self.broker.events(TOPIC)

    def forget_published(self) -> None:
        """Forget all published events, which would slow down long tests."""
        self.broker._kept[TOPIC].clear()

    async def left(self) -> list[str]:
        """Return the messages stored by the strategy."""
        keys = self.store.keys()
        return [key for key in keys if "outbox/" in key and not key.endswith("lanes")]

    async def release(self, process: Process) -> None:
        """Let go what was parked, where it does not go by itself."""

    async def clean_up(self, process: Process) -> None:
        """Close what a dead process had open, as its kernel would."""
        await process.service.sidecar.close()

    def hurry(self, patch: pytest.MonkeyPatch) -> None:
        """Let leases end soon, and what is refused be parked soon."""
        for module in (lanes, table_lease):
            patch.setattr(module, "LEASE", 0.4)
        for strategy in (lanes, table_relay, cdc):
            patch.setattr(strategy, "TRIES", self.tries)

    @asynccontextmanager
    async def process(self, instance: str = "shop-0") -> AsyncIterator[Process]:
        """Run a process that dies at the end."""
        loop = asyncio.get_running_loop()
        before = loop.get_task_factory()
        loop.set_task_factory(owned)
        process = self.prepared(instance)
        try:
            await self.start(process)
            yield process
        finally:
            await process.kill()
            await self.clean_up(process)
            loop.set_task_factory(before)

    def prepared(self, instance: str) -> Process:
        """Return a process that is not started yet."""
        process = Process()
        process.sidecar = sidecar = self.sidecar()
        settings = Settings(tidings_instance=instance, tidings_drain=5.0)
        process.service = Service(
            self.name, self.handlers, sidecar=sidecar, settings=settings, outbox=self.outbox(), **self.surroundings()
        )
        return process

    async def start(self, process: Process) -> None:
        """Start a process and wait until it is ready."""
        with process.inside():
            await process.service.start()
        starting = process.service._starting
        await asyncio.wait([starting] if starting else [])

    def surroundings(self) -> dict[str, Any]:
        """Return further settings of the service."""
        return {}

    async def effects(self) -> dict[str, list[int]]:
        """Return the totals of each item as a consumer sees them that handles each id once."""
        return effects(await self.published())

    async def until(self, expected: Mapping[str, list[int]]) -> None:
        """Wait until a consumer sees these totals, and no others."""
        deadline = time.monotonic() + self.patience
        while (result := await self.effects()) != expected:
            assert time.monotonic() < deadline, f"{result} is not {expected} after {self.patience} s"
            await asyncio.sleep(0.01)

    async def until_first(self, item: str, total: int) -> None:
        """Wait until a consumer sees a total of an item, which must be its first."""
        deadline = time.monotonic() + self.patience
        while not (result := (await self.effects()).get(item)):
            assert time.monotonic() < deadline, f"nothing of {item} after {self.patience} s"
            await asyncio.sleep(0.01)
        assert result[0] == total

    async def until_published(self, causes: Iterable[Envelope]) -> None:
        """Wait until what follows from these events is published."""
        missing = {cause.id for cause in causes}
        deadline = time.monotonic() + self.patience
        while missing:
            began, before = time.monotonic(), len(missing)
            missing -= {item["causationid"] for item in await self.published()}
            now = time.monotonic()
            if len(missing) < before:  # many take their time
                deadline = now + self.patience
            assert now < deadline, f"{len(missing)} are not published, e.g. {sorted(missing)[:3]}"
            await asyncio.sleep(0.01 + 4 * (now - began))  # looking at many is work for this event loop as well

    async def until_nothing_is_left(self) -> None:
        """Wait until the strategy keeps nothing any more."""
        async with asyncio.timeout(self.patience):
            while await self.left():  # noqa: ASYNC110 - the strategy's own tasks remove it
                await asyncio.sleep(0.01)


class TableWorld(World):
    """The table strategy on a database."""

    accepts = frozenset({"broker", "sidecar"})

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url

    def handler(self) -> Callable[[Any, Any], Awaitable[None]]:
        """Count in a row."""
        return count_row

    def outbox(self) -> Make:
        """Return the table strategy."""
        return TableOutbox.on(self.url, tables=tables)

    async def left(self) -> list[str]:
        """Return the rows that are not published yet."""
        asking = TableOutbox(self.url, MemorySidecar("asking"), "asking")
        try:
            async with asking.database.connect(write=False) as connection:
                rows = await connection.execute(sa.text("select subject from tidings_outbox"))
                return [str(row[0]) for row in rows]
        finally:
            await asking.database.close()

    async def release(self, process: Process) -> None:
        """Put it back among what waits."""
        outbox = process.service.outbox
        assert isinstance(outbox, TableOutbox)
        (parked,) = await outbox.parked()
        assert (parked.subject, parked.attempts, parked.reason) == ("apple", self.tries, "no such topic")
        assert await outbox.unpark(parked.id) == 1

    async def clean_up(self, process: Process) -> None:
        """Let the server notice that its client has gone."""
        await super().clean_up(process)
        outbox = process.service.outbox
        assert isinstance(outbox, TableOutbox)
        await outbox.database.close()


class CdcWorld(TableWorld):
    """The cdc strategy on a PostgreSQL with `wal_level=logical`."""

    def outbox(self) -> Make:
        """Return the cdc strategy."""
        return CdcOutbox.on(self.url, tables=tables)


class OutboxTwin(MemorySidecar):
    """Dapr's outbox in memory: it publishes internally first, then commits, then publishes the committed events."""

    topic = TOPIC

    async def transact(self, operations: Iterable[Operation]) -> None:
        """Write, and publish every upsert, or the projection that replaces it."""
        expected = list(operations)
        upserts = [item for item in expected if isinstance(item, Upsert)]
        shown = {upsert.key: upsert.value for upsert in upserts if "outbox.projection" in (upsert.metadata or {})}
        real = [upsert for upsert in upserts if "outbox.projection" not in (upsert.metadata or {})]
        with self.around("publish"):
            internal = [
                {
                    "specversion": "1.0",
                    **(item.metadata or {}),
                    "data": msgspec.Raw(shown.get(item.key, item.value)),
                    "id": f"outbox-{uuid.uuid4()}",
                }
                for item in real
            ]
        with self.around("transact"):
            self.store.transact([replace(item, key=self._owned(item.key), metadata=None) for item in real])
            for entry in internal:
                self.broker.publish(self.topic, msgspec.json.encode(entry))


class DaprWorld(World):
    """Dapr's own outbox, in memory."""

    accepts = frozenset()
    ordered = False

    def outbox(self) -> Make:
        """Return the dapr strategy."""
        return lambda sidecar, _: DaprOutbox(sidecar, {TOPIC: sidecar})

    def sidecar(self) -> Any:
        """Return a sidecar with the runtime's outbox."""
        return OutboxTwin("shop", self.broker, self.store)

    async def published(self) -> list[dict[str, Any]]:
        """Return the published events, under the ids that the SDK's ingress reads."""
        return [{**event, "id": event["eventid"]} for event in self.broker.events(TOPIC)]


class DirectWorld(World):
    """The direct strategy: nothing is stored."""

    accepts = frozenset()
    ordered = False
    clock: Callable[[], float] = staticmethod(time.monotonic)
    """Seconds, never going back."""

    def handler(self) -> Callable[[Any, Any], Awaitable[None]]:
        """Tell what came."""
        return pass_on

    def outbox(self) -> Make:
        """Return the direct strategy, whose breaker opens and closes quickly."""

        def make(sidecar: Sidecar, _: Settings) -> DirectOutbox:
            return DirectOutbox(sidecar, deadline=5.0, attempts=2, failures=4, pause=0.02, clock=self.clock)

        return make
