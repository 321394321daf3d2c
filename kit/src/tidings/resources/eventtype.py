"""EventType: one business event or command, who owns it, its versions and who may read it."""

from datetime import date
from typing import Annotated, Any, Literal

from msgspec import Meta

from tidings.resources.model import (
    AppId,
    ChannelTopic,
    Invited,
    LongText,
    Major,
    Name,
    NonEmpty,
    Part,
    Resource,
    Text,
    TypeName,
)

Compatibility = Literal[
    "None", "Backward", "BackwardTransitive", "Forward", "ForwardTransitive", "Full", "FullTransitive"
]
State = Literal["Draft", "Active", "Deprecated", "Retired"]


class Owner(Part, frozen=True, kw_only=True):
    """The team that answers for an event, and how to reach it."""

    team: NonEmpty
    contact: Text = ""


class Channel(Part, frozen=True, kw_only=True):
    """Where the events of a type travel."""

    pubsub: Annotated[Name, Meta(description="Dapr pub/sub component")] = "pubsub"
    topic: Annotated[ChannelTopic, Meta(description="Topic; {type} and {version} (the major number) are filled in")] = (
        "{type}.v{version}"
    )


class Deprecation(Part, frozen=True, kw_only=True):
    """When a version is deprecated, when it ends, and what to read instead."""

    effective: date
    removal: date
    alternative: Text = ""


class Version(Part, frozen=True, kw_only=True):
    """One major version of a type. Versions live side by side, each on its own topic."""

    name: Major
    schema: Annotated[
        dict[str, Any] | Text | None, Meta(description="JSON Schema of data, inline or a file beside the YAML")
    ] = None
    examples: Annotated[
        tuple[dict[str, Any] | Text, ...],
        Meta(max_length=64, description="Examples of data, inline or files beside the YAML"),
    ] = ()
    state: State = "Active"
    deprecation: Deprecation | None = None
    rfc: Annotated[Text, Meta(description="The request for comments that led to it")] = ""
    description: LongText = ""

    @property
    def major(self) -> str:
        """The major number as the CloudEvent attribute `version` carries it: "2" for v2."""
        return self.name.removeprefix("v")

    def is_ending(self, today: date) -> bool:
        """Whether it is deprecated: by its state, or because the day has come that its deprecation names."""
        due = self.deprecation is not None and self.deprecation.effective <= today
        return self.state == "Deprecated" or (self.state == "Active" and due)


class Access(Part, frozen=True, kw_only=True):
    """Which namespaces may subscribe. Empty: the type's own; "*": every namespace."""

    namespaces: Annotated[tuple[Invited, ...], Meta(max_length=256)] = ()


class TypePolicy(Part, frozen=True, kw_only=True):
    """What happens to subscriptions of a version that is past its removal date."""

    after_removal: Literal["Warn", "Stall"] = "Stall"


class EventTypeSpec(Part, frozen=True, kw_only=True):
    """What an EventType says."""

    type: Annotated[
        TypeName, Meta(description="Business name without version: orders.orderConfirmed, payments.takePayment")
    ]
    intent: Annotated[
        Literal["Fact", "Command"],
        Meta(description="A fact has happened, anyone may read it; a command asks exactly one app to act"),
    ] = "Fact"
    domain: Annotated[Text, Meta(description="First part of the type; given, it must agree")] = ""
    description: LongText = ""
    owner: Owner
    classification: Literal["Public", "Internal", "Confidential", "Personal"] = "Internal"
    channel: Channel = Channel()
    producers: Annotated[tuple[AppId, ...], Meta(max_length=256, description="Apps that publish it")] = ()
    compatibility: Annotated[
        Compatibility,
        Meta(
            description="Backward: the new schema reads old events (replay). Forward: today's consumers read new "
            "events. Full: both. Transitive: against every earlier state, not only the last"
        ),
    ] = "Full"
    versions: Annotated[tuple[Version, ...], Meta(min_length=1, max_length=64)]
    access: Access = Access()
    policy: TypePolicy = TypePolicy()

    def topic(self, version: Version) -> str:
        """Return the topic of a version."""
        return self.channel.topic.replace("{type}", self.type).replace("{version}", version.major)


EventType = Resource[EventTypeSpec]
