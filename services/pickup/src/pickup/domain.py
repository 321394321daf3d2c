"""Orders picked up at the counter, as a state machine.

Events about an order arrive in any order and more than once; those that no longer change anything are ignored.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated
from zlib import crc32

import msgspec

from tidings.marks import PERSONAL, SUBJECT

SHELVES = "ABCDEFGH"


class PickupError(Exception):
    """Base of all domain errors."""


class NotOnShelf(PickupError):
    """The order is not on a shelf: not yet, or no longer."""


class WrongCode(PickupError):
    """The code does not match the order."""


class Status(StrEnum):
    """Status of an order; the service's README draws the transitions."""

    NEW = "new"
    CONFIRMED = "confirmed"
    BOXED = "boxed"
    SHELVED = "shelved"
    COLLECTED = "collected"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


class ShelvedOrder(msgspec.Struct, kw_only=True):
    """One order at the counter.

    Attributes:
        correlation_id: Correlation id of the order, for the events of steps that are requested over HTTP.
        shelf: The shelf, also after the order was taken off it.
        code: Code that the customer needs to collect the order.
        until: Time when it was collected, expired or cancelled.

    """

    order_id: str
    correlation_id: str = ""
    status: Status = Status.NEW
    customer_id: Annotated[str, SUBJECT] = ""
    customer_name: Annotated[str, PERSONAL] = ""
    boxes: int = 0
    shelf: str = ""
    code: str = ""
    shelved_at: datetime | None = None
    until: datetime | None = None

    def confirm(self, customer_id: str, customer_name: str, *, code: str, now: datetime) -> bool:
        """Record the customer; return whether the order is now on its shelf."""
        if self.status not in {Status.NEW, Status.BOXED}:
            return False
        self.customer_id, self.customer_name = customer_id, customer_name
        if self.status is Status.BOXED:
            return self._shelve(code, now)
        self.status = Status.CONFIRMED
        return False

    def box(self, boxes: int, *, code: str, now: datetime) -> bool:
        """Record the boxes; return whether the order is now on its shelf."""
        if self.status not in {Status.NEW, Status.CONFIRMED}:
            return False
        self.boxes = boxes
        if self.status is Status.CONFIRMED:
            return self._shelve(code, now)
        self.status = Status.BOXED
        return False

    def collect(self, code: str, now: datetime) -> bool:
        """Hand the order out; return False if it was collected before.

        Raises:
            NotOnShelf: The order is not on a shelf.
            WrongCode: The code does not match.

        """
        if self.status not in {Status.SHELVED, Status.COLLECTED}:
            raise NotOnShelf(f"order {self.order_id} is not on a shelf: {_WHY[self.status]}")
        if code.strip().upper() != self.code:
            raise WrongCode(f"{code!r:.20} is not the code of order {self.order_id}; the tracking page shows the code")
        return self._leave(Status.COLLECTED, now)

    def expire(self, now: datetime) -> bool:
        """Expire the order; return whether it was on its shelf."""
        return self._leave(Status.EXPIRED, now)

    def cancel(self, now: datetime) -> bool:
        """Cancel the order; return whether that takes it off its shelf."""
        if self.status in {Status.NEW, Status.CONFIRMED, Status.BOXED}:
            self.status, self.until = Status.CANCELLED, now
            return False
        return self._leave(Status.CANCELLED, now)

    def _shelve(self, code: str, now: datetime) -> bool:
        self.status, self.shelf, self.code, self.shelved_at = Status.SHELVED, shelf_of(self.order_id), code, now
        return True

    def _leave(self, status: Status, now: datetime) -> bool:
        if self.status is not Status.SHELVED:
            return False
        self.status, self.until = status, now
        return True


_WHY = {
    Status.NEW: "it is unknown",
    Status.CONFIRMED: "the kitchen is still working on it",
    Status.BOXED: "its confirmation has not arrived yet",
    Status.EXPIRED: "it was not collected in time",
    Status.CANCELLED: "it was cancelled",
}


class Place(msgspec.Struct, frozen=True):
    """An order on a shelf."""

    shelf: str
    customer_id: Annotated[str, SUBJECT]
    customer_name: Annotated[str, PERSONAL]
    boxes: int
    shelved_at: datetime | None


class ShelfIndex(msgspec.Struct):
    """Index of the orders on all shelves, derived from the orders."""

    orders: dict[str, Place] = {}

    def apply(self, order: ShelvedOrder) -> None:
        """Add the order if it is on its shelf, remove it otherwise. Idempotent."""
        if order.status is Status.SHELVED:
            self.orders[order.order_id] = Place(
                order.shelf, order.customer_id, order.customer_name, order.boxes, order.shelved_at
            )
        else:
            self.orders.pop(order.order_id, None)


def shelf_of(order_id: str) -> str:
    """Return the shelf of an order. It depends on the id only, so that no list of free places is needed."""
    return SHELVES[crc32(order_id.encode()) % len(SHELVES)]
