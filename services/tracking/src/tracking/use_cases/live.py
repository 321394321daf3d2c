"""Live changes of orders: notifies the streams of this replica, and caches the latest orders."""

import asyncio
from collections import OrderedDict, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache

from tidings.messages.envelope import new_id
from tracking.domain import TrackedOrder
from tracking.settings import settings

_DIGITS = 15


@dataclass(slots=True, eq=False)
class Mailbox:
    """Pending changes for one stream of all orders, with only the latest change of each order.

    A slow client therefore holds a bounded number of changes, and still gets the current state of each order.
    """

    _waiting: OrderedDict[str, tuple[int, TrackedOrder]] = field(default_factory=OrderedDict)
    _filled: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, number: int, order: TrackedOrder, most: int) -> None:
        """Add a change; it replaces an earlier one of the same order."""
        self._waiting.pop(order.order_id, None)
        self._waiting[order.order_id] = (number, order)
        while len(self._waiting) > most:
            self._waiting.popitem(last=False)
        self._filled.set()

    def wake(self) -> None:
        """Make `take` return, even without changes."""
        self._filled.set()

    async def take(self) -> list[tuple[int, TrackedOrder]]:
        """Wait for changes, and remove and return them in order."""
        await self._filled.wait()
        self._filled.clear()
        taken = list(self._waiting.values())
        self._waiting.clear()
        return taken


def number_of(text: str) -> int | None:
    """Return the number of a change; None if this service cannot have issued it."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _DIGITS else None


class Live:
    """Changes known to this replica.

    Args:
        most: Number of latest orders that are cached.

    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._run = new_id()
        self._number = 0
        self._latest: OrderedDict[str, tuple[int, TrackedOrder]] = OrderedDict()
        self._unshared: dict[str, int] = {}
        self._mailboxes: set[Mailbox] = set()
        self._watched: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self.closed = False

    def changed(self, order: TrackedOrder, *, shared: bool = False) -> None:
        """Notify all streams of a changed order; `shared` if other replicas know the change already."""
        known = self._latest.get(order.order_id)
        # Not by the number of changes: after a rebuild, an order may have fewer than before.
        if known is not None and order.timeline.keys() <= known[1].timeline.keys():
            return
        self._number += 1
        self._latest.pop(order.order_id, None)
        self._latest[order.order_id] = (self._number, order)
        if len(self._latest) > self._most:
            self._latest.popitem(last=False)
        if not shared:
            self._unshared[order.order_id] = order.changes
        for mailbox in self._mailboxes:
            mailbox.put(self._number, order, self._most)
        for event in self._watched.get(order.order_id, ()):
            event.set()

    def close(self) -> None:
        """Close all streams. Clients reconnect to another replica, or to this one after its restart."""
        self.closed = True
        for mailbox in self._mailboxes:
            mailbox.wake()
        for events in self._watched.values():
            for event in events:
                event.set()

    def latest(self, limit: int) -> list[TrackedOrder]:
        """Return the most recently changed orders, latest first."""
        return [order for _, order in list(reversed(self._latest.values()))[:limit]]

    def changes_of(self, order_id: str) -> int:
        """Return the number of known changes of an order."""
        known = self._latest.get(order_id)
        return known[1].changes if known else 0

    def take_unshared(self) -> dict[str, int]:
        """Return and clear the changes not shared yet, as numbers of changes by order id."""
        taken, self._unshared = self._unshared, {}
        return taken

    def restore_unshared(self, unshared: dict[str, int]) -> None:
        """Put back changes that could not be shared."""
        self._unshared = {**unshared, **self._unshared}

    def change_id(self, number: int) -> str:
        """Return the event id of a change, which includes the run of the replica that issued it."""
        return f"{self._run}-{number}"

    @contextmanager
    def watch(self, order_id: str) -> Iterator[asyncio.Event]:
        """Yield an event that is set whenever the order changes."""
        event = asyncio.Event()
        self._watched[order_id].add(event)
        try:
            yield event
        finally:
            self._watched[order_id].discard(event)
            if not self._watched[order_id]:
                del self._watched[order_id]

    @contextmanager
    def watch_all(self, last_id: str | None) -> Iterator[Mailbox]:
        """Yield a mailbox for all changes from now on, preceded by those missed since `last_id`.

        An id from another run (before a restart, or of another replica) is ignored.
        """
        mailbox = Mailbox()
        run, _, number = (last_id or "").rpartition("-")
        since = number_of(number)
        if run == self._run and since is not None and since <= self._number:
            for change, order in self._latest.values():
                if change > since:
                    mailbox.put(change, order, self._most)
        self._mailboxes.add(mailbox)
        try:
            yield mailbox
        finally:
            self._mailboxes.discard(mailbox)


@cache
def live() -> Live:
    """Return the changes that the streams of this replica watch."""
    return Live(settings().latest)
