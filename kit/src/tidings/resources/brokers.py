"""Delivery properties of Dapr's pub/sub components that plans depend on."""

from typing import Any

_CONCURRENT = ("pubsub.redis", "pubsub.rabbitmq", "pubsub.kafka")
_SETTINGS = {"pubsub.jetstream": "concurrency", "pubsub.rabbitmq": "concurrencyMode"}
"""By component type, the setting that limits delivery to one message with `single`; other types deliver in parallel."""


def shares_workers(document: Any) -> str | None:
    """Return the component's name if its workers are shared by all topics of an app, otherwise None."""
    return document["metadata"]["name"] if _type(document) == "pubsub.redis" else None


def several_at_once(document: Any) -> str | None:
    """Return the component's name if it delivers several messages of a topic concurrently, otherwise None."""
    concurrent = _type(document) in _CONCURRENT and one_at_a_time(document) is None
    return document["metadata"]["name"] if concurrent else None


def _type(document: Any) -> str:
    """Return the type of a Component; empty for other documents and for Components that Dapr cannot read either."""
    if not isinstance(document, dict) or document.get("kind") != "Component":
        return ""
    spec, metadata = document.get("spec"), document.get("metadata")
    if not isinstance(spec, dict) or not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
        return ""
    return spec["type"] if isinstance(spec.get("type"), str) else ""


def one_at_a_time(document: Any) -> str | None:
    """Return the component's name if it waits for each acknowledgement before the next message, otherwise None."""
    if not _type(document):
        return None
    spec = document["spec"]
    setting = _SETTINGS.get(spec.get("type", ""))
    entries = spec.get("metadata")
    settings = [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    is_single = any(entry.get("name") == setting and entry.get("value") == "single" for entry in settings)
    return document["metadata"]["name"] if setting and is_single else None
