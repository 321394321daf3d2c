"""Commands sent to the archive, and scheduled messages of tracking. Tracking publishes no events."""

from tidings import Event, command
from tracking.domain import OrderCounts


@command("archive.replayEvents", subject="replay_id")
class ReplayEvents(Event):
    """Replay events to tracking; the archive's command, reduced to the fields used here."""

    replay_id: str
    consumer: str
    types: tuple[str, ...]


@command("tracking.endRebuild", subject="replay_id")
class EndRebuild(Event):
    """End a rebuild that still waits for the end of its replay."""

    replay_id: str


@command("tracking.countOrder", subject="order_id")
class CountOrder(Event):
    """Add a change of one order to the totals of a generation."""

    order_id: str
    generation: int
    counts: OrderCounts
