"""EventReplay: send events again, from dead letters or the archive, to one subscription."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta

from tidings.resources.model import Duration, Major, Name, NonEmpty, OptionalNamespace, Part, Rate, Resource, Text
from tidings.resources.subscription import Filter


class ReplaySource(Part, frozen=True, kw_only=True):
    """Where the events come from: the target's dead letters, or everything the archive keeps."""

    kind: Literal["DeadLetters", "Archive"] = "DeadLetters"


class ReplayFilter(Part, frozen=True, kw_only=True):
    """Which events: all given conditions must hold; times are of the event itself."""

    type: Text = ""
    versions: Annotated[tuple[Major, ...], Meta(max_length=64)] = ()
    ids: Annotated[tuple[NonEmpty, ...], Meta(max_length=64)] = ()
    correlation_id: Text = ""
    reason: Annotated[Text, Meta(description="Text within a dead letter's reason")] = ""
    since: datetime | None = None
    until: datetime | None = None
    match: Annotated[tuple[Filter, ...], Meta(max_length=64)] = ()


class ReplayTarget(Part, frozen=True, kw_only=True):
    """The one subscription that gets the events."""

    subscription: Name
    namespace: OptionalNamespace = ""


class EventReplaySpec(Part, frozen=True, kw_only=True):
    """What an EventReplay says."""

    source: ReplaySource = ReplaySource()
    filter: ReplayFilter = ReplayFilter()
    target: ReplayTarget
    rate: Annotated[Rate, Meta(description="Events a second, at most")] = 50.0
    confirmation_timeout: Annotated[
        Duration, Meta(description="The longest wait for the next confirmation, once everything is sent")
    ] = "5m"
    dry_run: bool = False
    requested_by: Text = ""


EventReplay = Resource[EventReplaySpec]
