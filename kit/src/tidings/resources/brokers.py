"""What a plan must know of Dapr's pub/sub components: how they bring an app the messages of its topics."""

from typing import Any

_CONCURRENT = ("pubsub.redis", "pubsub.rabbitmq", "pubsub.kafka")
_SETTINGS = {"pubsub.jetstream": "concurrency", "pubsub.rabbitmq": "concurrencyMode"}
"""By the component's type, what says `single` there; all others deliver in parallel."""


def shares_workers(document: Any) -> str | None:
    """The name of the component, where the document is one whose few workers serve all topics of an app."""
    return document["metadata"]["name"] if _type(document) == "pubsub.redis" else None


def several_at_once(document: Any) -> str | None:
    """Return the component's name if it delivers several messages of one topic at once."""
    concurrent = _type(document) in _CONCURRENT and one_at_a_time(document) is None
    return document["metadata"]["name"] if concurrent else None


def _type(document: Any) -> str:
    """Return the type of a Component; empty for any other document, and for one that Dapr cannot read either."""
    if not isinstance(document, dict) or document.get("kind") != "Component":
        return ""
    spec, metadata = document.get("spec"), document.get("metadata")
    if not isinstance(spec, dict) or not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
        return ""
    return spec["type"] if isinstance(spec.get("type"), str) else ""


def one_at_a_time(document: Any) -> str | None:
    """The name of the component, where the document is one that waits for each answer before the next message."""
    if not _type(document):
        return None
    spec = document["spec"]
    setting = _SETTINGS.get(spec.get("type", ""))
    entries = spec.get("metadata")
    given = [each for each in entries if isinstance(each, dict)] if isinstance(entries, list) else []
    is_single = any(each.get("name") == setting and each.get("value") == "single" for each in given)
    return document["metadata"]["name"] if setting and is_single else None
