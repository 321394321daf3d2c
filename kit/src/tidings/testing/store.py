"""A state store in memory, with the etags, first writes, times to live and transactions of Dapr's."""

from __future__ import annotations

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
    """One state store, shared by as many sidecars as a test needs; keys carry the app id, as Dapr's do.

    Args:
        clock: What times to live are counted on.
        name: The component's name.
        atomic: True behaves as SQLite and PostgreSQL: a transaction with an operation that does not hold writes
            nothing. False behaves as Redis, which knows no rollback: the other operations of the transaction are
            written all the same, and an operation with an etag holds where its key is gone.

    """

    def __init__(self, clock: Callable[[], float] | None = None, *, name: str = "state", atomic: bool = True) -> None:
        self.clock = clock or Clock()
        self.name = name
        self.atomic = atomic
        self._entries: dict[str, _Entry] = {}
        self._etags = map(str, itertools.count(1))

    def keys(self) -> list[str]:
        """Every key that is there, with its app id: `orders||order/17`."""
        return sorted(key for key in self._entries if self.read(key) is not None)

    def read(self, key: str) -> Item | None:
        """Read a key that carries its app id."""
        entry = self._entries.get(key)
        if entry is None or (entry.expires is not None and entry.expires <= self.clock()):
            return None
        return entry.item

    def transact(self, operations: Iterable[Operation]) -> None:
        """Apply operations whose keys carry their app id.

        Raises:
            StateConflict: An etag or an `insert` did not hold.

        """
        before, broken = dict(self._entries), []
        for operation in operations:
            if self._holds(operation):
                self._apply(operation)
            else:
                broken.append(operation.key)
        if broken and self.atomic:
            self._entries = before
        if broken:
            raise StateConflict(f"{', '.join(broken)}: possible etag mismatch")

    def _holds(self, operation: Operation) -> bool:
        there = self.read(operation.key)
        if isinstance(operation, Upsert) and operation.insert:
            return there is None
        if operation.etag is None:
            return True
        return not self.atomic if there is None else there.etag == operation.etag

    def _apply(self, operation: Operation) -> None:
        if isinstance(operation, Delete):
            self._entries.pop(operation.key, None)
            return
        expires = None if operation.ttl is None else self.clock() + operation.ttl
        self._entries[operation.key] = _Entry(Item(operation.value, next(self._etags)), expires)
