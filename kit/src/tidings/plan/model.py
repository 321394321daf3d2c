"""What a plan says, as plain data."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from tidings.plan.keepers import Keeper
from tidings.resources.findings import Finding

Topics = Mapping[str, tuple[str, ...]]
"""Topics by pub/sub component, sorted."""
Rights = tuple[str, Iterable[str]]
"""An app, and topics that it may use."""


@dataclass(frozen=True, slots=True)
class AppPlan:
    """What one app needs: made from its subscriptions and nothing else that could change it."""

    app: str
    namespace: str = "default"
    subscriptions: tuple[dict[str, Any], ...] = ()
    """Dapr Subscriptions, sorted by name."""
    resiliency: dict[str, Any] | None = None
    """Its scoped Dapr Resiliency; None for an app that reads nothing."""
    policy: dict[str, Any] = field(default_factory=dict)
    """What the kit inside the app reads (`tidings.policy.Policy`)."""
    reads: Topics = field(default_factory=dict)
    publishes: Topics = field(default_factory=dict)
    """What it may publish: its events, its dead letters and, if it keeps dead letters, replays."""
    enforcement: Mapping[str, Mapping[str, Keeper]] = field(default_factory=dict)
    """Subscription name to field to who keeps it."""
    findings: tuple[Finding, ...] = ()

    @property
    def topics(self) -> frozenset[str]:
        """Every topic it reads or publishes."""
        return frozenset(topic for topics in (self.reads, self.publishes) for each in topics.values() for topic in each)


@dataclass(frozen=True, slots=True)
class Scopes:
    """Who may publish and who may subscribe to what: metadata of a pub/sub component, as Dapr writes it."""

    publishing: str
    subscription: str

    @classmethod
    def of(cls, publish: Iterable[Rights], subscribe: Iterable[Rights]) -> Self:
        """Write to what each app may publish, and to what it may subscribe."""
        return cls(_spelled(publish), _spelled(subscribe))

    @property
    def metadata(self) -> list[dict[str, str]]:
        """As entries of a Component's spec.metadata."""
        return [
            {"name": "publishingScopes", "value": self.publishing},
            {"name": "subscriptionScopes", "value": self.subscription},
        ]


@dataclass(frozen=True, slots=True)
class Plan:
    """All apps, by app id (`namespace/app` outside the namespace `default`), and what there is to say."""

    apps: Mapping[str, AppPlan]
    findings: tuple[Finding, ...]
    channels: Topics
    """Every topic that must exist, by pub/sub component."""
    scopes: Mapping[str, Scopes]
    """By pub/sub component."""

    @property
    def topics(self) -> tuple[str, ...]:
        """Every topic that must exist, whichever component carries it: what streams are made from."""
        return tuple(sorted({topic for topics in self.channels.values() for topic in topics}))


def _spelled(rights: Iterable[Rights]) -> str:
    return ";".join(f"{app}={','.join(topics)}" for app, topics in rights)
