"""The log strategy: messages are stored in slots next to the document, in the same state transaction.

Each run of a service has a *lane*: numbered slots `outbox/<lane>/<n>` that only this run writes. A unit of work puts
its messages into a free slot in the transaction that writes its document. After the commit they are delivered
immediately; then another unit of work overwrites the slot, or it is removed: soon if other instances have lanes, since
they may wait for that. A small directory lists the lanes with their leases. The first instance that notices an expired
lease adopts the lane: it reads the slots and delivers their messages.

Guarantees on failure:

- Before the commit: nothing was written or sent.
- Between commit and publish: the service's next start delivers the slot, or another instance once the lease has expired
  (15 s).
- Between publish and acknowledgement, or before the slot is overwritten or removed: published again with the same id;
  the broker or the inbox drops the duplicate.
- Broker down: slots wait; publishing is retried with back-off, in order per document; commands are still accepted.
- Several instances change one document: only the lane's holder publishes its slots. The others wait until the slots of
  earlier units of work are empty, which is soon, or until the lane is adopted because its lease has expired.
- An event is rejected (missing topic, too large): later events of its document wait for up to 20 attempts in about
  twelve minutes. Then it is parked: it stays in its slot and is retried once per minute and at every start, so that it
  is published once the cause is fixed; later events no longer wait for it.
- Sidecar or state store down: commands fail with `SidecarUnavailable`; a commit whose response was lost is verified as
  soon as the store answers.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import msgspec
import structlog

from tidings.background import restart_on_failure
from tidings.clock import Renewals
from tidings.context import Outgoing
from tidings.dapr import Delete, Sidecar, Upsert
from tidings.errors import PublishRefused, SidecarError, SidecarUnavailable, StateConflict
from tidings.messages.envelope import new_id
from tidings.observability import metrics
from tidings.outbox.documents import Pointer, Slot, read_document, read_slot, write
from tidings.outbox.port import LEASE, TRIES, Deliver
from tidings.outbox.publisher import BatchingPublisher

log = structlog.get_logger(__name__)
T = TypeVar("T")

DIRECTORY = "outbox/lanes"
_FIRST_PAUSE, _LONGEST_AWAY, _LONGEST_REFUSED = 0.05, 5.0, 60.0  # seconds between attempts
_FIRST_EXTENT = 256
# Seconds for which a delivered slot may be reused before it is removed. Other instances with messages of the same
# document wait for the removal. Without any, slots are reused often enough that few removals are left.
_KEPT, _KEPT_ALONE = 0.05, 1.0
_FIRST_LOOK, _LONGEST_LOOK = 0.005, 1.0  # seconds between polls for deliveries of another instance
_CHUNK = 256  # slots read or removed in one call


class Lease(msgspec.Struct):
    """The holder of a lane, the lease's end (seconds since 1970), and the maximum number of slots."""

    owner: str
    until: float
    extent: int


class Directory(msgspec.Struct):
    """All lanes of the app that may hold messages."""

    lanes: dict[str, Lease] = {}


@dataclass(slots=True)
class _Unit:
    """A committed unit of work with messages to deliver, in the order of their document."""

    slot: str
    content: Slot
    after: tuple[Pointer, ...] = ()
    done: asyncio.Event = field(default_factory=asyncio.Event)
    accepted: float = field(default_factory=time.perf_counter)


@dataclass(frozen=True, slots=True)
class _Deciding:
    """A unit of work whose commit is in progress: it may be stored already."""

    unit: str
    decided: asyncio.Event = field(default_factory=asyncio.Event)


