"""EventSubscription: one app's wish to read an event type, and how it wants it delivered."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from tidings.resources.model import (
    AppId,
    Attribute,
    Duration,
    Expression,
    Major,
    Name,
    NonEmpty,
    OptionalName,
    OptionalNamespace,
    Part,
    Positive,
    Rate,
    Resource,
    Retries,
    RoutePath,
    Text,
    Topic,
    TypePattern,
)

Scalar = Text | int | float | bool
Field = Annotated[str, Meta(min_length=1, max_length=256)]
Matches = Annotated[dict[Field, Scalar], Meta(min_length=1, max_length=64)]
Affixes = Annotated[dict[Field, NonEmpty], Meta(min_length=1, max_length=64)]


class EventTypeRef(Part, frozen=True, kw_only=True):
    """The type that is read, by its business name.

    `*` and `<domain>.*` read every version of all such types (an archive's way, no consumer of a command), but those
    that the app reads by name;
    `deadletter.*` and `deadletter.<app>` read the dead letters of other apps.
    """

    name: TypePattern
    namespace: Annotated[
        OptionalNamespace, Meta(description="Namespace of the EventType; the subscription's own by default")
    ] = ""


class Versions(Part, frozen=True, kw_only=True):
    """Which versions the consumer can read, and the one of them it is held to."""

    accept: Annotated[tuple[Major, ...], Meta(max_length=64)] = ()
    pin: Major | None = None

    @property
    def wanted(self) -> list[str]:
        """The versions to subscribe to: the pinned one, else all accepted, in the order given."""
        return [self.pin] if self.pin else list(dict.fromkeys(self.accept))


class WorkloadRef(Part, frozen=True, kw_only=True):
    """The Kubernetes workload that runs the consumer."""

    api_version: Text = "apps/v1"
    kind: Text = "Deployment"
    name: Name


class Consumer(Part, frozen=True, kw_only=True):
    """Who reads, and who answers for it."""

    app_id: AppId
    workload_ref: WorkloadRef | None = None
    owner: Text = ""
    contact: Text = ""
    criticality: Literal["Low", "Normal", "High", "Critical"] = "Normal"
    kit: Annotated[
        bool, Meta(description="The app uses the Tidings kit, which keeps limits, retries and dead letters itself")
    ] = True


class Source(Part, frozen=True, kw_only=True):
    """Read from here, whatever the EventType says."""

    pubsub: OptionalName = ""
    topic: Topic | None = None


class Filter(Part, frozen=True, kw_only=True):
    """One condition. Exactly one field is set; keys are envelope attributes or `data.<field>[.<field>...]`."""

    exact: Matches | None = None
    prefix: Affixes | None = None
    suffix: Affixes | None = None
    all: Annotated[tuple["Filter", ...], Meta(min_length=1, max_length=64)] | None = None
    any: Annotated[tuple["Filter", ...], Meta(min_length=1, max_length=64)] | None = None
    not_: "Filter | None" = msgspec.field(default=None, name="not")
    cel: Expression | None = None


class Route(Part, frozen=True, kw_only=True):
    """Events that match this CEL expression go to this path."""

    match: Expression
    path: RoutePath


class Routes(Part, frozen=True, kw_only=True):
    """Where in the app events go; without it, the kit's own path."""

    rules: Annotated[tuple[Route, ...], Meta(max_length=64)] = ()
    default: RoutePath | None = None


class Retry(Part, frozen=True, kw_only=True):
    """How often and how long a failed delivery is tried again before it becomes a dead letter."""

    policy: Literal["Constant", "Exponential"] = "Exponential"
    duration: Annotated[Duration, Meta(description="Constant: the wait. Exponential: the first wait")] = "500ms"
    max_interval: Annotated[Duration, Meta(description="Exponential: the longest wait")] = "10s"
    max_retries: Retries = 5


class CircuitBreaker(Part, frozen=True, kw_only=True):
    """When to stop calling a consumer that only fails, and when to try it again."""

    max_requests: Positive = 1
    interval: Duration | None = None
    timeout: Duration = "30s"
    trip: Annotated[Expression, Meta(description="CEL over Dapr's counts, e.g. consecutiveFailures > 5")] = (
        "consecutiveFailures > 5"
    )


class DeadLetter(Part, frozen=True, kw_only=True):
    """Where events go that cannot be handled."""

    topic: Topic | None = None
    retention: Duration = "336h"
    replay: Annotated[bool, Meta(description="Whether they may be sent to this subscription again")] = True


class Delivery(Part, frozen=True, kw_only=True):
    """How events reach the consumer."""

    retry: Retry = Retry()
    timeout: Annotated[Duration, Meta(description="The longest a single attempt may take")] = "10s"
    circuit_breaker: CircuitBreaker | None = None
    dead_letter: DeadLetter = DeadLetter()


class RateLimit(Part, frozen=True, kw_only=True):
    """At most so many events a second, with bursts of at most `burst`."""

    events_per_second: Rate
    burst: Positive = 1


class Bulk(Part, frozen=True, kw_only=True):
    """Let the sidecar hand over several events in one call."""

    max_messages: Positive = 100
    max_await: Duration = "100ms"


class Ordering(Part, frozen=True, kw_only=True):
    """`Key`: events with the same key are handled one after the other, in the order of their arrival."""

    mode: Literal["None", "Key"] = "None"
    key: Annotated[Attribute, Meta(description="Attribute of the envelope")] = "subject"


class EventSubscriptionSpec(Part, frozen=True, kw_only=True):
    """What an EventSubscription says."""

    event_type_ref: EventTypeRef
    versions: Versions = Versions()
    consumer: Consumer
    source: Source = Source()
    filters: Annotated[tuple[Filter, ...], Meta(max_length=64, description="All must hold")] = ()
    routes: Routes = Routes()
    delivery: Delivery = Delivery()
    max_concurrency: Positive | None = None
    rate_limit: RateLimit | None = None
    bulk: Bulk | None = None
    ordering: Ordering = Ordering()
    start_from: Literal["Earliest", "Latest"] = "Earliest"
    suspend: bool = False
    deletion_policy: Literal["Delete", "Retain"] = "Delete"
    enforcement: Annotated[
        Literal["Strict", "BestEffort"],
        Meta(description="Strict: what cannot be kept is an error. BestEffort: a warning, and the rest is kept"),
    ] = "Strict"

    @property
    def is_wildcard(self) -> bool:
        """Whether it reads by pattern: an observer, not a consumer that a type knows by name."""
        return self.event_type_ref.name == "*" or self.event_type_ref.name.endswith(".*")


EventSubscription = Resource[EventSubscriptionSpec]
