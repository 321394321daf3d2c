"""What changes, as it changes: wakes the streams of this replica, and knows the latest orders by heart."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tidings.envelope import new_id
from tracking.domain import TrackedOrder

_DIGITS = 15


@dataclass(slots=True, eq=False)
class Mailbox:
    """Changes for one watcher of all orders, who may be slow: of an order only the latest change waits.

    So it holds at most as many as there are latest orders, and a watcher who was slow has missed nothing that counts.
    """

    _waiting: OrderedDict[str, tuple[int, TrackedOrder]] = field(default_factory=OrderedDict)
    _filled: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, number: int, order: TrackedOrder, most: int) -> None:
        """Add a change, in the place of an earlier one of the same order."""
        self._waiting.pop(order.order_id, None)
        self._waiting[order.order_id] = (number, order)
        while len(self._waiting) > most:
            self._waiting.popitem(last=False)
        self._filled.set()

    def wake(self) -> None:
        """Let `take` answer, with nothing if there is nothing."""
        self._filled.set()

    async def take(self) -> list[tuple[int, TrackedOrder]]:
        """Wait for changes and take them all, in their order."""
        await self._filled.wait()
        self._filled.clear()
        taken = list(self._waiting.values())
        self._waiting.clear()
        return taken


def number_of(text: str) -> int | None:
    """Read the number of a change; None where it is none that this service could have counted."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _DIGITS else None


class Live:
    """Changes that this replica knows of.

    Args:
        most: How many of the latest orders are kept.

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
        """Tell everybody who watches of an order's change; `shared` where other replicas know it already."""
        known = self._latest.get(order.order_id)
        if known is not None and known[1].changes >= order.changes:
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
        """Let every stream end: who watches comes back to another replica, or to this one once it is up again."""
        self.closed = True
        for mailbox in self._mailboxes:
            mailbox.wake()
        for event in (each for events in self._watched.values() for each in events):
            event.set()

    def latest(self, limit: int) -> list[TrackedOrder]:
        """The orders that changed last, the latest first."""
        return [order for _, order in list(reversed(self._latest.values()))[:limit]]

    def changes_of(self, order_id: str) -> int:
        """How many changes of an order are known here."""
        known = self._latest.get(order_id)
        return known[1].changes if known else 0

    def take_unshared(self) -> dict[str, int]:
        """What changed here since this was asked last: order ids and how many changes of each there are."""
        taken, self._unshared = self._unshared, {}
        return taken

    def give_back(self, unshared: dict[str, int]) -> None:
        """It could not be shared after all."""
        self._unshared = {**unshared, **self._unshared}

    def change_id(self, number: int) -> str:
        """The id of a change in the stream of all orders: it says which run of which replica counted."""
        return f"{self._run}-{number}"

    @contextmanager
    def watch(self, order_id: str) -> Iterator[asyncio.Event]:
        """An event that is set whenever an order changes."""
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
        """A mailbox with every change from now on, and, for who comes back, what was missed since `last_id`.

        An id of another run, from before a restart or from another replica, starts from the present.
        """
        mailbox = Mailbox()
        run, _, number = (last_id or "").rpartition("-")
        since = number_of(number)
        if run == self._run and since is not None and since <= self._number:
            for each, order in self._latest.values():
                if each > since:
                    mailbox.put(each, order, self._most)
        self._mailboxes.add(mailbox)
        try:
            yield mailbox
        finally:
            self._mailboxes.discard(mailbox)
