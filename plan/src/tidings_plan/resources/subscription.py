"""EventSubscription: an app's request to consume an event type, with its delivery policy."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from tidings_plan.resources.model import (
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
    """The event type to consume, by its business name.

    `*` and `<domain>.*` match every version of all such types except those that the app consumes by name. They are for
    observers such as an archive and do not count as consumers of a command.
    `deadletter.*` and `deadletter.<app>` match the dead letters of other apps.
    """

    name: TypePattern
    namespace: Annotated[
        OptionalNamespace, Meta(description="Namespace of the EventType; the subscription's own by default")
    ] = ""


class Versions(Part, frozen=True, kw_only=True):
    """The versions that the consumer can read, optionally pinned to one of them."""

    accept: Annotated[tuple[Major, ...], Meta(max_length=64)] = ()
    pin: Major | None = None

    @property
    def requested(self) -> list[str]:
        """Versions to subscribe to: the pinned one, otherwise all accepted ones in their order."""
        return [self.pin] if self.pin else list(dict.fromkeys(self.accept))


class WorkloadRef(Part, frozen=True, kw_only=True):
    """The Kubernetes workload that runs the consumer."""

    api_version: Text = "apps/v1"
    kind: Text = "Deployment"
    name: Name


class Consumer(Part, frozen=True, kw_only=True):
    """The consuming app and its owner."""

    app_id: AppId
    workload_ref: WorkloadRef | None = None
    owner: Text = ""
    contact: Text = ""
    criticality: Literal["Low", "Normal", "High", "Critical"] = "Normal"
    kit: Annotated[
        bool,
        Meta(description="The app uses the Tidings kit, which enforces limits and retries and publishes dead letters"),
    ] = True


class Source(Part, frozen=True, kw_only=True):
    """Overrides the component or the topic of the EventType."""

    pubsub: OptionalName = ""
    topic: Topic | None = None


class Filter(Part, frozen=True, kw_only=True):
    """A condition with exactly one operator; keys are envelope attributes or `data.<field>[.<field>...]`."""

    exact: Matches | None = None
    prefix: Affixes | None = None
    suffix: Affixes | None = None
    all: Annotated[tuple["Filter", ...], Meta(min_length=1, max_length=64)] | None = None
    any: Annotated[tuple["Filter", ...], Meta(min_length=1, max_length=64)] | None = None
    not_: "Filter | None" = msgspec.field(default=None, name="not")
    cel: Expression | None = None


class Route(Part, frozen=True, kw_only=True):
    """Delivers events that match a CEL expression to a path."""

    match: Expression
    path: RoutePath


class Routes(Part, frozen=True, kw_only=True):
    """Paths of the app that receive the events; the kit's own path by default."""

    rules: Annotated[tuple[Route, ...], Meta(max_length=64)] = ()
    default: RoutePath | None = None


class Retry(Part, frozen=True, kw_only=True):
    """Retries of a failed delivery before it becomes a dead letter."""

    policy: Literal["Constant", "Exponential"] = "Exponential"
    duration: Annotated[Duration, Meta(description="Constant: every delay. Exponential: the first delay")] = "500ms"
    max_interval: Annotated[Duration, Meta(description="Exponential: the longest delay")] = "10s"
    max_retries: Retries = 5


class CircuitBreaker(Part, frozen=True, kw_only=True):
    """Circuit breaker that pauses delivery to a consumer that keeps failing."""

    max_requests: Positive = 1
    interval: Duration | None = None
    timeout: Duration = "30s"
    trip: Annotated[Expression, Meta(description="CEL over Dapr's counts, e.g. consecutiveFailures > 5")] = (
        "consecutiveFailures > 5"
    )


class DeadLetter(Part, frozen=True, kw_only=True):
    """Dead-lettering of events that cannot be handled."""

    topic: Topic | None = None
    retention: Duration = "336h"
    replay: Annotated[bool, Meta(description="Whether dead letters may be replayed to this subscription")] = True


class Delivery(Part, frozen=True, kw_only=True):
    """Delivery policy."""

    retry: Retry = Retry()
    timeout: Annotated[Duration, Meta(description="Maximum duration of a single attempt")] = "10s"
    circuit_breaker: CircuitBreaker | None = None
    dead_letter: DeadLetter = DeadLetter()


class RateLimit(Part, frozen=True, kw_only=True):
    """Maximum events per second, with bursts of up to `burst` events."""

    events_per_second: Rate
    burst: Positive = 1


class Bulk(Part, frozen=True, kw_only=True):
    """Delivery of several events in one call of the sidecar."""

    max_messages: Positive = 100
    max_await: Duration = "100ms"


class Ordering(Part, frozen=True, kw_only=True):
    """With mode `Key`, events with the same key are handled sequentially, in the order of arrival."""

    mode: Literal["None", "Key"] = "None"
    key: Annotated[Attribute, Meta(description="Envelope attribute that holds the key")] = "subject"


class EventSubscriptionSpec(Part, frozen=True, kw_only=True):
    """Spec of an EventSubscription."""

    event_type_ref: EventTypeRef
    versions: Versions = Versions()
    consumer: Consumer
    source: Source = Source()
    filters: Annotated[tuple[Filter, ...], Meta(max_length=64, description="All filters must match")] = ()
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
        Meta(description="Strict: a field that cannot be enforced is an error. BestEffort: a warning"),
    ] = "Strict"

    @property
    def is_wildcard(self) -> bool:
        """True for a pattern: the subscription then observes types and does not count as their consumer."""
        return self.event_type_ref.name == "*" or self.event_type_ref.name.endswith(".*")


EventSubscription = Resource[EventSubscriptionSpec]
