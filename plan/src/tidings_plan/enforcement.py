"""Enforcement: which component enforces each field of a subscription, if any."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from tidings_plan.resources.brokers import StartPosition
from tidings_plan.resources.findings import Finding
from tidings_plan.resources.source_location import Path
from tidings_plan.resources.subscription import EventSubscription

Enforcer = Literal["daprd", "kit", "broker", "none"]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Limitations of the pub/sub components that a subscription reads from."""

    bulkless: bool = False
    """Whether bulk delivery is harmful on one of them."""
    serial: bool = False
    """Whether they never deliver more than one message at a time."""
    starts: frozenset[StartPosition] = frozenset()
    """Where a new consumer starts on them."""


def enforcers(subscription: EventSubscription, capabilities: Capabilities = Capabilities()) -> dict[str, Enforcer]:
    """Return the enforcer of every field that is set, by the field's path below `spec`."""
    spec = subscription.spec
    own: Enforcer = "kit" if spec.consumer.kit else "daprd"
    only_kit: Enforcer = "kit" if spec.consumer.kit else "none"
    fields: dict[str, tuple[bool, Enforcer]] = {
        "filters": (any(event.filters for event in spec.events), "daprd"),
        "routes": (bool(spec.routes.rules or spec.routes.default), "daprd"),
        "delivery.retry": (True, own),
        "delivery.timeout": (True, own),
        # With the SDK, daprd's breaker would dead-letter every event while it is open.
        "delivery.circuitBreaker": (
            spec.delivery.circuit_breaker is not None,
            "none" if spec.consumer.kit else "daprd",
        ),
        "delivery.deadLetter": (True, own),
        "maxConcurrency": (
            spec.max_concurrency is not None,
            "daprd" if capabilities.serial and not spec.consumer.kit else only_kit,
        ),
        "rateLimit": (spec.rate_limit is not None, only_kit),
        "ordering": (spec.ordering.mode == "Key", only_kit),
        # A component that waits for each acknowledgement never fills a bulk: every message would wait for maxAwait.
        "bulk": (spec.bulk is not None, "none" if capabilities.bulkless else "daprd"),
        # The start position of a durable consumer is a setting of the component and applies to all its topics.
        "startFrom": (
            spec.start_from is not None,
            "broker" if capabilities.starts == {spec.start_from} else "none",
        ),
        # A suspended topic has no Dapr Subscription; its events wait unless the broker keeps nothing.
        "suspend": (spec.suspend, "none" if "Connected" in capabilities.starts else "daprd"),
    }
    return {field: enforcer for field, (is_set, enforcer) in fields.items() if is_set}


def unenforced(subscription: EventSubscription, capabilities: Capabilities = Capabilities()) -> Iterator[Finding]:
    """Yield a finding for each field that nothing enforces: an error if `spec.enforcement` is Strict."""
    strict = subscription.spec.enforcement == "Strict"
    for field, enforcer in enforcers(subscription, capabilities).items():
        if enforcer == "none":
            path: Path = ("spec", *field.split("."))
            message = f"spec.{field} cannot be enforced {_why(field, capabilities)}"
            fix = "Remove it, or set enforcement: BestEffort to accept that it is not enforced."
            yield subscription.finding("error" if strict else "warning", "not-enforced", message, fix, at=path)


def _why(field: str, capabilities: Capabilities) -> str:
    if field == "delivery.circuitBreaker":
        return "with the SDK: daprd's circuit breaker would dead-letter every event while it is open"
    if field == "startFrom":
        starts = " and ".join(sorted(capabilities.starts)) or "Unknown"
        return (
            "per subscription: it follows from the pub/sub component (JetStream: deliverPolicy, Kafka: initialOffset), "
            f"where it is {starts}"
        )
    if field == "suspend":
        return "on its pub/sub component, whose broker keeps nothing: its events would be lost"
    if field == "bulk":
        return "on its pub/sub component, which delivers one message at a time: each would wait for maxAwait"
    return "without the SDK (spec.consumer.kit: false)"
