"""Orders that customers pick up: from what is known about them, over the shelf, to the hand of the customer.

Facts about an order arrive in any order and more than once; those that change nothing any more are let go.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from zlib import crc32

import msgspec

SHELVES = "ABCDEFGH"


class PickupError(Exception):
    """What was asked for is against the rules of the counter."""


class NotOnShelf(PickupError):
    """The order is not there to be handed out, not yet or no more."""


class WrongCode(PickupError):
    """The code is not the one that the customer was told."""


class Status(StrEnum):
    """Where an order stands; the transitions are drawn in the service's README."""

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
        correlation_id: What all events of the order share; kept so that what people do later belongs to it.
        shelf: The shelf it lies on, also after it was taken off.
        code: What the customer says to be handed the order.
        until: When it left the shelf: collected, expired or cancelled.

    """

    order_id: str
    correlation_id: str = ""
    status: Status = Status.NEW
    customer_name: str = ""
    boxes: int = 0
    shelf: str = ""
    code: str = ""
    shelved_at: datetime | None = None
    until: datetime | None = None

    def confirm(self, customer_name: str, *, code: str, now: datetime) -> bool:
        """Learn whose order it is; true where this puts it on its shelf."""
        if self.status not in {Status.NEW, Status.BOXED}:
            return False
        self.customer_name = customer_name
        if self.status is Status.BOXED:
            return self._shelve(code, now)
        self.status = Status.CONFIRMED
        return False

    def box(self, boxes: int, *, code: str, now: datetime) -> bool:
        """Take the boxes from the kitchen; true where this puts them on their shelf."""
        if self.status not in {Status.NEW, Status.CONFIRMED}:
            return False
        self.boxes = boxes
        if self.status is Status.CONFIRMED:
            return self._shelve(code, now)
        self.status = Status.BOXED
        return False

    def collect(self, code: str, now: datetime) -> bool:
        """Hand the order out; false where the same customer has it already.

        Raises:
            NotOnShelf: It is not there.
            WrongCode: Whoever asks does not know the code.

        """
        if self.status not in {Status.SHELVED, Status.COLLECTED}:
            raise NotOnShelf(f"order {self.order_id} is not on a shelf: {_WHY[self.status]}")
        if code.strip().upper() != self.code:
            raise WrongCode(
                f"{code!r:.20} is not the code of order {self.order_id}: it stands beside the order's progress"
            )
        return self._leave(Status.COLLECTED, now)

    def expire(self, now: datetime) -> bool:
        """Give up waiting for the customer; true where the order was still there."""
        return self._leave(Status.EXPIRED, now)

    def cancel(self, now: datetime) -> bool:
        """Learn that the order is cancelled; true where that takes it off its shelf."""
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
    Status.NEW: "nothing is known of it",
    Status.CONFIRMED: "the kitchen still works on it",
    Status.BOXED: "its confirmation is still on the way",
    Status.EXPIRED: "it was not collected in time",
    Status.CANCELLED: "it was cancelled",
}


class Place(msgspec.Struct, frozen=True):
    """An order as it lies on a shelf."""

    shelf: str
    customer_name: str
    boxes: int
    shelved_at: datetime | None


class Rack(msgspec.Struct):
    """What lies on all shelves now: a list for the counter, made from the orders themselves."""

    orders: dict[str, Place] = {}

    def reflect(self, order: ShelvedOrder) -> None:
        """Show the order if it is on its shelf, else do not. Doing it twice changes nothing."""
        if order.status is Status.SHELVED:
            self.orders[order.order_id] = Place(order.shelf, order.customer_name, order.boxes, order.shelved_at)
        else:
            self.orders.pop(order.order_id, None)


def shelf_of(order_id: str) -> str:
    """The shelf of an order, the same whoever asks: so that nobody has to keep a list of free places."""
    return SHELVES[crc32(order_id.encode()) % len(SHELVES)]
