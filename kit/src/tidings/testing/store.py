"""An in-memory state store with Dapr's etags, first-write concurrency, times to live and transactions."""

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tidings.dapr import Delete, Item, Operation, Upsert
from tidings.errors import StateConflict
from tidings.testing.clock import Clock


@dataclass(frozen=True, slots=True)
class _Entry:
    item: Item
    expires: float | None


class MemoryStore:
    """A state store, shared by any number of sidecars. Keys include the app id, as Dapr's do.

    Args:
        clock: Clock for times to live.
        name: Name of the component.
        atomic: True behaves like SQLite and PostgreSQL: a transaction with a failed condition writes nothing. False
            behaves like Redis, which has no rollback: the other operations are written, and a condition on the etag of
            a missing key holds.

    """

    def __init__(self, clock: Callable[[], float] | None = None, *, name: str = "state", atomic: bool = True) -> None:
        self.clock = clock or Clock()
        self.name = name
        self.atomic = atomic
        self._entries: dict[str, _Entry] = {}
        self._etags = map(str, itertools.count(1))

    def keys(self) -> list[str]:
        """Return all keys, with their app id: `orders||order/17`."""
        return sorted(key for key in self._entries if self.read(key) is not None)

    def read(self, key: str) -> Item | None:
        """Return the item of a key, which includes the app id."""
        entry = self._entries.get(key)
        if entry is None or (entry.expires is not None and entry.expires <= self.clock()):
            return None
        return entry.item

    def transact(self, operations: Iterable[Operation]) -> None:
        """Apply operations whose keys include the app id.

        Raises:
            StateConflict: The condition of an etag or an `insert` does not hold.

        """
        before, broken = dict(self._entries), []
        for operation in operations:
            if not self._holds(operation):
                broken.append(operation.key)
            elif isinstance(operation, Delete):
                self._entries.pop(operation.key, None)
            else:
                expires = None if operation.ttl is None else self.clock() + operation.ttl
                self._entries[operation.key] = _Entry(Item(operation.value, next(self._etags)), expires)
        if broken and self.atomic:
            self._entries = before
        if broken:
            raise StateConflict(f"{', '.join(broken)}: possible etag mismatch")

    def _holds(self, operation: Operation) -> bool:
        current = self.read(operation.key)
        if isinstance(operation, Upsert) and operation.insert:
            return current is None
        if operation.etag is None:
            return True
        return not self.atomic if current is None else current.etag == operation.etag
