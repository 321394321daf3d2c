"""Scheduled messages of the delivery service; they never leave it."""

from typing import Annotated

from delivery.domain import Status
from tidings import PERSONAL, SUBJECT, Event, command


@command("delivery.updateRoster", subject="order_id")
class UpdateRoster(Event):
    """Update the roster after a change of a delivery, and assign free drivers to waiting orders."""

    order_id: str


@command("delivery.handOver", subject="order_id")
class HandOver(Event):
    """Assign an order to the driver chosen from the roster."""

    order_id: str
    driver_id: Annotated[str, SUBJECT]
    driver_name: Annotated[str, PERSONAL]


@command("delivery.giveUp", subject="order_id")
class GiveUp(Event):
    """Fail the delivery if it is still waiting for a driver."""

    order_id: str


@command("delivery.driveOn", subject="order_id")
class DriveOn(Event):
    """Do the simulated driver's next step, provided that the delivery still has this `status`."""

    order_id: str
    status: Status
