"""What tracking asks of others. It publishes no facts: it only retells theirs."""

from __future__ import annotations

from tidings import Event, command


@command("archive.replayEvents", subject="replay_id")
class ReplayEvents(Event):
    """Send events to tracking again: what tracking knows of the archive's command."""

    replay_id: str
    consumer: str
    types: tuple[str, ...]
