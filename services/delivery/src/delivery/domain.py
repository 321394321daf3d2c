"""Rules of delivery: the state machine of a delivery, and the roster that assigns drivers to orders.

Pure: no I/O and no clock; `now` is a parameter. Events about an order arrive in any order and more than once; those
that no longer change anything are ignored. Requests are refused if they are not the next step, and repeated requests
have no further effect. Methods that change the state return whether they did.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

import msgspec

from tidings.marks import PERSONAL, SUBJECT

Failure = Literal["noDriverAvailable", "addressNotFound", "nobodyHome"]


class WrongStep(Exception):
    """The requested step is not the next one of the delivery."""


class Status(StrEnum):
    """Status of a delivery; the service's README draws the transitions."""

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
    """Delivery address."""

    street: Annotated[str, PERSONAL]
    city: Annotated[str, PERSONAL]
    postcode: Annotated[str, PERSONAL]


class Recipient(msgspec.Struct, frozen=True):
    """The customer who gets the order."""

    customer_id: Annotated[str, SUBJECT]
    name: Annotated[str, PERSONAL]
    address: Address


class Delivery(msgspec.Struct, kw_only=True):
    """The delivery of one order.

    Attributes:
        correlation_id: Correlation id of the order, for the events of steps that are requested over HTTP.
        recipient: The customer; None until the order is confirmed.
        driver_id: The driver the order is assigned to; empty before.
        changed_at: Time of the last change of `status`.

    """

    order_id: str
    correlation_id: str = ""
    status: Status = Status.NEW
    recipient: Recipient | None = None
    boxes: int = 0
    driver_id: Annotated[str, SUBJECT] = ""
    driver_name: Annotated[str, PERSONAL] = ""
    failure: Failure | None = None
    changed_at: datetime | None = None

    @property
    def customer_name(self) -> str:
        return self.recipient.name if self.recipient else ""

    @property
    def address(self) -> Address | None:
        return self.recipient.address if self.recipient else None

    @property
    def needs_driver(self) -> bool:
        return self.status is Status.WAITING

    @property
    def occupies_driver(self) -> bool:
        return self.status in _DRIVER

    def confirm(self, recipient: Recipient, now: datetime) -> bool:
        """Record the customer and the address; return whether the order now needs a driver."""
        if self.status not in {Status.NEW, Status.BOXED}:
            return False
        self.recipient = recipient
        return self._wait_if_ready(Status.CONFIRMED, now)

    def box(self, boxes: int, now: datetime) -> bool:
        """Record that the order is boxed; return whether it now needs a driver."""
        if self.status not in {Status.NEW, Status.CONFIRMED}:
            return False
        self.boxes = boxes
        return self._wait_if_ready(Status.BOXED, now)

    def assign(self, driver_id: str, driver_name: str, now: datetime) -> bool:
        """Assign a driver; return False if the order is not waiting for one."""
        if self.status is not Status.WAITING:
            return False
        self.driver_id, self.driver_name = driver_id, driver_name
        return self._set_status(Status.ASSIGNED, now)

    def give_up(self, now: datetime) -> bool:
        """Fail the delivery for lack of a driver; return False if the order is not waiting for one."""
        if self.status is not Status.WAITING:
            return False
        self.failure = "noDriverAvailable"
        return self._set_status(Status.FAILED, now)

    def collect(self, now: datetime) -> bool:
        """Record that the driver has collected the order; return False if that was recorded before.

        Raises:
            WrongStep: No driver has the order, or it is over.

        """
        return self._step(Status.ASSIGNED, Status.COLLECTED, now)

    def deliver(self, now: datetime) -> bool:
        """Record that the order was delivered; return False if that was recorded before.

        Raises:
            WrongStep: The driver has not collected the order.

        """
        return self._step(Status.COLLECTED, Status.DELIVERED, now)

    def fail(self, failure: Failure, now: datetime) -> bool:
        """Record that the driver cannot deliver the order; return False if the same failure was recorded before.

        Raises:
            WrongStep: No driver has the order, or it is over.

        """
        if self.status is Status.FAILED and self.failure == failure:
            return False
        if self.status not in _DRIVER:
            raise WrongStep(f"order {self.order_id} is {self.status}: it can fail only while a driver has it")
        self.failure = failure
        return self._set_status(Status.FAILED, now)

    def cancel(self, now: datetime) -> bool:
        """Cancel the delivery; return whether that affects the roster: a driver has the order or is needed for it."""
        if self.status in _KITCHEN:
            self._set_status(Status.CANCELLED, now)
            return False
        return (self.needs_driver or self.occupies_driver) and self._set_status(Status.CANCELLED, now)

    def _wait_if_ready(self, half: Status, now: datetime) -> bool:
        """Wait for a driver once both the address and the boxes are known; until then enter the status `half`."""
        if self.status is Status.NEW:
            self._set_status(half, now)
            return False
        return self._set_status(Status.WAITING, now)

    def _step(self, before: Status, after: Status, now: datetime) -> bool:
        if self.status is after:
            return False
        if self.status is not before:
            raise WrongStep(f"order {self.order_id} is {self.status}, not {before}: it cannot be {after} now")
        return self._set_status(after, now)

    def _set_status(self, status: Status, now: datetime) -> bool:
        self.status, self.changed_at = status, now
        return True


