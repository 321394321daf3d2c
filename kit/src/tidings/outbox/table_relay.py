"""Publishes the rows of the outbox: in batches, in order per subject, with back-off after a failure."""

import asyncio
import contextlib
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain, islice
from typing import NamedTuple

import sqlalchemy as sa
import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from tidings.background import contained
from tidings.dapr import Sidecar
from tidings.errors import PublishRefused, SidecarError
from tidings.observability import metrics
from tidings.outbox import table_lease
from tidings.outbox.port import TRIES
from tidings.outbox.sql import Database
from tidings.outbox.table_lease import Lease
from tidings.outbox.table_schema import outbox, parked

log = structlog.get_logger(__name__)

BATCH = 500  # rows read, published and removed together
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, table_lease.LONGEST_PAUSE  # seconds between the attempts for one row
_SHORTEST_LOOK, _LONGEST_LOOK = 0.05, 5.0  # seconds between polls while rows are pending
_GATHER = 0.02  # seconds between polls under load, so that one poll and one removal serve many rows
_AT_ONCE = 100  # events in one call to the sidecar
_LENGTH_AT_ONCE = 1_000_000  # characters, of up to four bytes: gRPC's messages are limited to 4 MiB

_rows = (
    sa.select(outbox)
    .where(
        outbox.c.lane == sa.bindparam("lane"),
        outbox.c.id > sa.bindparam("after"),
        outbox.c.due <= sa.bindparam("now"),
    )
    .order_by(outbox.c.id)
    .limit(sa.bindparam("batch"))
    .subquery("rows")
)
_earlier = outbox.alias("earlier")
_waits_for = (  # lane of an earlier row that is delayed or in another lane; an index lookup for each row of a batch
    sa.select(_earlier.c.lane)
    .where(
        _earlier.c.subject == _rows.c.subject,
        _earlier.c.id < _rows.c.id,
        sa.or_(_earlier.c.lane != _rows.c.lane, _earlier.c.due > sa.bindparam("now")),
    )
    .limit(1)
    .scalar_subquery()
)
_batch = sa.select(
    _rows.c.id, _rows.c.subject, _rows.c.topic, _rows.c.event, _rows.c.written, _rows.c.attempts, _waits_for
).order_by(_rows.c.id)

Errors = dict[int, SidecarError]


class Row(NamedTuple):
    """A message to publish."""

    id: int
    subject: str
    topic: str
    event: str
    written: float
    attempts: int
    waits_for: int | None


