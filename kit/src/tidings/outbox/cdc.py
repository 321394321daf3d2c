"""The cdc strategy: a table outbox whose rows are read from PostgreSQL's write-ahead log in commit order.

Writing is the same as in the table strategy (`tidings.outbox.table`): the inbox entry, the handler's rows and the
messages are one transaction. Publishing follows a logical replication slot (pgoutput) on the outbox table: no polling
is needed, and the order is that of the commits, across all instances. One instance streams for all, under an advisory
lock of its session. The session ends after 15 s of silence, and another instance continues at the slot's position.

The slot is read by SQL, `pg_logical_slot_peek_binary_changes` and `pg_replication_slot_advance`, over an ordinary
connection: psycopg 3 does not support the replication protocol, psycopg2 does, but would be a second driver with its
own thread, and pypgoutput, which uses it, is unmaintained. PostgreSQL must run with `wal_level=logical`, and the user
needs the attribute REPLICATION and must own the outbox table.

A row is removed after it is published, before the slot advances. The table therefore always holds all unpublished
messages, and an instance that starts streaming publishes them first. The slot may be dropped, recreated or lost
(`max_slot_wal_keep_size`), and a service may switch between table and cdc at any time. After switching back to the
table strategy permanently, drop the slot (`select pg_drop_replication_slot('tidings_…')`); otherwise it retains the log
indefinitely.

Guarantees on failure:

- Before the commit: nothing was written or sent; the broker redelivers the event.
- Between commit and publish: the row is in the table and the log; the next streaming instance publishes it.
- Between publish and acknowledgement, or before the slot advances: published again with the same id.
- Broker or sidecar down: the slot waits and the log grows behind it. `tidings_outbox_slot_lag_bytes` is its size,
  `tidings_outbox_slot_left_bytes` how much more can be written (with `max_slot_wal_keep_size`) before the slot is lost.
  In that case, the slot is recreated and the table is read.
- An event is rejected: the stream is blocked for up to 5 attempts in about three seconds. Then the event is parked with
  the reason, as in the table strategy.
- Database down: commands fail with `SidecarUnavailable`; the broker redelivers events.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

import psycopg.errors
import sqlalchemy as sa
import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from tidings.background import contained
from tidings.dapr import Sidecar
from tidings.errors import DefinitionError, PublishRefused, SidecarError
from tidings.observability import metrics
from tidings.outbox.cdc_pgoutput import Inserted, decode
from tidings.outbox.table import TableOutbox
from tidings.outbox.table_relay import BATCH, Errors, Relay, Row, publish
from tidings.outbox.table_schema import outbox

log = structlog.get_logger(__name__)

PUBLICATION = "tidings_outbox"
TRIES = 5  # attempts for a rejected event before it is parked
_LEADER = 7_463_214_502  # advisory-lock id of the active streamer
_SILENCE = "15s"  # idle timeout of the streamer's session
_BEAT = 5.0  # seconds between heartbeats while events are published
_LOOK = 0.1  # seconds between polls for commits of other instances
_STANDBY = 1.0  # seconds between attempts to become the streamer
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0  # seconds between attempts
_CHECK = 1.0  # seconds between health checks of the slot

_status = sa.text(
    "select active, wal_status, safe_wal_size, pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn) as lag "
    "from pg_replication_slots where slot_name = :slot"
)
_peek = sa.text(
    "select data from pg_logical_slot_peek_binary_changes(:slot, null, :batch, "
    "'proto_version', '1', 'publication_names', :publication)"
)


class CdcOutbox(TableOutbox):
    """Publishes from PostgreSQL's log. The arguments are those of `TableOutbox`.

        service = Service("payments", handlers, outbox=CdcOutbox.on("postgresql://…", tables=metadata))

    Raises:
        DefinitionError: The URL is not that of a PostgreSQL database; at startup: `wal_level` is not `logical`.

    """

    def _publisher(self, sidecar: Sidecar, clock: Callable[[], float]) -> Relay:
        if self.database.dialect != "postgresql":
            raise DefinitionError("the cdc strategy requires PostgreSQL: use TableOutbox for SQLite")
        return Stream(self.database, self._lease, sidecar, clock)


class Stream(Relay):
    """Publishes the rows inserted into the outbox, in commit order."""

    _slot = ""
    _checked = 0.0

    async def begin(self) -> None:
        """Take a lane for scheduled messages; determine the slot's name.

        Raises:
            DefinitionError: `wal_level` is not `logical`.
            SidecarUnavailable: The database does not answer.

        """
        async with self._database.connect(write=False) as connection:
            level = (await connection.execute(sa.text("show wal_level"))).scalar_one()
            bound = (await connection.execute(sa.text("show max_slot_wal_keep_size"))).scalar_one()
            oid = sa.text("select oid from pg_database where datname = current_database()")
            self._slot = f"tidings_{(await connection.execute(oid)).scalar_one()}"
        if level != "logical":
            raise DefinitionError(f"PostgreSQL runs with wal_level={level}: set wal_level=logical and restart it")
        if bound == "-1":
            log.warning(
                "outbox.log_unbounded",
                reason="while the broker is unavailable, the write-ahead log grows until the disk is full",
                remedy="set max_slot_wal_keep_size, for example to 10GB",
            )
        await super().begin()

    async def run(self) -> None:
        """Stream forever, or stand by while another instance does."""
        while True:
            try:
                async with self._database.connect(write=False) as connection:
                    await connection.execution_options(isolation_level="AUTOCOMMIT")
                    try:
                        await self._lead(connection)
                    finally:
                        await connection.invalidate()  # the lock ends with the session
            except SidecarError as error:
                log.warning("outbox.waits_for_database", reason=str(error))
            except sa.exc.OperationalError as error:  # the slot has lost its log: the next leader recreates it
                if not isinstance(error.orig, psycopg.errors.ObjectNotInPrerequisiteState):
                    raise
                log.warning("outbox.stream_ended", reason=str(error.orig))
            await asyncio.sleep(_STANDBY)

    async def _lead(self, connection: AsyncConnection) -> None:
        while not (await connection.execute(sa.select(sa.func.pg_try_advisory_lock(_LEADER)))).scalar_one():
            await self._settle()
            await asyncio.sleep(_STANDBY)
        await connection.execute(sa.text(f"set idle_session_timeout = '{_SILENCE}'"))
        await self._prepare(connection)
        log.info("outbox.streams", slot=self._slot)
        drained = await self._drain(connection)
        while True:
            self._awake.clear()
            if await self._follow(connection, drained):
                continue
            drained.clear()
            await self._settle()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK):
                    await self._awake.wait()

    async def _prepare(self, connection: AsyncConnection) -> None:
        """Create the publication and the slot; recreate a slot that has lost its log."""
        known = sa.text("select 1 from pg_publication where pubname = :name")
        if (await connection.execute(known, {"name": PUBLICATION})).first() is None:
            await connection.execute(
                sa.text(f"create publication {PUBLICATION} for table {outbox.name} with (publish = 'insert')")
            )
        slot = (await connection.execute(_status, {"slot": self._slot})).mappings().first()
        if slot is not None and slot["wal_status"] == "lost":
            log.critical("outbox.slot_lost", slot=self._slot, remedy="raise max_slot_wal_keep_size")
            await connection.execute(sa.select(sa.func.pg_drop_replication_slot(self._slot)))
            slot = None
        if slot is None:
            await connection.execute(sa.select(sa.func.pg_create_logical_replication_slot(self._slot, "pgoutput")))

    async def _drain(self, connection: AsyncConnection) -> set[int]:
        """Publish the rows of the table, which the log may no longer hold; return their ids, because it may."""
        drained, after = set[int](), 0
        columns = [outbox.c[name] for name in ("id", "subject", "topic", "event", "written", "attempts", "lane")]
        oldest = sa.select(*columns).where(outbox.c.id > sa.bindparam("after")).order_by(outbox.c.id).limit(BATCH)
        while page := (await connection.execute(oldest, {"after": after})).all():
            rows = [Row(*row) for row in page]
            await self._insist(connection, rows)
            drained.update(row.id for row in rows)
            after = rows[-1].id
        return drained

    async def _follow(self, connection: AsyncConnection, drained: set[int]) -> bool:
        """Publish the next transactions and advance the slot; return True if there were any."""
        reached = (await connection.execute(sa.select(sa.cast(sa.func.pg_current_wal_flush_lsn(), sa.Text)))).scalar()
        values = {"slot": self._slot, "batch": BATCH, "publication": PUBLICATION}
        messages = [bytes(data) for (data,) in await connection.execute(_peek, values)]
        changes = decode(messages, outbox.name)
        await self._insist(connection, [row for row in map(_row, changes.rows) if row.id not in drained])
        if changes.end:
            await self._advance(connection, changes.end)
        due = time.monotonic() - self._checked > _CHECK
        if due:
            self._checked = time.monotonic()
            if not changes.end:  # only other tables were written: release their log
                await self._advance(connection, str(reached))
            await self._check(connection)
        return bool(changes.end)

    async def _advance(self, connection: AsyncConnection, end: str) -> None:
        advance = sa.text("select pg_replication_slot_advance(:slot, cast(:upto as pg_lsn))")
        await connection.execute(advance, {"slot": self._slot, "upto": end})

    async def _check(self, connection: AsyncConnection) -> None:
        """Update the slot metrics, and log a critical error before the slot is lost."""
        slot = (await connection.execute(_status, {"slot": self._slot})).mappings().one()
        metrics.SLOT_LAG.set(float(slot["lag"] or 0))
        if slot["safe_wal_size"] is not None:
            metrics.SLOT_LEFT.set(float(slot["safe_wal_size"]))
        if slot["wal_status"] in {"unreserved", "lost"}:
            log.critical(
                "outbox.slot_in_danger",
                slot=self._slot,
                lag_bytes=int(slot["lag"] or 0),
                remedy="restore the broker, or raise max_slot_wal_keep_size; the table still holds every event",
            )

    async def _insist(self, connection: AsyncConnection, rows: Sequence[Row]) -> None:
        """Publish rows in order until all are gone; park those that are rejected repeatedly."""
        waiting, pause, tries = list(rows), _FIRST_PAUSE, Counter[int]()
        while waiting:
            went, failed = await self._publish_alive(connection, waiting)
            self._measure(waiting, set(went))
            refused: Errors = {row_id: error for row_id, error in failed.items() if isinstance(error, PublishRefused)}
            tries.update(refused.keys())
            too_often = max(tries.values(), default=0) >= TRIES
            exhausted = [row._replace(attempts=tries[row.id] - 1) for row in waiting if too_often and row.id in refused]
            await self._remove_finished(waiting, went, exhausted, refused)
            finished = {*went, *(row.id for row in exhausted)}
            waiting = [row for row in waiting if row.id not in finished]
            if failed and waiting:
                log.warning("outbox.publish_failed", rows=len(waiting), reason=str(next(iter(failed.values()))))
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
                await self._check(connection)  # also a heartbeat of this session

    async def _publish_alive(self, connection: AsyncConnection, rows: Sequence[Row]) -> tuple[list[int], Errors]:
        """Publish, with heartbeats on this session while the broker is slow."""
        publishing = asyncio.create_task(contained(partial(publish, self._sidecar, rows)))
        try:
            while not (await asyncio.wait([publishing], timeout=_BEAT))[0]:
                await self._check(connection)
            return publishing.result()
        finally:
            publishing.cancel()
            await asyncio.wait([publishing])

    async def _remove_finished(
        self, rows: Sequence[Row], went: list[int], exhausted: list[Row], errors: Errors
    ) -> None:
        finished = {*went, *(row.id for row in exhausted)}
        if not finished:
            return
        async with self._database.transaction(durable=False) as connection:
            await self._remove(connection, list(finished))
            await self._park(connection, exhausted, errors)
        own = set(self._lease.lanes)
        self._set_depth(max(self._depth - sum(row.id in finished and row.waits_for in own for row in rows), 0))

    async def _settle(self) -> None:
        """Update the depth, and note when none of this instance's messages is pending."""
        if self.depth:
            await self._count()
        if not self.depth:
            self._empty.set()


def _row(inserted: Inserted) -> Row:
    """Convert to the relay's row; `waits_for` is its own lane, because rows of the log wait for no other row."""
    value = {name: text or "" for name, text in inserted.items()}
    return Row(
        int(value["id"]),
        value["subject"],
        value["topic"],
        value["event"],
        float(value["written"]),
        int(value["attempts"]),
        int(value["lane"]),
    )
