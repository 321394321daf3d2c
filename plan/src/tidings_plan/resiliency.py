"""Render the scoped Resiliency of an app. Dapr's policies apply per component; with the SDK, they are a safety net.

It depends on these properties of daprd 1.18.1 (pkg/resiliency, dapr/kit/retry, runtime/subscription):
- An exponential retry starts at 500 ms regardless of `duration` and ends 15 minutes after the first attempt regardless
  of `maxRetries`. After the last attempt, the event is dead-lettered.
- An open circuit breaker is a permanent error: events are dead-lettered at once instead of retried. Therefore, apps
  with the SDK get no circuit breaker.
- A changed Resiliency restarts the sidecar, so it depends on as little as possible.
"""

import math
from collections.abc import Iterator, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import msgspec

from tidings_plan.resources import durations
from tidings_plan.resources.findings import Finding
from tidings_plan.resources.subscription import Delivery, EventSubscription, Retry

DAPR_ELAPSED = 15 * 60.0
"""Seconds after which daprd stops an exponential retry."""

KIT_RETRY = Retry(policy="Exponential", duration="500ms", max_interval="10s", max_retries=100)
"""Retry for apps with the SDK. It uses the whole 15 minutes that daprd allows, to outlast an app that is down for
minutes; an event that crashes the app every time still becomes a dead letter."""

KIT_MARGIN = 5.0
"""Seconds that daprd waits for a response beyond the SDK's own maximum."""


def resiliency(
    app: str,
    namespace: str,
    readers: dict[str, list[EventSubscription]],
    parallel: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Any] | None:
    """Build the Resiliency of an app from its subscriptions by pub/sub component; None if there are none.

    `parallel` maps each additional component to the one whose policies apply to it.
    """
    if not readers:
        return None
    retries: dict[str, Any] = {}
    timeouts: dict[str, str] = {}
    breakers: dict[str, Any] = {}
    components: dict[str, Any] = {}
    for pubsub, subscriptions in sorted(readers.items()):
        name = f"{app}-{pubsub}"
        retries[f"{name}-retry"], timeouts[f"{name}-timeout"], breaker = _policies(subscriptions)
        inbound = {"retry": f"{name}-retry", "timeout": f"{name}-timeout"}
        if breaker:
            breakers[f"{name}-breaker"] = breaker
            inbound["circuitBreaker"] = f"{name}-breaker"
        components[pubsub] = {"inbound": inbound}
    components |= {component: components[original] for component, original in sorted(parallel.items())}
    policies = {"retries": retries, "timeouts": timeouts, **({"circuitBreakers": breakers} if breakers else {})}
    return {
        "apiVersion": "dapr.io/v1alpha1",
        "kind": "Resiliency",
        "metadata": {"name": app, "namespace": namespace},
        "spec": {"policies": policies, "targets": {"components": components}},
        "scopes": [app],
    }


def _policies(subscriptions: list[EventSubscription]) -> tuple[dict[str, Any], str, dict[str, Any] | None]:
    """Return the retry, timeout and circuit breaker of a component, as Dapr writes them."""
    deliveries = [subscription.spec.delivery for subscription in subscriptions]
    retries, kit = [delivery.retry for delivery in deliveries], subscriptions[0].spec.consumer.kit
    most = max(retry.max_retries for retry in retries)
    if kit:  # both must outlast the SDK's own attempts
        retry = msgspec.structs.replace(KIT_RETRY, max_retries=max(KIT_RETRY.max_retries, 2 * most))
        timeout = max(map(budget, deliveries)) + KIT_MARGIN
    else:  # both last at least as long as each of the deliveries' own
        retry = Retry(
            policy="Constant" if all(retry.policy == "Constant" for retry in retries) else "Exponential",
            duration=max((retry.duration for retry in retries), key=durations.seconds),
            max_interval=max((retry.max_interval for retry in retries), key=durations.seconds),
            max_retries=most,
        )
        timeout = max(durations.seconds(delivery.timeout) for delivery in deliveries)
    delays = {"policy": "exponential", "maxInterval": retry.max_interval}
    if retry.policy == "Constant":
        delays = {"policy": "constant", "duration": retry.duration}
    # The oldest subscription's, because two circuit breakers cannot be merged meaningfully.
    chosen = None if kit else next((item.circuit_breaker for item in deliveries if item.circuit_breaker), None)
    breaker: dict[str, Any] | None = None
    if chosen:
        interval = {"interval": chosen.interval} if chosen.interval else {}
        breaker = {"maxRequests": chosen.max_requests, **interval, "timeout": chosen.timeout, "trip": chosen.trip}
    return {**delays, "maxRetries": retry.max_retries}, durations.go(timeout), breaker


@lru_cache(maxsize=1024)
def budget(delivery: Delivery) -> float:
    """Return the maximum seconds for all attempts and the delays between them."""
    retry = delivery.retry
    wait, longest, count = durations.seconds(retry.duration), durations.seconds(retry.max_interval), retry.max_retries
    total = (count + 1) * durations.seconds(delivery.timeout)
    if retry.policy == "Constant":
        return total + count * wait
    # Delays double from `wait` up to `longest` (a geometric series) and then stay constant.
    growing = min(count, max(1, math.ceil(math.log2(longest / wait)))) if wait and longest else min(count, 1)
    return total + wait * (2.0**growing - 1) + (count - growing) * (longest if wait else 0)


def check(subscription: EventSubscription) -> Iterator[Finding]:
    """Yield a warning for each setting that daprd does not honour."""
    spec = subscription.spec
    retry, at = spec.delivery.retry, ("spec", "delivery", "retry")
    exponential = retry.policy == "Exponential"
    if (spec.consumer.kit or exponential) and budget(spec.delivery) > DAPR_ELAPSED:
        message = "daprd stops retrying after 15 minutes, before these attempts and delays are over"
        fix = "Lower maxRetries, the delays or the timeout, so that the dead letter has a reason."
        yield subscription.finding("warning", "retry-not-enforced", message, fix, at=at)
    if not spec.consumer.kit and exponential and retry.duration != "500ms":
        message = f"daprd starts every exponential retry at 500ms: duration {retry.duration} has no effect"
        fix = "Remove duration, or use Constant."
        yield subscription.finding("warning", "retry-not-enforced", message, fix, at=(*at, "duration"))
    if not spec.consumer.kit and spec.delivery.circuit_breaker:
        message = "While the circuit breaker is open, daprd dead-letters every event at once instead of waiting"
        fix = "Remove it: the retry already backs off."
        path = ("spec", "delivery", "circuitBreaker")
        yield subscription.finding("warning", "breaker-dead-letters", message, fix, at=path)


def disagreement(subscription: EventSubscription, other: EventSubscription) -> Iterator[Finding]:
    """Yield a conflict if two subscriptions of an app without the SDK need different policies for one component."""
    own, theirs = subscription.spec.delivery, other.spec.delivery
    if not subscription.spec.consumer.kit and (own.retry, own.timeout) != (theirs.retry, theirs.timeout):
        message = f"Its retry or timeout differs from that of {other.ref}: daprd has one per component"
        fix = "Use the same values in both; until then, the longer ones apply."
        yield subscription.finding("warning", "conflicting-policies", message, fix, at=("spec", "delivery"))
