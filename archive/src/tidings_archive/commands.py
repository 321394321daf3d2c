"""Scheduled commands of the archive, which never leave the service."""

from tidings import Event, command


@command("archive.continueReplay", subject="replay_id")
class ContinueReplay(Event):
    """Send the next events of a replay."""

    replay_id: str


@command("archive.continueRedrive", subject="replay_id")
class ContinueRedrive(Event):
    """Send the next dead letters of a redrive."""

    replay_id: str


@command("archive.closeReplay", subject="replay_id")
class CloseReplay(Event):
    """Fix the last event of a replay: events that arrive later do not belong to it."""

    replay_id: str
