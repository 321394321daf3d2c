"""Leases of lanes: an instance delivers the rows of its own lane, and of lanes it adopted from silent instances."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

import sqlalchemy as sa
import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from tidings.clock import Renewals
from tidings.messages.envelope import new_id
from tidings.outbox.documents import INBOX_DAYS, INBOX_PACE
from tidings.outbox.port import LEASE
from tidings.outbox.sql import Database
from tidings.outbox.table_schema import inbox, lanes, outbox, scheduled

log = structlog.get_logger(__name__)

LONGEST_PAUSE = 60.0  # seconds between the attempts for one row
_INBOX_KEPT = timedelta(days=INBOX_DAYS).total_seconds()
_ABANDONED_AFTER = timedelta(days=1).total_seconds()  # longer than any transaction: no more rows
_CHUNK = 5_000
_LAST = 1_000  # minimum number of recent inbox entries, regardless of their age

_holds_something = sa.or_(
    sa.exists().where(outbox.c.lane == lanes.c.lane), sa.exists().where(scheduled.c.lane == lanes.c.lane)
)


class Lease:
    """The lane of one run, and its adopted lanes.

    Args:
        database: Database of the lanes.
        instance: Name of this replica, stable across restarts, so that its previous lanes are adopted immediately.
        clock: Seconds since 1970.
        steady: Steady clock for due times, in seconds since 1970.

    """

    def __init__(
        self, database: Database, instance: str, clock: Callable[[], float], steady: Callable[[], float]
    ) -> None:
        self._database = database
        self._instance = instance
        self._clock = clock
        self._steady = steady
        self._renewals = Renewals[int](LEASE)
        self._run = new_id()
        self._until = 0.0
        self._keeping = asyncio.Lock()
        self._handled = 0
        self._latest = 0.0
        self.lane = 0
        self.adopted: set[int] = set()

    @property
    def lanes(self) -> list[int]:
        """The lanes that this run delivers: adopted ones first, because they are older."""
        return [*sorted(self.adopted), self.lane]

    @property
    def renewal_interval(self) -> float:
        """Seconds between renewals: two may fail before the lease ends."""
        return LEASE / 3

    @property
    def holds(self) -> bool:
        """True while no other instance can have taken over the lanes."""
        return self._clock() < self._until

    async def begin(self) -> int:
        """Take a lane, and adopt those of earlier runs and of silent instances; return the number of their messages."""
        return await self._keep(former_self=True)

    async def keep(self) -> int:
        """Renew the lease, and adopt the lanes of silent instances; return the number of their messages."""
        return await self._keep(former_self=False)

    async def _keep(self, *, former_self: bool) -> int:
        now = self._clock()
        async with self._keeping, self._database.transaction(durable=False) as connection:
            kept = await self._renew(connection, now)
            lane = self.lane
            if lane not in kept:  # at startup, or if another instance has adopted it during a long pause
                insert = sa.insert(lanes).values(instance=self._instance, run=self._run, until=now + LEASE)
                lane = (await connection.execute(insert.returning(lanes.c.lane))).scalar_one()
            # Release empty adopted lanes; if an old transaction still adds a row to one, it is adopted again.
            empty = sa.and_(lanes.c.run == self._run, lanes.c.lane != lane, ~_holds_something)
            leave = sa.update(lanes).where(empty).values(until=now).returning(lanes.c.lane)
            emptied = set((await connection.execute(leave)).scalars())
            gained = await self._adopt(connection, now, former_self=former_self)
            await connection.execute(sa.delete(lanes).where(lanes.c.until < now - _ABANDONED_AFTER, ~_holds_something))
            inherited = sa.select(sa.func.count()).where(outbox.c.lane.in_(gained))
            messages: int = (await connection.execute(inherited)).scalar_one() if gained else 0
            await connection.commit()
            self.lane, self.adopted = lane, (kept | gained) - emptied - {lane}
            self._until = now + LEASE
        return messages

    async def _renew(self, connection: AsyncConnection, now: float) -> set[int]:
        renew = sa.update(lanes).where(lanes.c.run == self._run).values(until=now + LEASE).returning(lanes.c.lane)
        return set((await connection.execute(renew)).scalars())

    async def _adopt(self, connection: AsyncConnection, now: float, *, former_self: bool) -> set[int]:
        foreign = sa.select(lanes.c.lane, lanes.c.until).where(lanes.c.run != self._run)
        leases = {row.lane: float(row.until) for row in await connection.execute(foreign)}
        free = sa.or_(lanes.c.until <= now, lanes.c.lane.in_(list(self._renewals.silent(leases))))
        if former_self:
            free = sa.or_(free, lanes.c.instance == self._instance)
        orphans = (
            sa.select(lanes.c.lane)
            .where(free, lanes.c.run != self._run, _holds_something)
            .order_by(lanes.c.lane)
            .with_for_update(skip_locked=True)
        )
        claim = sa.update(lanes).where(lanes.c.lane.in_(orphans)).returning(lanes.c.lane)
        claim = claim.values(instance=self._instance, run=self._run, until=now + LEASE)
        gained = set((await connection.execute(claim)).scalars())
        if gained:
            log.info("outbox.adopted", lanes=sorted(gained))
            await self._set_dues(connection, gained)
        return gained

    async def _set_dues(self, connection: AsyncConnection, gained: set[int]) -> None:
        """Limit due times in these lanes to now plus the requested wait, because their clock may have been wrong."""
        now = self._steady()
        latest = now + scheduled.c.wait
        due = sa.case((scheduled.c.due > latest, latest), else_=scheduled.c.due)
        adopted = scheduled.c.lane.in_(gained)
        await connection.execute(sa.update(scheduled).where(adopted).values(taken=False, due=due))
        late = sa.and_(outbox.c.lane.in_(gained), outbox.c.due > now + LONGEST_PAUSE)
        await connection.execute(sa.update(outbox).where(late).values(due=now + LONGEST_PAUSE))

    def handling(self, now: float) -> float:
        """Return the time of handling for the inbox, which never decreases even if the clock is set back."""
        self._latest = max(self._latest, now)
        return self._latest

    def handled(self, events: int) -> None:
        """Count new inbox entries."""
        self._handled += events

    async def prune_inbox(self) -> None:
        """Remove expired inbox entries: at most two for each new one.

        If a clock jumps ahead by days, all entries expire at once. The last thousand entries stay nevertheless, and
        others are removed only at the rate of new ones until the clock is right again.
        """
        last = sa.select(inbox.c.handled_at).order_by(inbox.c.handled_at.desc()).offset(_LAST).limit(1)
        while (count := min(INBOX_PACE * self._handled, _CHUNK)) > 0:
            oldest = (
                sa.select(inbox.c.subscription, inbox.c.event)
                .where(inbox.c.handled_at < self._clock() - _INBOX_KEPT, inbox.c.handled_at <= last.scalar_subquery())
                .order_by(inbox.c.handled_at)
                .limit(count)
                .with_for_update(skip_locked=True)
            )
            forget = sa.delete(inbox).where(sa.tuple_(inbox.c.subscription, inbox.c.event).in_(oldest))
            async with self._database.transaction(durable=False) as connection:
                removed = (await connection.execute(forget)).rowcount
            self._handled = self._handled - -(-count // INBOX_PACE) if removed == count else 0

    async def release(self) -> None:
        """Release every lane, so that other instances can adopt them immediately."""
        async with self._database.transaction() as connection:
            await connection.execute(sa.update(lanes).where(lanes.c.run == self._run).values(until=self._clock()))
