"""The one scoped Resiliency of an app: Dapr's policies are per component, so this is the coarse net under the kit.

Facts from daprd 1.18.1 that shape it (pkg/resiliency, dapr/kit/retry, runtime/subscription):
- An exponential retry begins at 500 ms whatever `duration` says, and ends 15 minutes after its first attempt
  whatever `maxRetries` says. Every retry set ends in the dead-letter topic.
- An open circuit breaker is a permanent error: the event is not retried but dead-lettered at once. None is
  rendered for apps with the kit.
- A changed Resiliency restarts the sidecar: this one depends on as little as possible.
"""

import math
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

import msgspec

from tidings.resources import durations
from tidings.resources.findings import Finding
from tidings.resources.subscription import Delivery, EventSubscription, Retry

DAPR_ELAPSED = 15 * 60.0
"""Seconds after which daprd gives up an exponential retry."""

KIT_RETRY = Retry(policy="Exponential", duration="500ms", max_interval="10s", max_retries=100)
"""Under the kit: goes on for the whole 15 minutes that daprd allows, so it outlasts an app that is down for
minutes; an event that kills the app's process each time still ends as a dead letter."""

KIT_MARGIN = 5.0
"""Seconds that daprd waits for an answer beyond what the kit itself may need."""


def resiliency(app: str, namespace: str, readers: dict[str, list[EventSubscription]]) -> dict[str, Any] | None:
    """Build the Resiliency of an app from its subscriptions by pub/sub component; None if it reads nothing."""
    if not readers:
        return None
    retries: dict[str, Any] = {}
    timeouts: dict[str, str] = {}
    breakers: dict[str, Any] = {}
    components: dict[str, Any] = {}
    for pubsub, subscriptions in sorted(readers.items()):
        name = f"{app}-{pubsub}"
        deliveries = [each.spec.delivery for each in subscriptions]
        kit = subscriptions[0].spec.consumer.kit
        retries[f"{name}-retry"] = _dapr_retry(_under_the_kit(deliveries) if kit else strongest(deliveries))
        timeouts[f"{name}-timeout"] = durations.go(_timeout(deliveries, kit=kit))
        inbound = {"retry": f"{name}-retry", "timeout": f"{name}-timeout"}
        breaker = None if kit else _breaker(deliveries)
        if breaker:
            breakers[f"{name}-breaker"] = breaker
            inbound["circuitBreaker"] = f"{name}-breaker"
        components[pubsub] = {"inbound": inbound}
    policies = {"retries": retries, "timeouts": timeouts, **({"circuitBreakers": breakers} if breakers else {})}
    return {
        "apiVersion": "dapr.io/v1alpha1",
        "kind": "Resiliency",
        "metadata": {"name": app, "namespace": namespace},
        "spec": {"policies": policies, "targets": {"components": components}},
        "scopes": [app],
    }


def strongest(deliveries: Iterable[Delivery]) -> Retry:
    """Return the retry that gives up last in every respect."""
    retries = [each.retry for each in deliveries]
    return Retry(
        policy="Constant" if all(each.policy == "Constant" for each in retries) else "Exponential",
        duration=max((each.duration for each in retries), key=durations.seconds),
        max_interval=max((each.max_interval for each in retries), key=durations.seconds),
        max_retries=max(each.max_retries for each in retries),
    )


def _under_the_kit(deliveries: Iterable[Delivery]) -> Retry:
    """Return the net under the kit: it must not give up before the kit does, which counts its own attempts."""
    most = max(each.retry.max_retries for each in deliveries)
    return msgspec.structs.replace(KIT_RETRY, max_retries=max(KIT_RETRY.max_retries, 2 * most))


@lru_cache(maxsize=1024)
def budget(delivery: Delivery) -> float:
    """Return the seconds that all attempts and the waits between them take at most."""
    retry = delivery.retry
    wait, longest, count = durations.seconds(retry.duration), durations.seconds(retry.max_interval), retry.max_retries
    total = (count + 1) * durations.seconds(delivery.timeout)
    if retry.policy == "Constant":
        return total + count * wait
    # The waits are `wait`, twice that and so on, until they reach `longest`: a geometric series, then a constant one.
    growing = min(count, max(1, math.ceil(math.log2(longest / wait)))) if wait and longest else min(count, 1)
    return total + wait * (2.0**growing - 1) + (count - growing) * (longest if wait else 0)


def check(subscription: EventSubscription) -> Iterator[Finding]:
    """Yield what daprd will not do as written."""
    spec = subscription.spec
    retry, at = spec.delivery.retry, ("spec", "delivery", "retry")
    exponential = retry.policy == "Exponential"
    if (spec.consumer.kit or exponential) and budget(spec.delivery) > DAPR_ELAPSED:
        message = "daprd gives an event up after 15 minutes, sooner than these attempts and waits may take"
        mend = "Lower maxRetries, the waits or the timeout: then an event ends with its reason, not without one."
        yield subscription.finding("warning", "retry-not-kept", message, mend, at=at)
    if not spec.consumer.kit and exponential and retry.duration != "500ms":
        message = f"daprd begins every exponential retry at 500ms: duration {retry.duration} is not kept"
        mend = "Leave duration out, or use Constant."
        yield subscription.finding("warning", "retry-not-kept", message, mend, at=(*at, "duration"))
    if not spec.consumer.kit and spec.delivery.circuit_breaker:
        message = "While the circuit breaker is open, daprd dead-letters every event at once instead of waiting"
        mend = "Leave it out: the retry already slows down, and a closed app is not called more often."
        place = ("spec", "delivery", "circuitBreaker")
        yield subscription.finding("warning", "breaker-dead-letters", message, mend, at=place)


def disagreement(subscription: EventSubscription, other: EventSubscription) -> Iterator[Finding]:
    """Yield where two subscriptions of an app without the kit want different policies of one component."""
    mine, theirs = subscription.spec.delivery, other.spec.delivery
    if not subscription.spec.consumer.kit and (mine.retry, mine.timeout) != (theirs.retry, theirs.timeout):
        message = f"Its retry or timeout differs from that of {other.ref}: daprd keeps one per component"
        mend = "Write the same in both; until then the stronger of each is kept."
        yield subscription.finding("warning", "conflicting-policies", message, mend, at=("spec", "delivery"))


def _dapr_retry(retry: Retry) -> dict[str, Any]:
    if retry.policy == "Constant":
        return {"policy": "constant", "duration": retry.duration, "maxRetries": retry.max_retries}
    return {"policy": "exponential", "maxInterval": retry.max_interval, "maxRetries": retry.max_retries}


def _timeout(deliveries: list[Delivery], *, kit: bool) -> float:
    if kit:
        return max(budget(each) for each in deliveries) + KIT_MARGIN
    return max(durations.seconds(each.timeout) for each in deliveries)


def _breaker(deliveries: list[Delivery]) -> dict[str, Any] | None:
    """Return the first breaker in the order of seniority: two cannot be merged in a meaningful way."""
    for breaker in (each.circuit_breaker for each in deliveries):
        if breaker:
            interval = {"interval": breaker.interval} if breaker.interval else {}
            return {"maxRequests": breaker.max_requests, **interval, "timeout": breaker.timeout, "trip": breaker.trip}
    return None
