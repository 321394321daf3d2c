"""What archive is asked, and what it tells."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

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


@event("archive.replayCompleted", subject="replay_id")
class ReplayCompleted(Event):
    """The last event of a replay has been handed to the broker; a dry run has only counted them."""

    replay_id: str
    consumer: str
    count: int
    completed_at: datetime
    dry_run: bool = False
