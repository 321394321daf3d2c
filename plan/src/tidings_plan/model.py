"""The plan as plain data."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from tidings.consume.policy import Policy
from tidings_plan.enforcement import Enforcer
from tidings_plan.resources.findings import Finding

Topics = Mapping[str, tuple[str, ...]]
"""Topics by pub/sub component, sorted."""
Rights = tuple[str, Iterable[str]]
"""An app and the topics that it may use."""


@dataclass(frozen=True, slots=True)
class AppPlan:
    """Everything that one app needs, derived from its subscriptions and the types that it uses."""

    app: str
    namespace: str = "default"
    subscriptions: tuple[dict[str, Any], ...] = ()
    """Dapr Subscriptions, sorted by name."""
    resiliency: dict[str, Any] | None = None
    """Scoped Dapr Resiliency; None for an app without subscriptions."""
    policy: Policy = field(default_factory=Policy)
    """Consumer policy for the SDK in the app."""
    reads: Topics = field(default_factory=dict)
    """Topics it may subscribe to; also under the first of the components that share a consumer, whichever is used."""
    publishes: Topics = field(default_factory=dict)
    """Topics it may publish to: its events and dead letters and, if it reads dead letters, replays."""
    parallel: Mapping[str, str] = field(default_factory=dict)
    """Additional component, such as `pubsub-1`, to the component that it shares a consumer with."""
    enforcement: Mapping[str, Mapping[str, Enforcer]] = field(default_factory=dict)
    """By subscription name and field, the enforcer."""
    events: Mapping[str, Mapping[int, tuple[tuple[str, str], ...]]] = field(default_factory=dict)
    """By subscription name and index in `spec.events`, the components and topics that it reads; none if rejected."""
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Scopes:
    """Publishing and subscription scopes of a pub/sub component, in Dapr's notation."""

    publishing: str
    subscription: str

    @classmethod
    def of(cls, publish: Iterable[Rights], subscribe: Iterable[Rights]) -> Self:
        """Create scopes from the topics that each app may publish and subscribe to."""
        return cls(_spelled(publish), _spelled(subscribe))

    @property
    def metadata(self) -> list[dict[str, str]]:
        """Entries for a Component's `spec.metadata`."""
        return [
            {"name": "publishingScopes", "value": self.publishing},
            {"name": "subscriptionScopes", "value": self.subscription},
        ]


@dataclass(frozen=True, slots=True)
class Plan:
    """Plans of all apps, by app id (`namespace/app` outside the namespace `default`), with all findings."""

    apps: Mapping[str, AppPlan]
    findings: tuple[Finding, ...]
    channels: Topics
    """Every topic that must exist, by pub/sub component."""
    scopes: Mapping[str, Scopes]
    """By pub/sub component."""

    @property
    def topics(self) -> tuple[str, ...]:
        """All topics that must exist, regardless of component, for example as streams."""
        return tuple(sorted({topic for topics in self.channels.values() for topic in topics}))


def _spelled(rights: Iterable[Rights]) -> str:
    return ";".join(f"{app}={','.join(topics)}" for app, topics in rights)
