"""The rails on which the tickets in work hang: the index behind the board.

A state store answers by key only, so what is in work must be written down. One list of all would be the one document
that every order fights for; the orders are spread over several rails instead.
"""

from __future__ import annotations

import zlib
from datetime import datetime

import msgspec

RAILS = 16


class Rail(msgspec.Struct):
    """Orders in work, and since when they are."""

    orders: dict[str, datetime] = {}

    def hang(self, order_id: str, since: datetime) -> None:
        """Put an order's ticket up."""
        self.orders[order_id] = since

    def take_down(self, order_id: str) -> None:
        """Remove an order's ticket, if it hangs there."""
        self.orders.pop(order_id, None)


def rail_of(order_id: str) -> str:
    """On which rail an order's ticket hangs; it depends on nothing but the order."""
    return f"{zlib.crc32(order_id.encode()) % RAILS:02}"


def rails() -> list[str]:
    """All rails."""
    return [f"{number:02}" for number in range(RAILS)]
