"""The names that everything agrees on: topics, paths, and the resources made from them."""

import hashlib
import re

REPLAY_PATH = "/events/replay"
"""Where an app's sidecar delivers events that are sent to it again."""

IGNORED_PATH = "/events/ignored"
"""Where events go that no filter of the app wants; whatever serves it answers 2xx and does nothing.

Without such a default, daprd sends every unwanted event to the dead-letter topic (runtime/subscription, 1.18.1).
"""

REPLAY_OUTCOMES = "archive.recordReplayOutcome.v1"
"""Topic on which an app confirms what became of an event that was sent to it again."""

DEAD_LETTER_PREFIX = "deadletter."
_NAME_LIMIT = 253
_WORD = "[a-z0-9]+(?:[A-Z][a-z0-9]+)*"
_LOSSLESS = re.compile(rf"{_WORD}(?:\.{_WORD})*")


def dead_letter_topic(app: str) -> str:
    """Topic of an app's dead letters: one per app, because a replay concerns only the app that failed."""
    return f"{DEAD_LETTER_PREFIX}{app}"


def replay_topic(app: str) -> str:
    """Topic of the events that are sent again to one app."""
    return f"replay.{app}"


def event_path(topic: str) -> str:
    """Path that a subscription without routes of its own is delivered to."""
    return f"/events/{topic}"


def subscription_name(app: str, pubsub: str, topic: str) -> str:
    """Name of the Dapr Subscription of an app for a topic: a Kubernetes name, the same for the same input.

    `kitchen` and `orders.orderConfirmed.v2` give `kitchen.orders.order-confirmed.v2`; where that loses
    something (other characters, too long), a short hash keeps two topics apart.
    """
    kebab = re.sub(r"(?<=[a-z0-9])([A-Z])", r"-\1", topic).lower()
    name = re.sub(r"[^a-z0-9]*\.[^a-z0-9]*", ".", re.sub(r"[^a-z0-9.-]+", "-", f"{app}.{kebab}")).strip(".-")
    if _LOSSLESS.fullmatch(topic) and pubsub == "pubsub" and len(name) <= _NAME_LIMIT:
        return name
    digest = hashlib.sha256(f"{pubsub}|{topic}".encode()).hexdigest()[:8]
    return f"{name[: _NAME_LIMIT - 9].rstrip('.-')}-{digest}"