class Relay:
    """Publishes the rows in the lanes of a lease.

    Args:
        database: Database of the rows.
        lease: The lanes to serve.
        sidecar: Publishes the events.
        clock: Steady clock, in seconds since 1970.

    """

    def __init__(self, database: Database, lease: Lease, sidecar: Sidecar, clock: Callable[[], float]) -> None:
        self._database = database
        self._lease = lease
        self._sidecar = sidecar
        self.clock = clock
        self._awake = asyncio.Event()
        self._empty = asyncio.Event()
        self._unavailable = False
        self._blocked = False
        self._committing = 0
        self._commits = 0
        self._depth = 0
        self._removal = sa.delete(outbox).where(database.among(outbox.c.id, "ids"))

    @property
    def depth(self) -> int:
        """Number of messages that are committed but not published."""
        return self._depth

    def _set_depth(self, depth: int) -> None:
        self._depth = depth
        metrics.OUTBOX_DEPTH.set(depth)

    @contextmanager
    def committing(self, messages: int) -> Iterator[None]:
        """Surround a commit that adds messages; afterwards, the relay looks for them, whatever the outcome."""
        self._committing += 1
        try:
            yield
        finally:
            self._committing -= 1
            self._commits += 1
            if messages:
                self._add(messages)

    async def begin(self) -> None:
        """Take a lane, and adopt those of earlier runs.

        Raises:
            SidecarUnavailable: The database does not answer.

        """
        self._add(await self._lease.begin())

    async def renew(self) -> None:
        """Renew the lease, and adopt the lanes of silent instances.

        Raises:
            SidecarUnavailable: The database does not answer.

        """
        if adopted := await self._lease.keep():
            self._add(adopted)

    def _add(self, messages: int) -> None:
        self._set_depth(self._depth + messages)
        self._empty.clear()
        self._awake.set()

    async def emptied(self) -> None:
        """Wait until everything is published."""
        await self._empty.wait()

    async def run(self) -> None:
        """Publish forever."""
        pause = _SHORTEST_LOOK
        while True:
            self._awake.clear()
            went = await self._look()
            if not self.depth:
                self._empty.set()
            if went:
                await asyncio.sleep(_GATHER)
            if went and self.depth:
                continue
            pause = _SHORTEST_LOOK if went or self._blocked else min(pause * 2, _LONGEST_LOOK)
            await self._rest(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter

    async def _look(self) -> int:
        """Publish ready rows, once through every lane; return the number of published rows."""
        self._unavailable = self._blocked = False
        try:
            went = sum([await self._sweep(lane) for lane in self._lease.lanes])
            if self.depth and not went:
                await self._count()
        except SidecarError as error:
            log.warning("outbox.waits_for_database", reason=str(error))
            self._unavailable = True
            return 0
        return went

    async def _rest(self, pause: float) -> None:
        """Sleep until there is a new message, or until pending rows are due for a retry."""
        if self._unavailable:  # new commits would fail as well
            await asyncio.sleep(pause)
        elif self.depth:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):  # not wait_for, which may swallow a cancellation in Python 3.11
                    await self._awake.wait()
        else:
            self._empty.set()
            await self._awake.wait()

    async def _count(self) -> None:
        """Correct the depth after a commit whose response was lost."""
        before = self._commits
        async with self._database.connect(write=False) as connection:
            own = outbox.c.lane.in_(self._lease.lanes)
            count = (await connection.execute(sa.select(sa.func.count()).where(own))).scalar_one()
        if not self._committing and self._commits == before:
            self._set_depth(count)

    async def _sweep(self, lane: int) -> int:
        # One time for the whole sweep, so that rows cannot overtake an earlier one that becomes due meanwhile.
        went, after, now = 0, 0, self.clock()
        while True:
            if not self._lease.holds:
                await self.renew()
            values = {"lane": lane, "after": after, "now": now, "batch": BATCH}
            rows = [Row(*row) for row in await self._database.run_single(_batch, values, write=False)]
            count = await self._publish([row for row in rows if row.waits_for is None])
            went += count
            self._blocked |= any(row.waits_for not in {None, lane} for row in rows)
            if len(rows) < BATCH or self._unavailable:
                return went
            after = rows[-1].id

    async def _publish(self, rows: Sequence[Row]) -> int:
        """Publish rows and remove them on success; return the number of published rows."""
        if not rows:
            return 0
        went, failed = await publish(self._sidecar, rows)
        self._measure(rows, set(went))
        if failed:
            log.warning("outbox.publish_failed", rows=len(failed), reason=str(next(iter(failed.values()))))
        own = _own_failures(failed, len(went))
        self._unavailable = len(own) < len(failed)
        delayed = [row for row in rows if row.id in own and row.attempts + 1 < TRIES]
        exhausted = [row for row in rows if row.id in own and row.attempts + 1 >= TRIES]
        if went and not own:
            await self._database.run_single(self._removal, {"ids": self._database.numbers(went)})
        elif own:
            async with self._database.transaction(durable=False) as connection:
                await self._remove(connection, [*went, *(row.id for row in exhausted)])
                await self._delay(connection, delayed, own)
                await self._park(connection, exhausted, own)
        self._set_depth(self._depth - len(went) - len(exhausted))
        return len(went)

    def _measure(self, rows: Sequence[Row], went: set[int]) -> None:
        now = self.clock()
        for row in rows:
            if row.id in went:
                metrics.OUTBOX_LAG.observe(now - row.written)

    async def _remove(self, connection: AsyncConnection, ids: list[int]) -> None:
        if ids:
            await connection.execute(self._removal, {"ids": self._database.numbers(ids)})

    async def _delay(self, connection: AsyncConnection, rows: list[Row], errors: Errors) -> None:
        """Delay rows, and thereby their subjects."""
        now = self.clock()
        values = [
            {
                "row": row.id,
                "attempts": row.attempts + 1,
                "due": now + min(_FIRST_PAUSE * 2**row.attempts, _LONGEST_PAUSE),
                "reason": str(errors[row.id]),
            }
            for row in rows
        ]
        if values:
            await connection.execute(sa.update(outbox).where(outbox.c.id == sa.bindparam("row")), values)

    async def _park(self, connection: AsyncConnection, rows: list[Row], errors: Errors) -> None:
        """Park rows that have used up their attempts, so that their subjects continue."""
        values = [
            {
                "id": row.id,
                "subject": row.subject,
                "topic": row.topic,
                "event": row.event,
                "written": row.written,
                "attempts": row.attempts + 1,
                "reason": str(errors[row.id]),
                "parked_at": self.clock(),
            }
            for row in rows
        ]
        if values:
            await connection.execute(sa.insert(parked), values)
            for row in rows:
                metrics.published(row.topic, "parked")
            log.error("outbox.parked", ids=[row.id for row in rows], reason=values[0]["reason"])


