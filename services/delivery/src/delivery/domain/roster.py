"""Who can drive, and which orders wait: the one list that decides who gets what."""

from __future__ import annotations

from datetime import datetime

import msgspec

from delivery.domain.delivery import Delivery


class NotOnDuty(Exception):
    """The driver is not there."""


class Driver(msgspec.Struct, kw_only=True):
    """A driver on duty.

    Attributes:
        order_id: The order that is his; empty while he is free.
        leaving: He goes home once that order is done.
        arrival: The id of the fact that he came, which may be told again.

    """

    driver_id: str
    name: str
    since: datetime
    order_id: str = ""
    leaving: bool = False
    arrival: str = ""


class Assignment(msgspec.Struct, frozen=True):
    """An order and the driver who is to have it."""

    order_id: str
    driver_id: str
    driver_name: str


class Roster(msgspec.Struct):
    """Drivers on duty, the longest free first, and orders without a driver, the longest waiting first."""

    drivers: dict[str, Driver] = {}
    waiting: dict[str, datetime | None] = {}

    def come_on_duty(self, driver_id: str, name: str, now: datetime, arrival: str = "") -> bool:
        """Take a driver in; false where he is there already. One who was about to leave stays."""
        known = self.drivers.get(driver_id)
        if known is not None:
            known.leaving = False
            return False
        self.drivers[driver_id] = Driver(driver_id=driver_id, name=name, since=now, arrival=arrival)
        return True

    def go_off_duty(self, driver_id: str) -> bool:
        """Let a driver go; false where he finishes an order first.

        Raises:
            NotOnDuty: He is not there.

        """
        driver = self.drivers.get(driver_id)
        if driver is None:
            raise NotOnDuty(f"driver {driver_id} is not on duty")
        if driver.order_id:
            driver.leaving = True
            return False
        del self.drivers[driver_id]
        return True

    def reflect(self, delivery: Delivery) -> Driver | None:
        """Bring the list in line with a delivery; gives the driver who goes home with that. Twice is as once."""
        driver = self._driver_of(delivery.order_id)
        if delivery.needs_driver and driver is None:
            self.waiting.setdefault(delivery.order_id, delivery.changed_at)
        elif not delivery.needs_driver:
            self.waiting.pop(delivery.order_id, None)
            if driver is not None and not delivery.occupies_driver:
                return self._release(driver)
        return None

    def assign(self) -> list[Assignment]:
        """Give every waiting order that can have one a driver."""
        free = [driver for driver in self.drivers.values() if not driver.order_id]
        given = [
            Assignment(order_id, driver.driver_id, driver.name)
            for order_id, driver in zip(list(self.waiting), free, strict=False)
        ]
        for each in given:
            del self.waiting[each.order_id]
            self.drivers[each.driver_id].order_id = each.order_id
        return given

    def _driver_of(self, order_id: str) -> Driver | None:
        return next((driver for driver in self.drivers.values() if driver.order_id == order_id), None)

    def _release(self, driver: Driver) -> Driver | None:
        """Free a driver: he is the last in the row again, or goes home."""
        del self.drivers[driver.driver_id]
        if driver.leaving:
            return driver
        driver.order_id = ""
        self.drivers[driver.driver_id] = driver
        return None
