"""Index of the tickets in work, for the board.

A state store is read by key only, so the ids of the tickets in work have to be stored. The index is split into shards:
a single document would be written by every order, and most of those writes would conflict.
"""

import zlib
from datetime import datetime

import msgspec

SHARDS = 16


class BoardIndex(msgspec.Struct):
    """One shard: the orders in work, with the times of their confirmations."""

    orders: dict[str, datetime] = {}

    def add(self, order_id: str, since: datetime) -> None:
        """Add an order. Idempotent."""
        self.orders[order_id] = since

    def remove(self, order_id: str) -> None:
        """Remove an order, if present."""
        self.orders.pop(order_id, None)


def shard_key(order_id: str) -> str:
    """Return the state key of the shard that an order belongs to; the same for every replica and release."""
    return f"{zlib.crc32(order_id.encode()) % SHARDS:02}"


def shard_keys() -> list[str]:
    """Return the state keys of all shards."""
    return [f"{number:02}" for number in range(SHARDS)]
