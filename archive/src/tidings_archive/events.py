"""Commands to the archive, the events that it publishes, and the notices to owners (`tidings.*`)."""

from datetime import date, datetime
from typing import Annotated, Any, Literal

from msgspec import Meta

from tidings import Event, Moment, command, event
from tidings.conventions import RECORD_REPLAY_OUTCOME


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


@command(RECORD_REPLAY_OUTCOME, subject="replay_id")
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


Name = Annotated[str, Meta(max_length=253)]
Text = Annotated[str, Meta(max_length=2000)]


class Owner(Event):
    """A team that a notice concerns: it owns the event type, or consumes it."""

    name: Name
    contact: Text = ""
    role: Literal["producer", "consumer"] = "consumer"


Owners = Annotated[tuple[Owner, ...], Meta(max_length=100)]


class Notice(Event):
    """The part that all notices have in common."""

    namespace: Name
    owners: Owners = ()


@event("tidings.versionDeprecated", subject="event_type")
class VersionDeprecated(Notice):
    """A version of an event type is deprecated: its consumers must move to another one before `removal`."""

    event_type: Name
    version: Name
    removal: date
    alternative: Text = ""


@event("tidings.removalApproached", subject="event_type")
class RemovalApproached(Notice):
    """A deprecated version is removed within 30 days, and is still consumed or published."""

    event_type: Name
    version: Name
    removal: date
    days_left: int
    alternative: Text = ""


@event("tidings.incompatibleChangeProposed", subject="event_type")
class IncompatibleChangeProposed(Notice):
    """A change of an event type was proposed that breaks its consumers; `refused` says whether it was kept out."""

    event_type: Name
    problems: Annotated[tuple[Text, ...], Meta(max_length=20)]
    proposed_by: Name = ""
    refused: bool = True


@event("tidings.subscriptionFailed", subject="subscription")
class SubscriptionFailed(Notice):
    """An EventSubscription has not been Ready since `since`."""

    subscription: Name
    app: Name
    reason: Name
    message: Text
    since: Moment


@event("tidings.deadLettersAccumulated", subject="app")
class DeadLettersAccumulated(Notice):
    """At least `threshold` dead letters of an app wait for a decision."""

    app: Name
    count: int
    threshold: int
