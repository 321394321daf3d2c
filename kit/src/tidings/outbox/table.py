"""The table strategy: messages in a table next to the service's own tables, in the same transaction.

For services with relational data. Works on SQLite and PostgreSQL, with every broker.

A unit of work is one transaction: the inbox entry, the handler's writes through `context.connection`, and the rows of
the outbox. After the commit, the instance publishes its rows in batches. Rows belong to *lanes*, one for each run of an
instance, with a lease: only the holder publishes them, so instances do not wait for each other's row locks. The first
instance that notices an expired lease adopts the lane, with `SKIP LOCKED`.

Guarantees on failure:

- Before the commit: nothing was written or sent; the broker redelivers the event.
- The response to the commit is lost: the redelivered event is found in the inbox, or handled if the commit did not
  succeed. The relay immediately looks for the rows and publishes them if they exist.
- Between commit and publish: the service's next start publishes the rows, or another instance once the lease has
  expired (15 s).
- Between publish and acknowledgement, or before the row is removed: published again with the same id; the broker or the
  inbox drops the duplicate. The same applies to the last rows removed before a power failure, because their removal
  does not wait for the disk.
- Broker or sidecar down: rows wait without counting attempts, and are retried with back-off up to 5 s.
- An event is rejected (missing topic, too large): it is retried with back-off, and its subject waits; all others
  continue. After 20 attempts, about twelve minutes, it is parked with the reason, and its subject continues.
- Database down: commands fail with `SidecarUnavailable`; the broker redelivers events.

Order: rows of one subject are published in commit order, across instances too, if the units of work that write them
exclude each other, as they do when they lock or change the same row before they commit. An instance that was suspended
for longer than its lease may publish rows that another one has adopted, with the same ids.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import ClassVar

import msgspec
import sqlalchemy as sa
import stamina
import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from tidings.background import restart_on_failure
from tidings.clock import SteadyClock
from tidings.context import AlreadyHandled, Context, Outgoing
from tidings.dapr import Sidecar
from tidings.errors import SidecarError, SidecarUnavailable
from tidings.messages.delivery import DeliveryContext
from tidings.messages.envelope import new_id
from tidings.messages.events import message_type
from tidings.outbox.port import Deliver
from tidings.outbox.sql import Database, Migrate, commit_with, insert_all_new
from tidings.outbox.table_lease import Lease
from tidings.outbox.table_relay import Relay
from tidings.outbox.table_schedule import Schedule
from tidings.outbox.table_schema import inbox, metadata, outbox, parked, scheduled
from tidings.settings import Settings

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Parked:
    """A message that was rejected too often. `written` and `parked_at` are in seconds since 1970."""

    id: int
    subject: str
    topic: str
    event: str
    written: float
    attempts: int
    reason: str
    parked_at: float


class TableOutbox:
    """Publishes from a table in the service's own database, which no other service shares.

        service = Service("payments", handlers, outbox=TableOutbox.on("postgresql://…", tables=metadata))

    Args:
        database: The database or its URL; it is closed with the outbox.
        sidecar: Publishes the events.
        instance: Name of this replica, stable across restarts.
        max_event: Maximum size of a published event in bytes.
        tables: The service's own tables, created at startup if missing, or a function that migrates them.
        clock: Seconds since 1970.

    Raises:
        DefinitionError: The URL is not that of a SQLite file or a PostgreSQL database.

    """

    uses_state: ClassVar[bool] = False

    def __init__(
        self,
        database: Database | str,
        sidecar: Sidecar,
        instance: str,
        max_event: int = 1_000_000,
        *,
        tables: sa.MetaData | Migrate | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.database = Database(database) if isinstance(database, str) else database
        self._max_event = max_event
        self._tables: list[sa.MetaData | Migrate] = [metadata] if tables is None else [metadata, tables]
        steady = SteadyClock(clock)
        self._lease = Lease(self.database, instance, clock, steady)
        self._relay = self._publisher(sidecar, steady)
        self._schedules = Schedule(self.database, self._lease, steady)
        self._opened = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    @classmethod
    def on(cls, url: str, *, tables: sa.MetaData | Migrate | None = None) -> Callable[[Sidecar, Settings], TableOutbox]:
        """Return an outbox factory for `Service`, for the database at this URL."""

        def make(sidecar: Sidecar, settings: Settings) -> TableOutbox:
            database = Database(url, deadline=settings.tidings_deadline)
            return cls(database, sidecar, settings.tidings_instance, settings.tidings_max_event, tables=tables)

        return make

    def _publisher(self, sidecar: Sidecar, clock: Callable[[], float]) -> Relay:
        """Create the relay."""
        return Relay(self.database, self._lease, sidecar, clock)

    # -- life ---------------------------------------------------------------------------------------------------

    async def start(self, deliver: Deliver) -> None:
        """Create missing tables, take a lane, and deliver messages left by an earlier run."""
        async for attempt in stamina.retry_context(on=SidecarError, attempts=None, timeout=None, wait_max=5.0):
            with attempt:
                await self.database.create(*self._tables)
                await self._relay.begin()
        self._opened.set()
        work: dict[str, Callable[[], Awaitable[None]]] = {
            "outbox.relay": self._relay.run,
            "outbox.scheduled": partial(self._schedules.run, deliver),
            "outbox.lease": self._keep_lease,
        }
        self._tasks = [asyncio.create_task(restart_on_failure(name, function)) for name, function in work.items()]

    async def stop(self, grace_period: float) -> None:
        """Publish rows in flight within `grace_period` seconds; another instance adopts the rest."""
        if self._opened.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace_period):
                    await self._relay.emptied()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._opened.is_set():
            try:
                await self._schedules.stop()
                await self._lease.release()
            except SidecarError as error:
                log.warning("outbox.not_released", reason=str(error))
        await self.database.close()

    async def _keep_lease(self) -> None:
        while True:
            await asyncio.sleep(self._lease.renewal_interval)
            try:
                await self._relay.renew()
                await self._lease.prune_inbox()
            except SidecarError as error:
                log.warning("outbox.lease_not_renewed", reason=str(error))
            if self._lease.adopted:
                self._schedules.wake()

    @property
    def depth(self) -> int:
        """Number of messages that are committed but not published, and of scheduled ones being handled."""
        return self._relay.depth + self._schedules.depth

    # -- units of work ------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def unit(self, delivery: DeliveryContext, now: datetime) -> AsyncIterator[SqlContext]:
        """Open a unit of work: one transaction, rolled back unless it is committed.

        If the same event is being handled elsewhere, wait for its outcome there.

        Raises:
            AlreadyHandled: The event has been handled.
            SidecarUnavailable: The database does not answer.
            StateConflict: Conflict with another transaction (deadlock, serialization failure).

        """
        try:
            async with asyncio.timeout(self.database.deadline):
                await self._opened.wait()
        except TimeoutError as error:
            raise SidecarUnavailable("the outbox has not started, because its database has not answered yet") from error
        async with self.database.connect() as connection:
            if delivery.key is not None:
                await _remember(connection, delivery, self._lease.handling(now.timestamp()))
            yield SqlContext(delivery, now, self._max_event, connection, self._lease, self._relay, self._schedules)

    # -- parked messages ----------------------------------------------------------------------------------------

    async def parked(self, limit: int = 100) -> list[Parked]:
        """Return the oldest messages that were rejected too often.

        Raises:
            SidecarUnavailable: The database does not answer.

        """
        async with self.database.connect(write=False) as connection:
            oldest = sa.select(parked).order_by(parked.c.id).limit(limit)
            return [Parked(**row) for row in (await connection.execute(oldest)).mappings()]

    async def unpark(self, *ids: int) -> int:
        """Publish parked messages after all, with their ids, after pending rows; return their number.

        Raises:
            SidecarUnavailable: The database does not answer.

        """
        chosen = parked.c.id.in_(ids)
        async with self.database.transaction() as connection:
            rows = (await connection.execute(sa.delete(parked).where(chosen).returning(parked))).mappings().all()
            kept = [{name: row[name] for name in ("subject", "topic", "event", "written")} for row in rows]
            with self._relay.committing(len(kept)):
                if kept:
                    await connection.execute(sa.insert(outbox), [{**row, "lane": self._lease.lane} for row in kept])
                await connection.commit()
        return len(kept)


async def _remember(connection: AsyncConnection, delivery: DeliveryContext, now: float) -> None:
    ids = sorted({delivery.envelope.identity, *(member.identity for member in delivery.batch_members)})
    rows = [{"subscription": delivery.subscription, "event": identity, "handled_at": now} for identity in ids]
    if await insert_all_new(connection, inbox, rows) < len(rows):
        raise AlreadyHandled


class _MessageKey(msgspec.Struct):
    id: str
    subject: str = ""


_key_decoder = msgspec.json.Decoder(_MessageKey)


@dataclass(slots=True)
class SqlContext(Context):
    """A unit of work that is one transaction of a relational database.

    Attributes:
        connection: Runs the handler's own statements, which are committed or rolled back together with its messages.

    """

    connection: AsyncConnection
    _lease: Lease
    _relay: Relay
    _schedules: Schedule
    _scheduled: list[dict[str, object]] = field(default_factory=list, init=False)

    def schedule(self, message: object, *, after: timedelta = timedelta(0)) -> str:
        """Schedule a command for a handler of this service after a delay. Scheduled messages survive crashes."""
        kind = message_type(type(message))
        identity = new_id()
        self._schedule(identity, self.encode(kind, message, identity), after.total_seconds())
        return identity

    def schedule_event(self, event: msgspec.Raw, *, after: float) -> None:
        """Schedule an encoded message for this service in `after` seconds. Internal."""
        self._schedule(new_id(), event, after)

    def _schedule(self, identity: str, event: msgspec.Raw, after: float) -> None:
        wait = max(after, 0.0)
        due = self._relay.clock() + wait
        self._scheduled.append({"id": identity, "due": due, "wait": wait, "event": bytes(event).decode()})

    async def commit(self) -> None:
        """Commit the inbox entry, the handler's writes and the messages, then deliver the messages in the background.

        Raises:
            SidecarUnavailable: The outcome is unknown; if it was committed, the messages are delivered nevertheless.

        """
        lane, written = self._lease.lane, self._relay.clock()
        rows = {
            outbox: [_row(message, lane, written) for message in self.outgoing],
            scheduled: [{**message, "lane": lane} for message in self._scheduled],
        }
        try:
            with self._relay.committing(len(self.outgoing)):
                await commit_with(self.connection, {table: new for table, new in rows.items() if new})
            self._lease.handled(len(self.delivery.keys))
        finally:
            if self._scheduled:
                self._schedules.wake()


def _row(message: Outgoing, lane: int, written: float) -> dict[str, object]:
    key = _key_decoder.decode(message.event)
    return {
        "lane": lane,
        "subject": key.subject or key.id,
        "topic": message.topic,
        "event": bytes(message.event).decode(),
        "written": written,
    }
