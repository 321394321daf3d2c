"""Delivery attempts that a Dapr Resiliency allows for a message."""

from typing import Any


def attempts(resiliency: dict[str, Any] | None, pubsub: str) -> int | None:
    """Return the number of attempts that daprd makes for a message of a pub/sub component.

    One without an inbound retry policy for the component; None (unlimited) for a policy without maxRetries.
    """
    spec = (resiliency or {}).get("spec") or {}
    target = _at(spec, "targets", "components", pubsub, "inbound", "retry")
    if target is None:
        return 1
    maximum = _at(spec, "policies", "retries", target, "maxRetries")
    return None if maximum is None or maximum < 0 else int(maximum) + 1


def _at(value: Any, *path: str) -> Any:
    for key in path:
        value = (value or {}).get(key)
    return value
