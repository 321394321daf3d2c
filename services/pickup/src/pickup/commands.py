"""Scheduled messages of pickup; they never leave it."""

from tidings import Event, command


@command("pickup.updateShelfIndex", subject="order_id")
class UpdateShelfIndex(Event):
    """Update the shelf index from an order."""

    order_id: str


@command("pickup.expireCollection", subject="order_id")
class ExpireCollection(Event):
    """Expire the order if it was not collected."""

    order_id: str


@command("pickup.collectOrder", subject="order_id")
class CollectOrder(Event):
    """Let the simulated customer collect the order."""

    order_id: str
