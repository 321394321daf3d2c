"""What archive is asked, and what it tells."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import Meta

from tidings import Event, command, event


@command("archive.replayEvents", subject="replay_id")
class ReplayEvents(Event):
    """Send archived events to one consumer again.

    `types` holds types (`orders.orderPlaced`: the newest version of each fact), single versions
    (`orders.orderConfirmed.v1`) and patterns (`orders.*`); without any, every event. `since` and `until` bound the
    time at which events happened, `until` is not included. `ids` are those of events; `match` are filters as an
    EventSubscription has them (but no CEL), which must all hold.
    """

    replay_id: str
    consumer: str
    subscription: str | None = None
    types: tuple[str, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    correlation_id: str | None = None
    rate_per_second: Annotated[float, Meta(gt=0)] | None = None
    dry_run: bool = False
    ids: tuple[str, ...] = ()
    match: tuple[dict[str, Any], ...] = ()


@command("archive.recordReplayOutcome", subject="replay_id")
class RecordReplayOutcome(Event):
    """A subscription has finished with one event of a replay.

    `handled`, also where it had been handled before; `failed`: it became a dead letter again; `dropped`: the handler
    did not want it; `unread`: no handler of the app reads it.
    """

    replay_id: str
    event_id: str
    source: str
    subscription: str
    outcome: Literal["handled", "failed", "unread", "dropped"]
    reason: str = ""


@event("archive.replayCompleted", subject="replay_id")
class ReplayCompleted(Event):
    """The archive sends no more events of a replay: all have been handed to the broker, or it has ended before.

    `count` events were sent and `skipped` could not be. `state` says whether that was all of them: `failed` has a
    `reason`. Consumers confirm each event on their own, which may be later than this. A dry run has only counted.
    """

    replay_id: str
    consumer: str
    count: int
    completed_at: datetime
    dry_run: bool = False
    state: Literal["completed", "cancelled", "failed"] = "completed"
    skipped: int = 0
    reason: str = ""


@event("tidings.subjectForgotten", subject="person")
class SubjectForgotten(Event):
    """A person's key was destroyed: encrypted personal data of this person reads `***` from now on.

    `person` is the pseudonym that events carry as `datasubject`. Services delete what they have stored unencrypted.
    """

    person: str
    forgotten_at: datetime