def _own_failures(failed: Errors, went: int) -> Errors:
    """Return the failures caused by the row itself: a rejection, or a failure while at least as many rows succeeded.

    Otherwise the sidecar or broker is unavailable, and all rows can be published once it is available again.
    """
    unavailable = sum(not isinstance(error, PublishRefused) for error in failed.values())
    if unavailable <= went:
        return failed
    return {id_: error for id_, error in failed.items() if isinstance(error, PublishRefused)}


async def publish(sidecar: Sidecar, rows: Sequence[Row]) -> tuple[list[int], Errors]:
    """Publish rows in order per subject; return the ids of published rows, and the errors of failed ones.

    Rows after a failed row of the same subject are not attempted: they are in neither result.
    """
    went: list[int] = []
    failed: Errors = {}
    stopped: set[str] = set()
    for wave in _waves(rows):
        ready = [row for row in wave if row.subject not in stopped]
        calls = list(_calls(ready))
        answers = await asyncio.gather(*(contained(partial(_send, sidecar, call)) for call in calls))
        for row, error in zip(chain(*calls), chain(*answers), strict=True):
            if error is None:
                went.append(row.id)
            else:
                failed[row.id] = error
                stopped.add(row.subject)
    return went, failed


def _waves(rows: Iterable[Row]) -> list[list[Row]]:
    """Group rows that may be published concurrently: the first of each subject, then the second of each, and so on."""
    turns: Counter[str] = Counter()
    waves: list[list[Row]] = []
    for row in rows:
        turn = turns[row.subject]
        turns[row.subject] = turn + 1
        if turn == len(waves):
            waves.append([])
        waves[turn].append(row)
    return waves


def _calls(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Group rows into calls per topic, within the size limits."""
    topics: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        topics[row.topic].append(row)
    for same_topic in topics.values():
        waiting = iter(same_topic)
        while call := list(islice(waiting, _AT_ONCE)):
            yield from _halved(call)


def _halved(call: list[Row]) -> Iterator[list[Row]]:
    if len(call) > 1 and sum(len(row.event) for row in call) > _LENGTH_AT_ONCE:
        yield from _halved(call[: len(call) // 2])
        yield from _halved(call[len(call) // 2 :])
    else:
        yield call


async def _send(sidecar: Sidecar, call: Sequence[Row]) -> Sequence[SidecarError | None]:
    topic = call[0].topic
    errors = await sidecar.publish_many(topic, [row.event.encode() for row in call])
    results = Counter(
        "ok" if error is None else "refused" if isinstance(error, PublishRefused) else "unavailable" for error in errors
    )
    for result, count in results.items():
        metrics.published(topic, result, count)
    return errors
