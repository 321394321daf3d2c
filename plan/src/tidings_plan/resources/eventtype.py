"""EventType: a business event or command with its owner, versions and access rules."""

from datetime import date
from typing import Annotated, Any, Literal

from msgspec import Meta

from tidings_plan.resources.model import (
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
    """The team that owns an event type, and its contact."""

    team: NonEmpty
    contact: Text = ""


class Channel(Part, frozen=True, kw_only=True):
    """Pub/sub component and topic of a type."""

    pubsub: Annotated[Name, Meta(description="Dapr pub/sub component")] = "pubsub"
    topic: Annotated[
        ChannelTopic, Meta(description="Topic; {type} and {version} (the major number) are substituted")
    ] = "{type}.v{version}"


class Deprecation(Part, frozen=True, kw_only=True):
    """Deprecation date, removal date and replacement of a version."""

    effective: date
    removal: date
    alternative: Text = ""


class Version(Part, frozen=True, kw_only=True):
    """A major version of a type. Versions coexist, each on its own topic."""

    name: Major
    schema: Annotated[
        dict[str, Any] | Text | None,
        Meta(description="JSON Schema of data, inline or as a file path relative to the YAML"),
    ] = None
    examples: Annotated[
        tuple[dict[str, Any] | Text, ...],
        Meta(max_length=64, description="Examples of data, inline or as file paths relative to the YAML"),
    ] = ()
    state: State = "Active"
    deprecation: Deprecation | None = None
    rfc: Annotated[Text, Meta(description="The request for comments that proposed the version")] = ""
    description: LongText = ""

    @property
    def major(self) -> str:
        """Major number as in the CloudEvents attribute `version`: "2" for v2."""
        return self.name.removeprefix("v")

    @property
    def is_published(self) -> bool:
        """True if its producers publish it: it is Active or Deprecated."""
        return self.state in ("Active", "Deprecated")

    def is_ending(self, today: date) -> bool:
        """Return True if the version is deprecated by its state or by its deprecation date."""
        due = self.deprecation is not None and self.deprecation.effective <= today
        return self.state == "Deprecated" or (self.state == "Active" and due)


class Access(Part, frozen=True, kw_only=True):
    """Namespaces that may subscribe. Empty: only the type's own; "*": all."""

    namespaces: Annotated[tuple[Invited, ...], Meta(max_length=256)] = ()


class TypePolicy(Part, frozen=True, kw_only=True):
    """Treatment of subscriptions to a version past its removal date."""

    after_removal: Literal["Warn", "Stall"] = "Stall"


class EventTypeSpec(Part, frozen=True, kw_only=True):
    """Spec of an EventType."""

    type: Annotated[
        TypeName, Meta(description="Business name without version: orders.orderConfirmed, payments.takePayment")
    ]
    intent: Annotated[
        Literal["Fact", "Command"],
        Meta(description="A fact has happened and has any number of consumers; a command asks exactly one app to act"),
    ] = "Fact"
    domain: Annotated[Text, Meta(description="First part of the type; if set, it must match")] = ""
    description: LongText = ""
    owner: Owner
    classification: Literal["Public", "Internal", "Confidential", "Personal"] = "Internal"
    channel: Channel = Channel()
    producers: Annotated[tuple[AppId, ...], Meta(max_length=256, description="Apps that publish it")] = ()
    compatibility: Annotated[
        Compatibility,
        Meta(
            description="Backward: the new schema reads old events (replay). Forward: today's consumers read new "
            "events. Full: both. Transitive: compared with every earlier state, not only the last"
        ),
    ] = "Full"
    versions: Annotated[tuple[Version, ...], Meta(min_length=1, max_length=64)]
    access: Access = Access()
    policy: TypePolicy = TypePolicy()

    def topic(self, version: Version) -> str:
        """Return the topic of a version."""
        return self.channel.topic.replace("{type}", self.type).replace("{version}", version.major)

    def version(self, name: str) -> Version | None:
        """Return the version of a name such as v2, or None."""
        return next((version for version in self.versions if version.name == name), None)

    @property
    def next_version(self) -> str:
        """Name of the next major version."""
        return f"v{1 + max(int(version.major) for version in self.versions)}"


EventType = Resource[EventTypeSpec]
