"""EventSubscription: an app's request to consume events of one or more types, with one delivery policy."""

from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from tidings_plan.resources.findings import Finding, Severity
from tidings_plan.resources.model import (
    AppId,
    Attribute,
    Duration,
    Expression,
    Major,
    Metadata,
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
    TypeName,
    TypePattern,
)
from tidings_plan.resources.source_location import Path

Scalar = Text | int | float | bool
Field = Annotated[str, Meta(min_length=1, max_length=256)]
Matches = Annotated[dict[Field, Scalar], Meta(min_length=1, max_length=64)]
Affixes = Annotated[dict[Field, NonEmpty], Meta(min_length=1, max_length=64)]


class Consumer(Part, frozen=True, kw_only=True):
    """The consuming app and its owner."""

    app_id: AppId
    owner: Text = ""
    contact: Text = ""
    criticality: Literal["Low", "Normal", "High", "Critical"] = "Normal"
    kit: Annotated[
        bool,
        Meta(description="The app uses the Tidings SDK, which enforces limits and retries and publishes dead letters"),
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


class EventSelector(Part, frozen=True, kw_only=True):
    """Events to consume: those of one type by its business name, or those of all types that match a pattern.

    The patterns `*` and `<domain>.*` match every version of all such types except those that the app consumes by name.
    They are for observers such as an archive and do not count as consumers of a command.
    `deadletter.*` matches the dead letters of other apps, and the type `deadletter.<app>` those of one app.
    """

    type: TypeName | None = None
    pattern: TypePattern | None = None
    namespace: Annotated[
        OptionalNamespace, Meta(description="Namespace of the EventType; the subscription's own by default")
    ] = ""
    versions: Annotated[
        tuple[Major, ...], Meta(max_length=64, description="Versions that the consumer can read; none with a pattern")
    ] = ()
    filters: Annotated[tuple[Filter, ...], Meta(max_length=64, description="All filters must match")] = ()

    def __post_init__(self) -> None:
        """Reject a selector with both a type and a pattern, or with neither."""
        if (self.type is None) == (self.pattern is None):
            raise ValueError("Set exactly one of type and pattern")

    @property
    def name(self) -> str:
        """The type or the pattern."""
        return self.type or self.pattern or ""


class Route(Part, frozen=True, kw_only=True):
    """Delivers events that match a CEL expression to a path."""

    match: Expression
    path: RoutePath


class Routes(Part, frozen=True, kw_only=True):
    """Paths of the app that receive the events; the SDK's own path by default."""

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

    events: Annotated[tuple[EventSelector, ...], Meta(min_length=1, max_length=64)]
    consumer: Consumer
    source: Source = Source()
    routes: Routes = Routes()
    delivery: Delivery = Delivery()
    max_concurrency: Positive | None = None
    rate_limit: RateLimit | None = None
    bulk: Bulk | None = None
    ordering: Ordering = Ordering()
    start_from: Annotated[
        Literal["Earliest", "Latest"] | None,
        Meta(
            description="Where a new consumer starts; refused unless the component is set so. By default, as it is set"
        ),
    ] = None
    suspend: bool = False
    deletion_policy: Literal["Delete", "Retain"] = "Delete"
    enforcement: Annotated[
        Literal["Strict", "BestEffort"],
        Meta(description="Strict: a field that cannot be enforced is an error. BestEffort: a warning"),
    ] = "Strict"


EventSubscription = Resource[EventSubscriptionSpec]


@dataclass(frozen=True, slots=True)
class Selection:
    """One entry of a subscription's `spec.events`, together with the settings that all its entries share."""

    subscription: EventSubscription
    index: int

    @property
    def events(self) -> EventSelector:
        """The entry itself."""
        return self.subscription.spec.events[self.index]

    @property
    def metadata(self) -> Metadata:
        """Metadata of the subscription."""
        return self.subscription.metadata

    @property
    def spec(self) -> EventSubscriptionSpec:
        """Spec of the subscription."""
        return self.subscription.spec

    @property
    def at(self) -> Path:
        """Path of the entry."""
        return "spec", "events", self.index

    @property
    def ref(self) -> str:
        """Reference for messages; it names the entry if the subscription has several."""
        return self.subscription.ref + (f" ({self.events.name})" if len(self.spec.events) > 1 else "")

    def finding(self, severity: Severity, rule: str, message: str, fix: str = "", *, at: Path = ()) -> Finding:
        """Create a finding about the entry; `at` is a path within it."""
        return self.subscription.finding(severity, rule, message, fix, at=(*self.at, *at))


def selections(subscription: EventSubscription) -> list[Selection]:
    """Return the entries of a subscription's `spec.events`."""
    return [Selection(subscription, index) for index in range(len(subscription.spec.events))]
