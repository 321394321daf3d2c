"""Naming conventions shared by all parts: topics, paths and names of Dapr resources."""

import hashlib
import re
from collections.abc import Collection

REPLAY_PATH = "/events/replay"
"""Path for replayed events."""

IGNORED_PATH = "/events/ignored"
"""Path for events that match no filter of the app. The app must answer 2xx and do nothing.

Without a default path, daprd dead-letters every event that matches no rule (runtime/subscription, 1.18.1).
"""

REPLAY_OUTCOMES = "archive.recordReplayOutcome.v1"
"""Topic for the outcomes of replayed events."""

OWN_DOMAIN, OWN_PRODUCER = "tidings", "archive"
"""Reserved domain of the events that Tidings itself publishes, and the only app that may publish them."""

DEAD_LETTER_PREFIX = "deadletter."
_NAME_LIMIT = 253
_WORD = "[a-z0-9]+(?:[A-Z][a-z0-9]+)*"
_LOSSLESS = re.compile(rf"{_WORD}(?:\.{_WORD})*")


def is_own(event_type: str, producers: Collection[str]) -> bool:
    """Return True for a type that Tidings itself publishes: the archive is its only producer."""
    return event_type.startswith(f"{OWN_DOMAIN}.") and set(producers) == {OWN_PRODUCER}


def dead_letter_topic(app: str) -> str:
    """Return the dead-letter topic of an app: one per app, because a replay targets only the app that failed."""
    return f"{DEAD_LETTER_PREFIX}{app}"


def replay_topic(app: str) -> str:
    """Return the topic for replays to an app."""
    return f"replay.{app}"


def event_path(topic: str) -> str:
    """Return the default path for events of a topic."""
    return f"/events/{topic}"


def subscription_name(app: str, pubsub: str, topic: str) -> str:
    """Return the name of an app's Dapr Subscription to a topic: a deterministic Kubernetes name.

    `kitchen` and `orders.orderConfirmed.v2` give `kitchen.orders.order-confirmed.v2`. If the conversion is lossy (other
    characters, or too long), a short hash avoids collisions.
    """
    kebab = re.sub(r"(?<=[a-z0-9])([A-Z])", r"-\1", topic).lower()
    name = re.sub(r"[^a-z0-9]*\.[^a-z0-9]*", ".", re.sub(r"[^a-z0-9.-]+", "-", f"{app}.{kebab}")).strip(".-")
    if _LOSSLESS.fullmatch(topic) and pubsub == "pubsub" and len(name) <= _NAME_LIMIT:
        return name
    digest = hashlib.sha256(f"{pubsub}|{topic}".encode()).hexdigest()[:8]
    return f"{name[: _NAME_LIMIT - 9].rstrip('.-')}-{digest}"