class NotOnDuty(Exception):
    """The driver is not on duty."""


class Driver(msgspec.Struct, kw_only=True):
    """A driver on duty.

    Attributes:
        order_id: The assigned order; empty while free.
        leaving: The driver goes off duty once that order is done.
        arrival: Id of the event that announced the driver, for publishing it again.

    """

    driver_id: Annotated[str, SUBJECT]
    name: Annotated[str, PERSONAL]
    since: datetime
    order_id: str = ""
    leaving: bool = False
    arrival: str = ""


class Assignment(msgspec.Struct, frozen=True):
    """An order and the driver chosen for it."""

    order_id: str
    driver_id: str
    driver_name: str


class Roster(msgspec.Struct):
    """Drivers on duty (longest idle first) and orders without a driver (longest waiting first)."""

    drivers: dict[str, Driver] = {}
    waiting: dict[str, datetime | None] = {}

    def come_on_duty(self, driver_id: str, name: str, now: datetime, arrival: str = "") -> bool:
        """Add a driver; return False if already on duty. A driver who was about to leave stays."""
        driver = self.drivers.get(driver_id)
        if driver is not None:
            driver.leaving = False
            return False
        self.drivers[driver_id] = Driver(driver_id=driver_id, name=name, since=now, arrival=arrival)
        return True

    def go_off_duty(self, driver_id: str) -> bool:
        """Remove a driver; return False if an order has to be finished first.

        Raises:
            NotOnDuty: The driver is not on duty.

        """
        driver = self.drivers.get(driver_id)
        if driver is None:
            raise NotOnDuty(f"driver {driver_id} is not on duty")
        if driver.order_id:
            driver.leaving = True
            return False
        del self.drivers[driver_id]
        return True

    def apply(self, delivery: Delivery) -> Driver | None:
        """Update the roster from a delivery. Idempotent.

        Returns:
            The driver who goes off duty with this update, if any.

        """
        driver = next((driver for driver in self.drivers.values() if driver.order_id == delivery.order_id), None)
        if delivery.needs_driver and driver is None:
            self.waiting.setdefault(delivery.order_id, delivery.changed_at)
        elif not delivery.needs_driver:
            self.waiting.pop(delivery.order_id, None)
            if driver is not None and not delivery.occupies_driver:
                return self._release(driver)
        return None

    def assign(self) -> list[Assignment]:
        """Assign free drivers to waiting orders, both in order of waiting time."""
        free = [driver for driver in self.drivers.values() if not driver.order_id]
        assignments = [
            Assignment(order_id, driver.driver_id, driver.name)
            for order_id, driver in zip(list(self.waiting), free, strict=False)
        ]
        for assignment in assignments:
            del self.waiting[assignment.order_id]
            self.drivers[assignment.driver_id].order_id = assignment.order_id
        return assignments

    def _release(self, driver: Driver) -> Driver | None:
        """Free a driver; return the driver if that ends the duty."""
        # Insertion order is the idle order: remove and add, so that this driver comes last.
        del self.drivers[driver.driver_id]
        if driver.leaving:
            return driver
        driver.order_id = ""
        self.drivers[driver.driver_id] = driver
        return None
