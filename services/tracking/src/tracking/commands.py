"""What tracking asks of others and of itself. It publishes no facts: it only retells theirs."""

from __future__ import annotations

from tidings import Event, command
from tracking.domain import Totals


@command("archive.replayEvents", subject="replay_id")
class ReplayEvents(Event):
    """Send events to tracking again: what tracking knows of the archive's command."""

    replay_id: str
    consumer: str
    types: tuple[str, ...]


@command("tracking.countOrder", subject="order_id")
class CountOrder(Event):
    """Add to the totals of a generation what an order has changed in them; tracking schedules it for itself."""

    order_id: str
    generation: int
    difference: Totals
