"""What pickup asks itself to do later. These commands never leave the service."""

from __future__ import annotations

from tidings import Event, command


@command("pickup.updateRack", subject="order_id")
class UpdateRack(Event):
    """Bring the list of what lies on the shelves in line with an order."""

    order_id: str


@command("pickup.expireCollection", subject="order_id")
class ExpireCollection(Event):
    """The customer has had enough time."""

    order_id: str


@command("pickup.collectOrder", subject="order_id")
class CollectOrder(Event):
    """The autopilot's customer comes."""

    order_id: str
