"""What delivery tells itself: scheduled messages, never published."""

from __future__ import annotations

from delivery.domain import Status
from tidings import Event, command


@command("delivery.updateRoster", subject="order_id")
class UpdateRoster(Event):
    """Bring the roster in line with a delivery, and give drivers to whoever waits."""

    order_id: str


@command("delivery.handOver", subject="order_id")
class HandOver(Event):
    """Give an order to the driver whom the roster has chosen."""

    order_id: str
    driver_id: str
    driver_name: str


@command("delivery.giveUp", subject="order_id")
class GiveUp(Event):
    """The order has waited long enough for a driver."""

    order_id: str


@command("delivery.driveOn", subject="order_id")
class DriveOn(Event):
    """The autopilot's driver does what comes after `status`, if nobody else has."""

    order_id: str
    status: Status
