"""Delivers scheduled messages to the service itself when they are due."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import msgspec
import sqlalchemy as sa
import structlog

from tidings.background import restart_on_failure
from tidings.errors import SidecarError
from tidings.outbox.documents import Scheduled
from tidings.outbox.port import Deliver
from tidings.outbox.sql import Database
from tidings.outbox.table_lease import Lease
from tidings.outbox.table_schema import scheduled

log = structlog.get_logger(__name__)

_BATCH = 200
_LONGEST_LOOK = 5.0  # seconds between polls, which find adopted messages
_PAUSE = 1.0  # seconds between attempts to reach the database


@dataclass(frozen=True, slots=True)
class _Entry:
    id: str
    due: float
    event: str


class Schedule:
    """Scheduled messages in the lanes of a lease.

    Args:
        database: Database of the messages.
        lease: The lanes to serve.
        clock: Steady clock, in seconds since the Unix epoch.

    """

    def __init__(self, database: Database, lease: Lease, clock: Callable[[], float]) -> None:
        self._database = database
        self._lease = lease
        self._clock = clock
        self._awake = asyncio.Event()
        self._handled: list[str] = []
        self._handling: set[asyncio.Task[None]] = set()

    @property
    def depth(self) -> int:
        """Number of messages being handled."""
        return len(self._handling)

    def wake(self) -> None:
        """Look for due messages now."""
        self._awake.set()

    async def run(self, deliver: Deliver) -> None:
        """Deliver due messages forever, each until it has its outcome."""
        while True:
            self._awake.clear()
            try:
                await self._remove_handled()
                due = await self._take()
                pause = 0.0 if due else await self._until_next()
            except SidecarError as error:
                log.warning("schedule.waits_for_database", reason=str(error))
                await asyncio.sleep(_PAUSE)
                continue
            for entry in due:
                task = asyncio.ensure_future(restart_on_failure("scheduled", partial(self._deliver, deliver, entry)))
                self._handling.add(task)
                task.add_done_callback(self._handling.discard)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):  # not wait_for, which may swallow a cancellation in Python 3.11
                    await self._awake.wait()

    async def stop(self) -> None:
        """Cancel the messages being handled; the instance that adopts the lane delivers them again."""
        for task in self._handling:
            task.cancel()
        await asyncio.gather(*self._handling, return_exceptions=True)
        await self._remove_handled()

    async def _deliver(self, deliver: Deliver, entry: _Entry) -> None:
        await deliver(Scheduled(entry.due, msgspec.Raw(entry.event.encode())))
        self._handled.append(entry.id)
        self.wake()

    async def _take(self) -> Sequence[_Entry]:
        """Mark due messages as taken, so that they are not selected again while they are handled."""
        due = (
            sa.select(scheduled.c.id)
            .where(scheduled.c.lane.in_(self._lease.lanes), ~scheduled.c.taken, scheduled.c.due <= self._clock())
            .order_by(scheduled.c.due)
            .limit(_BATCH)
        )
        async with self._database.connect(write=False) as connection:
            ids = (await connection.execute(due)).scalars().all()
        if not ids:
            return []
        take = sa.update(scheduled).where(scheduled.c.id.in_(ids)).values(taken=True)
        async with self._database.transaction(durable=False) as connection:
            rows = await connection.execute(take.returning(scheduled.c.id, scheduled.c.due, scheduled.c.event))
            return sorted((_Entry(*row) for row in rows), key=lambda entry: entry.due)

    async def _until_next(self) -> float:
        """Return the seconds until the next message is due."""
        waiting = (scheduled.c.lane.in_(self._lease.lanes), ~scheduled.c.taken)
        async with self._database.connect(write=False) as connection:
            due = (await connection.execute(sa.select(sa.func.min(scheduled.c.due)).where(*waiting))).scalar()
        return _LONGEST_LOOK if due is None else min(max(due - self._clock(), 0.0), _LONGEST_LOOK)

    async def _remove_handled(self) -> None:
        batch = self._handled[:]
        if batch:
            async with self._database.transaction(durable=False) as connection:
                await connection.execute(sa.delete(scheduled).where(scheduled.c.id.in_(batch)))
            del self._handled[: len(batch)]
