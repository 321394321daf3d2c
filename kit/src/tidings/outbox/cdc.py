"""The cdc strategy: the table outbox, whose rows are read from PostgreSQL's write-ahead log in the order of commits.

Writing is that of the table strategy (`tidings.outbox.table`): the inbox, the handler's rows and the messages are one
transaction. Publishing follows a logical replication slot (pgoutput) on the outbox's table: nobody looks for rows, and
order is that of the commits, across all instances. One instance streams for all, under an advisory lock of its
session; the session ends when the instance is silent for 15 s, and another one goes on where the slot stands.

The slot is read by SQL, `pg_logical_slot_peek_binary_changes` and `pg_replication_slot_advance`, over an ordinary
connection: psycopg 3 does not speak the replication protocol, psycopg2 does and would be a second driver with a thread
of its own, and pypgoutput, which stands on it, is not kept. PostgreSQL must run with `wal_level=logical`, and the user
needs the attribute REPLICATION and must own the outbox's table.

A row is removed once it is published, before the slot advances. So the table always holds what is not told yet, and
whoever begins to stream first publishes what stands there: nothing depends on the slot alone. It may be dropped, made
anew, or be lost (`max_slot_wal_keep_size`), and a service may change between table and cdc at any time. Who goes back
to the table for good drops the slot (`select pg_drop_replication_slot('tidings_…')`), or it keeps the log for ever.

What holds when something fails:

- Before the commit: nothing was written, nothing is sent; the broker brings the event again.
- Between commit and publish: the row stands in table and log; who streams next publishes it.
- Between publish and acknowledgement, or before the slot advances: published again with the same id.
- Broker or sidecar down: the slot waits and the log grows behind it; `tidings_outbox_slot_lag_bytes` says how much,
  `tidings_outbox_slot_left_bytes` how much more may come (with `max_slot_wal_keep_size`) until the slot is lost; then
  it is made anew and the table is read.
- An event is refused: the stream waits for it, up to 5 tries in about three seconds; then it is parked with the
  reason, as in the table strategy. Meanwhile all others wait, too.
- Database down: commands fail with `SidecarUnavailable`, events are brought again by the broker.
"""

