"""What a plan must know of Dapr's pub/sub components: which of them bring an app one message at a time."""

from typing import Any

_SETTINGS = {"pubsub.jetstream": "concurrency", "pubsub.rabbitmq": "concurrencyMode"}
"""By the component's type, what says `single` there; all others deliver in parallel."""


def one_at_a_time(document: Any) -> str | None:
    """The name of the component, where the document is one that waits for each answer before the next message."""
    if not isinstance(document, dict) or document.get("kind") != "Component":
        return None
    spec = document.get("spec") or {}
    setting = _SETTINGS.get(spec.get("type", ""))
    given = {each.get("name"): each.get("value") for each in spec.get("metadata") or ()}
    return document["metadata"]["name"] if setting and given.get(setting) == "single" else None
