"""Who keeps what a subscription asks for: the sidecar, the kit, the broker, or nobody."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from tidings.resources.findings import Finding
from tidings.resources.origin import Path
from tidings.resources.subscription import EventSubscription

Keeper = Literal["daprd", "kit", "broker", "nobody"]


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the pub/sub components that a subscription reads from can and cannot do."""

    bulkless: bool = False
    """Whether bulk delivery does harm on one of them."""
    serial: bool = False
    """Whether never more than one message is brought at a time, whoever keeps count."""


def keepers(subscription: EventSubscription, bounds: Bounds = Bounds()) -> dict[str, Keeper]:
    """Return the keeper of every field that is asked for, by the field's path below spec."""
    spec = subscription.spec
    own: Keeper = "kit" if spec.consumer.kit else "daprd"
    only_kit: Keeper = "kit" if spec.consumer.kit else "nobody"
    asked: dict[str, tuple[bool, Keeper]] = {
        "filters": (bool(spec.filters), "daprd"),
        "routes": (bool(spec.routes.rules or spec.routes.default), "daprd"),
        "delivery.retry": (True, own),
        "delivery.timeout": (True, own),
        "delivery.circuitBreaker": (spec.delivery.circuit_breaker is not None, _breaker(subscription)),
        "delivery.deadLetter": (True, own),
        "maxConcurrency": (
            spec.max_concurrency is not None,
            "daprd" if bounds.serial and not spec.consumer.kit else only_kit,
        ),
        "rateLimit": (spec.rate_limit is not None, only_kit),
        "ordering": (spec.ordering.mode == "Key", only_kit),
        # Dapr would hold each message back for the whole of maxAwait, and the next comes only after its answer.
        "bulk": (spec.bulk is not None, "nobody" if bounds.bulkless else "daprd"),
        # Where a durable consumer begins is a setting of the component, the same for all its topics.
        "startFrom": (spec.start_from == "Latest", "nobody"),
        "suspend": (spec.suspend, only_kit),
    }
    return {field: keeper for field, (wanted, keeper) in asked.items() if wanted}


def unkept(subscription: EventSubscription, bounds: Bounds = Bounds()) -> Iterator[Finding]:
    """Yield a finding for each field that nobody keeps: an error where enforcement is Strict."""
    strict = subscription.spec.enforcement == "Strict"
    for field, keeper in keepers(subscription, bounds).items():
        if keeper == "nobody":
            path: Path = ("spec", *field.split("."))
            message = f"spec.{field} is kept by nobody {_why(field)}"
            mend = "Leave it out, or write enforcement: BestEffort and live without it."
            yield subscription.finding("error" if strict else "warning", "not-kept", message, mend, at=path)


def _breaker(subscription: EventSubscription) -> Keeper:
    return "nobody" if subscription.spec.consumer.kit else "daprd"


def _why(field: str) -> str:
    if field == "delivery.circuitBreaker":
        return "with the kit: daprd's would dead-letter every event while it is open"
    if field == "startFrom":
        return "per subscription: it is a setting of the pub/sub component (deliverPolicy, initialOffset)"
    if field == "bulk":
        return "on its pub/sub component: it delivers one message at a time, which would wait maxAwait for no other"
    return "without the kit (spec.consumer.kit: false)"