from __future__ import annotations

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
TRIES = 5  # of a refused event, before it is parked
_LEADER = 7_463_214_502  # any number, the same everywhere: it names the lock of who streams
_SILENCE = "15s"  # after which PostgreSQL ends the session of who streams
_BEAT = 5.0  # seconds between signs of life while events are published
_LOOK = 0.1  # seconds until what other instances have committed is looked for
_STANDBY = 1.0  # seconds until an instance looks whether it may stream
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0  # seconds between tries
_CHECK = 1.0  # seconds between looks at the slot's health

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
        DefinitionError: Not the URL of a PostgreSQL database; at the start: `wal_level` is not `logical`.

    """

    def _publisher(self, sidecar: Sidecar, clock: Callable[[], float]) -> Relay:
        if self.database.dialect != "postgresql":
            raise DefinitionError("cdc reads PostgreSQL's log, SQLite has none to read: use TableOutbox")
        return Stream(self.database, self._lease, sidecar, clock)


class Stream(Relay):
    """Publishes what is inserted into the outbox, in the order of the commits."""

    _slot = ""
    _checked = 0.0

    async def begin(self) -> None:
        """Take a lane for scheduled messages; make slot and publication where they are missing.

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
                reason="while the broker is away the write-ahead log grows until the disk is full",
                mend="set max_slot_wal_keep_size, such as 10GB",
            )
        await super().begin()

    async def run(self) -> None:
        """Stream for ever, or stand by while another instance does."""
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
            except sa.exc.OperationalError as error:  # the slot has lost its log: whoever leads next makes it anew
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
        """Make publication and slot; a slot that has lost its log is made anew."""
        known = sa.text("select 1 from pg_publication where pubname = :name")
        if (await connection.execute(known, {"name": PUBLICATION})).first() is None:
            await connection.execute(
                sa.text(f"create publication {PUBLICATION} for table {outbox.name} with (publish = 'insert')")
            )
        slot = (await connection.execute(_status, {"slot": self._slot})).mappings().first()
        if slot is not None and slot["wal_status"] == "lost":
            log.critical("outbox.slot_lost", slot=self._slot, mend="raise max_slot_wal_keep_size")
            await connection.execute(sa.select(sa.func.pg_drop_replication_slot(self._slot)))
            slot = None
        if slot is None:
            await connection.execute(sa.select(sa.func.pg_create_logical_replication_slot(self._slot, "pgoutput")))

    async def _drain(self, connection: AsyncConnection) -> set[int]:
        """Publish what stands in the table, which the log may not hold any more; the ids, since it may."""
        drained, after = set[int](), 0
        columns = [outbox.c[name] for name in ("id", "subject", "topic", "event", "written", "attempts", "lane")]
        oldest = sa.select(*columns).where(outbox.c.id > sa.bindparam("after")).order_by(outbox.c.id).limit(BATCH)
        while found := (await connection.execute(oldest, {"after": after})).all():
            rows = [Row(*row) for row in found]
            await self._insist(connection, rows)
            drained.update(row.id for row in rows)
            after = rows[-1].id
        return drained

    async def _follow(self, connection: AsyncConnection, drained: set[int]) -> bool:
        """Publish the next transactions and let the slot advance; whether there were any."""
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
            if not changes.end:  # others have written: what is not ours needs not be kept
                await self._advance(connection, str(reached))
            await self._check(connection)
        return bool(changes.end)

    async def _advance(self, connection: AsyncConnection, end: str) -> None:
        advance = sa.text("select pg_replication_slot_advance(:slot, cast(:upto as pg_lsn))")
        await connection.execute(advance, {"slot": self._slot, "upto": end})

    async def _check(self, connection: AsyncConnection) -> None:
        """Say how far behind the slot is, and cry before it is lost."""
        slot = (await connection.execute(_status, {"slot": self._slot})).mappings().one()
        metrics.SLOT_LAG.set(float(slot["lag"] or 0))
        if slot["safe_wal_size"] is not None:
            metrics.SLOT_LEFT.set(float(slot["safe_wal_size"]))
        if slot["wal_status"] in {"unreserved", "lost"}:
            log.critical(
                "outbox.slot_in_danger",
                slot=self._slot,
                lag_bytes=int(slot["lag"] or 0),
                mend="let the broker come back, or raise max_slot_wal_keep_size; the table still holds every event",
            )

    async def _insist(self, connection: AsyncConnection, rows: Sequence[Row]) -> None:
        """Publish rows in order until all are gone; what is refused again and again is parked."""
        waiting, pause, tries = list(rows), _FIRST_PAUSE, Counter[int]()
        while waiting:
            went, failed = await self._publish_alive(connection, waiting)
            self._measure(waiting, set(went))
            refused: Errors = {each: error for each, error in failed.items() if isinstance(error, PublishRefused)}
            tries.update(refused.keys())
            too_often = max(tries.values(), default=0) >= TRIES
            given_up = [row._replace(attempts=tries[row.id] - 1) for row in waiting if too_often and row.id in refused]
            await self._gone(waiting, went, given_up, refused)
            gone = {*went, *(row.id for row in given_up)}
            waiting = [row for row in waiting if row.id not in gone]
            if failed and waiting:
                log.warning("outbox.publish_failed", rows=len(waiting), reason=str(next(iter(failed.values()))))
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
                await self._check(connection)  # and PostgreSQL hears that this session lives

    async def _publish_alive(self, connection: AsyncConnection, rows: Sequence[Row]) -> tuple[list[int], Errors]:
        """Publish, and let PostgreSQL hear meanwhile that this session lives, however slow the broker is."""
        publishing = asyncio.create_task(contained(partial(publish, self._sidecar, rows)))
        try:
            while not (await asyncio.wait([publishing], timeout=_BEAT))[0]:
                await self._check(connection)
            return publishing.result()
        finally:
            publishing.cancel()
            await asyncio.wait([publishing])

    async def _gone(self, rows: Sequence[Row], went: list[int], given_up: list[Row], errors: Errors) -> None:
        if not went and not given_up:
            return
        async with self._database.transaction(durable=False) as connection:
            await self._remove(connection, [*went, *(row.id for row in given_up)])
            await self._park(connection, given_up, errors)
        gone = {*went, *(row.id for row in given_up)}
        mine = set(self._lease.lanes)
        self._set_depth(max(self._depth - sum(row.id in gone and row.waits_for in mine for row in rows), 0))

    async def _settle(self) -> None:
        """Note where nothing of this instance waits any more."""
        if self.depth:
            await self._count()
        if not self.depth:
            self._empty.set()


def _row(inserted: Inserted) -> Row:
    """A row as the relay knows it; `waits_for` is its own lane: in the log nobody waits for another."""
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
