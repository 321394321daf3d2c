"""EventReplay: resend events from dead letters or the archive to one subscription."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta

from tidings_plan.resources.model import Duration, Major, Name, NonEmpty, OptionalNamespace, Part, Rate, Resource, Text
from tidings_plan.resources.subscription import Filter


class ReplaySource(Part, frozen=True, kw_only=True):
    """Source of the events: the target's dead letters, or all archived events."""

    kind: Literal["DeadLetters", "Archive"] = "DeadLetters"


class ReplayFilter(Part, frozen=True, kw_only=True):
    """Selection of events: all conditions must match; times refer to the event's `time`."""

    type: Text = ""
    versions: Annotated[tuple[Major, ...], Meta(max_length=64)] = ()
    ids: Annotated[tuple[NonEmpty, ...], Meta(max_length=64)] = ()
    correlation_id: Text = ""
    reason: Annotated[Text, Meta(description="Substring of a dead letter's reason")] = ""
    since: datetime | None = None
    until: datetime | None = None
    match: Annotated[tuple[Filter, ...], Meta(max_length=64)] = ()


class ReplayTarget(Part, frozen=True, kw_only=True):
    """The subscription that receives the events."""

    subscription: Name
    namespace: OptionalNamespace = ""


class EventReplaySpec(Part, frozen=True, kw_only=True):
    """Spec of an EventReplay."""

    source: ReplaySource = ReplaySource()
    filter: ReplayFilter = ReplayFilter()
    target: ReplayTarget
    rate: Annotated[Rate, Meta(description="Maximum events per second")] = 50.0
    confirmation_timeout: Annotated[
        Duration, Meta(description="Maximum wait for the next confirmation after all events are sent")
    ] = "5m"
    dry_run: bool = False
    requested_by: Text = ""


EventReplay = Resource[EventReplaySpec]
