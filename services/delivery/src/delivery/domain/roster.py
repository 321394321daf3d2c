"""Roster of drivers on duty and waiting orders; all assignments are decided here."""

from datetime import datetime
from typing import Annotated

import msgspec

from delivery.domain.delivery import Delivery
from tidings.marks import PERSONAL, SUBJECT


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
