"""One order's way to the customer's door.

Facts about an order arrive in any order and more than once; those that change nothing any more are let go. What
people ask for is refused where it is not the next step, and done once where it is asked for twice.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Literal

import msgspec

Failure = Literal["noDriverAvailable", "addressNotFound", "nobodyHome"]


class WrongStep(Exception):
    """What was asked for is not the delivery's next step."""


class Status(StrEnum):
    """Where a delivery stands; the transitions are drawn in the service's README."""

    NEW = "new"
    CONFIRMED = "confirmed"
    BOXED = "boxed"
    WAITING = "waiting"
    ASSIGNED = "assigned"
    COLLECTED = "collected"
    DELIVERED = "delivered"
    FAILED = "failed"
    CANCELLED = "cancelled"


_KITCHEN = frozenset({Status.NEW, Status.CONFIRMED, Status.BOXED})
_DRIVER = frozenset({Status.ASSIGNED, Status.COLLECTED})


class Address(msgspec.Struct, frozen=True):
    """Where an order goes."""

    street: str
    city: str
    postcode: str


class Delivery(msgspec.Struct, kw_only=True):
    """One order that is brought to its customer.

    Attributes:
        correlation_id: What all events of the order share; kept so that what people do later belongs to it.
        driver_id: Who was given the order; empty until then.
        changed_at: When it came to its status.

    """

    order_id: str
    correlation_id: str = ""
    status: Status = Status.NEW
    customer_name: str = ""
    address: Address | None = None
    boxes: int = 0
    driver_id: str = ""
    driver_name: str = ""
    failure: Failure | None = None
    changed_at: datetime | None = None

    @property
    def needs_driver(self) -> bool:
        """Whether a driver is to be found for it."""
        return self.status is Status.WAITING

    @property
    def occupies_driver(self) -> bool:
        """Whether a driver has it."""
        return self.status in _DRIVER

    def confirm(self, customer_name: str, address: Address, now: datetime) -> bool:
        """Learn where the order goes; true where it now needs a driver."""
        if self.status not in {Status.NEW, Status.BOXED}:
            return False
        self.customer_name, self.address = customer_name, address
        return self._complete(Status.CONFIRMED, now)

    def box(self, boxes: int, now: datetime) -> bool:
        """Learn that the kitchen is done; true where the order now needs a driver."""
        if self.status not in {Status.NEW, Status.CONFIRMED}:
            return False
        self.boxes = boxes
        return self._complete(Status.BOXED, now)

    def assign(self, driver_id: str, driver_name: str, now: datetime) -> bool:
        """Give the order to a driver; false where it needs none, or none any more."""
        if self.status is not Status.WAITING:
            return False
        self.driver_id, self.driver_name = driver_id, driver_name
        return self._become(Status.ASSIGNED, now)

    def give_up(self, now: datetime) -> bool:
        """Let the order fail because no driver was found; false where it waits for none."""
        if self.status is not Status.WAITING:
            return False
        self.failure = "noDriverAvailable"
        return self._become(Status.FAILED, now)

    def collect(self, now: datetime) -> bool:
        """The driver takes the boxes; false where that has happened before.

        Raises:
            WrongStep: No driver has the order, or it is over.

        """
        return self._step(Status.ASSIGNED, Status.COLLECTED, now)

    def deliver(self, now: datetime) -> bool:
        """The customer has the boxes; false where that has happened before.

        Raises:
            WrongStep: The driver does not carry the order.

        """
        return self._step(Status.COLLECTED, Status.DELIVERED, now)

    def fail(self, failure: Failure, now: datetime) -> bool:
        """The driver cannot bring the order; false where the same was said before.

        Raises:
            WrongStep: No driver has the order, or it is over.

        """
        if self.status is Status.FAILED and self.failure == failure:
            return False
        if self.status not in _DRIVER:
            raise WrongStep(f"order {self.order_id} is {self.status}: only a driver who has it can say that it failed")
        self.failure = failure
        return self._become(Status.FAILED, now)

    def cancel(self, now: datetime) -> bool:
        """Learn that the order is cancelled; true where a driver has it or is being looked for."""
        if self.status in _KITCHEN:
            self._become(Status.CANCELLED, now)
            return False
        return (self.needs_driver or self.occupies_driver) and self._become(Status.CANCELLED, now)

    def _complete(self, half: Status, now: datetime) -> bool:
        """Wait for a driver once both the address and the boxes are there."""
        if self.status is Status.NEW:
            self._become(half, now)
            return False
        return self._become(Status.WAITING, now)

    def _step(self, before: Status, after: Status, now: datetime) -> bool:
        if self.status is after:
            return False
        if self.status is not before:
            raise WrongStep(f"order {self.order_id} is {self.status}, not {before}: it cannot be {after} now")
        return self._become(after, now)

    def _become(self, status: Status, now: datetime) -> bool:
        self.status, self.changed_at = status, now
        return True
