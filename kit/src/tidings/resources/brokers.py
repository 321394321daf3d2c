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
    if not isinstance(document, dict) or document.get("kind") != "Component":
        return ""
    return str((document.get("spec") or {}).get("type", ""))


def one_at_a_time(document: Any) -> str | None:
    """The name of the component, where the document is one that waits for each answer before the next message."""
    if not _type(document):
        return None
    spec = document["spec"]
    setting = _SETTINGS.get(spec.get("type", ""))
    given = {each.get("name"): each.get("value") for each in spec.get("metadata") or ()}
    return document["metadata"]["name"] if setting and given.get(setting) == "single" else None
