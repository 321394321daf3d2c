"""What archive asks itself to do later. These commands never leave the service."""

from __future__ import annotations

from tidings import Event, command


@command("archive.continueReplay", subject="replay_id")
class ContinueReplay(Event):
    """Send the next events of a replay."""

    replay_id: str


@command("archive.closeReplay", subject="replay_id")
class CloseReplay(Event):
    """From now on, no event that arrives is part of a replay."""

    replay_id: str