class Lanes:
    """The lane of one instance, and its adopted lanes.

    Args:
        sidecar: Stores slots and publishes events.
        instance: Name of this replica, stable across restarts, so that its previous lane is adopted immediately.
        max_event: Maximum size of a published event in bytes.
        clock: Seconds since 1970.

    """

    def __init__(
        self, sidecar: Sidecar, instance: str, max_event: int = 1_000_000, clock: Callable[[], float] = time.time
    ) -> None:
        self._sidecar = sidecar
        self._instance = instance
        self._max_event = max_event
        self.clock = clock
        self._lane = ""
        self._extent = 0
        self._used = 0
        self._growing = asyncio.Lock()
        self._free: list[str] = []
        self._adopted: dict[str, set[str]] = {}
        self._units: dict[str, _Unit] = {}
        self._deciding: dict[str, _Deciding] = {}
        self._shared = asyncio.Event()  # set while other instances have lanes, as far as this one knows
        self._renewals = Renewals[str](LEASE)
        self._leftover: list[tuple[float, str]] = []
        self._finished: list[str] = []
        self._tasks: set[asyncio.Future[None]] = set()
        self._publisher = BatchingPublisher(sidecar)
        self._wake_cleaner = asyncio.Event()
        self._opened = asyncio.Event()
        self._closed = False

    # -- life ---------------------------------------------------------------------------------------------------

    async def start(self, deliver: Deliver) -> None:
        """Take a lane, adopt those of earlier runs and of expired leases, and keep the lease."""
        self._deliver = deliver
        self._lane = new_id().replace("-", "")
        await self._until_stored(self._register)
        self._opened.set()
        self._start(self._keep_lease)
        self._start(self._clean)

    async def stop(self, grace_period: float) -> None:
        """Finish messages in flight within `grace_period` seconds; another instance adopts the rest."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_period):
                for unit in [unit for unit in self._units.values() if unit.content.outgoing]:
                    await unit.done.wait()
        self._closed = True  # messages committed from now on would not be delivered here
        self._publisher.stop()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._opened.is_set():
            self._retire(asyncio.get_running_loop().time())
            with contextlib.suppress(SidecarError):
                await self._remove_finished()
                await self._release()

    @property
    def depth(self) -> int:
        """Number of units of work with undelivered messages."""
        return len(self._units)

    def _start(self, work: Callable[..., Awaitable[None]], *values: Any) -> None:
        task = asyncio.ensure_future(restart_on_failure(f"outbox.{work.__name__.strip('_')}", partial(work, *values)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- slots --------------------------------------------------------------------------------------------------

    async def take(self, count: int) -> list[str]:
        """Reserve free slots for a unit of work that is about to commit.

        Raises:
            SidecarUnavailable: The service is stopping.

        """
        await self._opened.wait()
        while self._used + count - len(self._leftover) - len(self._free) > self._extent:
            await self._grow()
        if self._closed:
            raise SidecarUnavailable("the service is stopping and accepts no further units of work")
        return [self._slot() for _ in range(count)]

    def _slot(self) -> str:
        if self._leftover:  # overwriting a delivered slot saves its removal
            return self._leftover.pop()[1]
        if self._free:
            return self._free.pop()
        self._used += 1
        return f"outbox/{self._lane}/{self._used - 1}"

    def return_slots(self, slots: Iterable[str], *, written: bool) -> None:
        """Return the slots of a unit of work that did not commit; set `written` if the store may hold them."""
        slots = list(slots)
        self._decide(slots)
        if written:
            self._finished.extend(slots)
            self._wake_cleaner.set()
        else:
            self._free.extend(slots)

    async def _grow(self) -> None:
        extent = self._extent * 2
        async with self._growing:
            if self._extent < extent:
                await self._directory(lambda lanes: self._lease(lanes, extent=extent))
                self._extent = extent

    def committing(self, contents: Iterable[tuple[str, Slot]]) -> None:
        """Register a unit of work before it is written; `committed` or `return_slots` ends this state.

        Until then, other units of work that read its document must not consider its messages as delivered.
        """
        self._deciding.update({slot: _Deciding(content.unit) for slot, content in contents})

    def _decide(self, slots: Iterable[str]) -> None:
        for slot in slots:
            if (deciding := self._deciding.pop(slot, None)) is not None:
                deciding.decided.set()

    # -- delivering ---------------------------------------------------------------------------------------------

    def committed(self, contents: Sequence[tuple[str, Slot]], after: Iterable[Pointer]) -> None:
        """Deliver a committed unit of work: events in the order of their document, scheduled messages when due."""
        if self._closed:  # the next holder of the lane delivers them
            return
        earlier = tuple(after)
        for slot, content in contents:
            self._accept(_Unit(slot, content, earlier if content.outgoing else ()))
        self._decide(slot for slot, _ in contents)

    def _accept(self, unit: _Unit) -> None:
        self._units[unit.slot] = unit
        metrics.OUTBOX_DEPTH.inc()
        self._start(self._publish if unit.content.outgoing else self._serve, unit)

    async def _publish(self, unit: _Unit) -> None:
        shared = await self._earlier_delivered(unit.after)
        tries = 1 if unit.content.parked else TRIES
        refused = [message for message in unit.content.outgoing if not await self._publish_one(message, tries)]
        if refused:
            await self._park(unit, refused)
        self._finish(unit, reuse=not shared)
        if shared:  # other instances may be waiting until the slot is empty
            await self._until_stored(self._remove_finished)

    async def _park(self, unit: _Unit, refused: list[Outgoing]) -> None:
        """Unblock later messages, and continue to retry."""
        if not unit.content.parked:
            # Remove published messages: publishing them again later than the inbox retention would duplicate them.
            content = msgspec.structs.replace(unit.content, outgoing=refused, parked=True)
            await self._until_stored(lambda: self._sidecar.transact([Upsert(unit.slot, write(content))]))
            for message in refused:
                metrics.published(message.topic, "parked")
            log.error("outbox.parked", slot=unit.slot, topics=[message.topic for message in refused], tries=TRIES)
        unit.done.set()
        while refused:
            await asyncio.sleep(_LONGEST_REFUSED)
            refused = [message for message in refused if not await self._publish_one(message, 1)]

    async def _earlier_delivered(self, pointers: Iterable[Pointer]) -> bool:
        """Wait until earlier units of work of the document are delivered; return True if another instance has some.

        Wait for this instance's own first: they wait for the others themselves, so that one task per document polls the
        store.
        """
        foreign = [pointer for pointer in pointers if not await self._own_delivered(pointer)]
        waiting, pause = await self._undelivered(foreign), _FIRST_LOOK
        while waiting:
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_LOOK)
            waiting = await self._undelivered(waiting)
        return bool(foreign)

    async def _own_delivered(self, pointer: Pointer) -> bool:
        """Wait until a unit of work of this instance is delivered; return False if it belongs to another."""
        deciding = self._deciding.get(pointer.slot)
        if deciding is not None and deciding.unit == pointer.unit:
            await deciding.decided.wait()
        own = self._units.get(pointer.slot)
        if own is not None and own.content.unit == pointer.unit:
            if own.content.outgoing:
                await own.done.wait()
            return True
        return self._is_own(pointer.slot)

    async def _undelivered(self, pointers: Sequence[Pointer]) -> list[Pointer]:
        """Return the pointers whose events other instances have yet to publish, without parked ones."""
        slots = await self._until_stored(lambda: self._read(pointers))
        return [pointer for pointer, slot in slots.items() if slot.outgoing and not slot.parked]

    async def _read(self, pointers: Sequence[Pointer]) -> dict[Pointer, Slot]:
        """Return the stored slots of units of work; those of delivered ones have been emptied or reused."""
        slots: dict[str, Slot] = {}
        for start in range(0, len(pointers), _CHUNK):
            items = await self._sidecar.get_many([pointer.slot for pointer in pointers[start : start + _CHUNK]])
            slots |= {key: read_slot(item) for key, item in items.items()}
        return {
            pointer: slot
            for pointer in pointers
            if (slot := slots.get(pointer.slot)) is not None and slot.unit == pointer.unit
        }

    async def _publish_one(self, message: Outgoing, tries: int) -> bool:
        """Publish an event; return False if it was rejected `tries` times."""
        pause, refused = _FIRST_PAUSE, False
        while True:
            # Publish a rejected event separately: in a batch that fails, the others would be sent twice.
            publish = self._sidecar.publish if refused else self._publisher.publish
            try:
                await publish(message.topic, bytes(message.event))
            except SidecarError as error:
                refused = isinstance(error, PublishRefused)
                metrics.published(message.topic, "refused" if refused else "unavailable")
                level = log.error if refused else log.warning
                level("outbox.publish_failed", topic=message.topic, reason=str(error), again_in=round(pause, 2))
                tries -= refused
                if not tries:
                    return False
            else:
                metrics.published(message.topic, "ok")
                return True
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
            pause = min(pause * 2, _LONGEST_REFUSED if refused else _LONGEST_AWAY)

    async def _serve(self, unit: _Unit) -> None:
        scheduled = unit.content.scheduled
        if scheduled is not None:
            await asyncio.sleep(scheduled.remaining(self.clock()))
            await self._deliver(scheduled)
        self._finish(unit)

    def _finish(self, unit: _Unit, *, reuse: bool = True) -> None:
        unit.done.set()
        self._units.pop(unit.slot, None)
        metrics.OUTBOX_DEPTH.dec()
        if unit.content.outgoing:
            metrics.OUTBOX_LAG.observe(time.perf_counter() - unit.accepted)
        if reuse and self._is_own(unit.slot):
            self._leftover.append((asyncio.get_running_loop().time(), unit.slot))
        else:
            self._finished.append(unit.slot)
        self._wake_cleaner.set()

    def _is_own(self, slot: str) -> bool:
        return slot.startswith(f"outbox/{self._lane}/")

    async def still_pending(self, pointers: Sequence[Pointer]) -> list[Pointer]:
        """Return the units of work whose messages are pending.

        Raises:
            SidecarUnavailable: The store, which holds those of other instances, did not answer.

        """
        known = {pointer: self._is_pending(pointer) for pointer in pointers}
        stored = await self._read([pointer for pointer in pointers if known[pointer] is None])
        return [pointer for pointer in pointers if known[pointer] or pointer in stored]

    def _is_pending(self, pointer: Pointer) -> bool | None:
        """Return True if a unit's messages are pending; None if it is in another lane, whose state is in the store."""
        deciding = self._deciding.get(pointer.slot)
        if deciding is not None and deciding.unit == pointer.unit:
            return True
        unit = self._units.get(pointer.slot)
        if unit is not None:
            return unit.content.unit == pointer.unit
        return False if self._is_own(pointer.slot) else None

    async def _clean(self) -> None:
        while True:
            await self._wake_cleaner.wait()
            self._wake_cleaner.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_KEPT_ALONE - _KEPT):
                    await self._shared.wait()
            await asyncio.sleep(_KEPT)
            kept = _KEPT if self._shared.is_set() else _KEPT_ALONE
            self._retire(asyncio.get_running_loop().time() - kept)
            await self._until_stored(self._remove_finished)
            if self._leftover:
                self._wake_cleaner.set()

    def _retire(self, before: float) -> None:
        """Schedule the removal of slots that were delivered before a time and have not been reused."""
        old = sum(when <= before for when, _ in self._leftover)  # oldest first; reuse takes from the end
        self._finished.extend(slot for _, slot in self._leftover[:old])
        del self._leftover[:old]

    async def _remove_finished(self) -> None:
        while self._finished:
            batch, self._finished = self._finished[:_CHUNK], self._finished[_CHUNK:]
            try:
                await self._sidecar.transact([Delete(slot) for slot in batch])
            except BaseException:
                self._finished.extend(batch)
                raise
            self._free.extend(slot for slot in batch if self._is_own(slot))
            for slots in self._adopted.values():
                slots.difference_update(batch)

    # -- after a commit whose answer got lost -------------------------------------------------------------------

    def uncertain(
        self, contents: Sequence[tuple[str, Slot]], after: Iterable[Pointer], writing: asyncio.Future[None]
    ) -> None:
        """Determine whether a unit of work without a response was committed, and deliver it if so."""
        if contents and not self._closed:
            self._start(self._resolve, list(contents), tuple(after), writing)

    async def _resolve(
        self, contents: list[tuple[str, Slot]], after: tuple[Pointer, ...], writing: asyncio.Future[None]
    ) -> None:
        await asyncio.wait([writing])  # until then, the store may not show the write
        document = contents[0][1].document
        item = await self._until_stored(lambda: self._sidecar.get(document))
        pending = {pointer.slot: pointer.unit for pointer in read_document(item).pending}
        committed = [(slot, content) for slot, content in contents if pending.get(slot) == content.unit]
        self.committed(committed, after)
        kept = {slot for slot, _ in committed}
        self.return_slots([slot for slot, _ in contents if slot not in kept], written=True)

    # -- leases -------------------------------------------------------------------------------------------------

    async def _register(self) -> None:
        await self._directory(lambda lanes: self._lease(lanes, extent=_FIRST_EXTENT))
        self._extent = _FIRST_EXTENT
        await self._adopt()

    def _lease(self, lanes: dict[str, Lease], *, extent: int | None = None) -> None:
        until = self.clock() + LEASE
        lanes[self._lane] = Lease(self._instance, until, extent or self._extent)
        for lane in self._adopted:
            if lane in lanes:
                lanes[lane] = Lease(self._instance, until, lanes[lane].extent)
        if lanes.keys() <= {self._lane, *self._adopted}:
            self._shared.clear()
        else:
            self._shared.set()

    async def _keep_lease(self) -> None:
        while True:
            await asyncio.sleep(LEASE / 3)
            await self._until_stored(self._renew)

    async def _renew(self) -> None:
        emptied = [lane for lane, slots in self._adopted.items() if not slots]

        def renew(lanes: dict[str, Lease]) -> None:
            self._lease(lanes)
            for lane in emptied:
                lanes.pop(lane, None)

        await self._directory(renew)
        for lane in emptied:
            del self._adopted[lane]
        await self._adopt()

    async def _adopt(self) -> None:
        """Adopt the lanes of earlier runs and of silent instances, and deliver their messages."""
        orphans: dict[str, int] = {}

        def claim(lanes: dict[str, Lease]) -> bool:
            orphans.clear()
            now, silent = self.clock(), self._renewals.silent(lanes)
            for lane, lease in lanes.items():
                free = lease.owner == self._instance or lease.until < now or lane in silent
                if free and lane != self._lane and lane not in self._adopted:
                    orphans[lane] = lease.extent
                    lanes[lane] = Lease(self._instance, now + LEASE, lease.extent)
            return bool(orphans)

        await self._directory(claim)
        for lane, extent in orphans.items():
            slots = await self._read_lane(lane, extent)
            self._adopted[lane] = set(slots)
            if slots:
                log.info("outbox.adopted", lane=lane, units=len(slots))
            for slot, content in slots.items():
                self._start(self._resume, slot, content)

    async def _read_lane(self, lane: str, extent: int) -> dict[str, Slot]:
        """Return all non-empty slots of a lane."""
        keys = [f"outbox/{lane}/{number}" for number in range(extent)]
        slots: dict[str, Slot] = {}
        for start in range(0, extent, _CHUNK):
            items = await self._sidecar.get_many(keys[start : start + _CHUNK])
            slots |= {key: read_slot(item) for key, item in items.items()}
        return slots

    async def _resume(self, slot: str, content: Slot) -> None:
        item = await self._until_stored(lambda: self._sidecar.get(content.document))
        pending = read_document(item).pending
        pointer = Pointer(content.unit, slot)
        if pointer not in pending:
            self.return_slots([slot], written=True)
            return
        earlier = pending[: pending.index(pointer)]
        self._accept(_Unit(slot, content, tuple(earlier) if content.outgoing else ()))

    async def _release(self) -> None:
        """Leave the directory; lanes that still hold messages stay, available for immediate adoption."""
        busy = {slot.split("/")[1] for slot in (*self._units, *self._deciding)}

        def leave(lanes: dict[str, Lease]) -> None:
            for lane in [self._lane, *self._adopted]:
                if lane in busy and lane in lanes:
                    lanes[lane] = Lease("", 0.0, lanes[lane].extent)
                else:
                    lanes.pop(lane, None)

        await self._directory(leave)

    async def _directory(self, change: Callable[[dict[str, Lease]], object]) -> None:
        """Change the directory, and retry on a concurrent change."""
        while True:
            item = await self._sidecar.get(DIRECTORY)
            directory = Directory() if item is None else msgspec.json.decode(item.value, type=Directory)
            if change(directory.lanes) is False:
                return
            value = msgspec.json.encode(directory)
            try:
                etag = None if item is None else item.etag
                await self._sidecar.transact([Upsert(DIRECTORY, value, etag=etag, insert=item is None)])
            except StateConflict:
                await asyncio.sleep(random.uniform(0.0, 0.05))  # noqa: S311 - jitter
            else:
                return

    async def _until_stored(self, call: Callable[[], Awaitable[T]]) -> T:
        """Repeat a call until the state store answers."""
        pause = 0.1
        while True:
            try:
                return await call()
            except SidecarError as error:
                log.warning("outbox.store_unavailable", reason=str(error), again_in=round(pause, 2))
            await asyncio.sleep(pause)
            pause = min(pause * 2, 5.0)
