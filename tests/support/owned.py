"""Permitted publishers and readers, derived independently from the documents, to verify the rights in a plan.

Nothing here is taken from `tidings_plan`: an oracle that shares the code that it judges shows nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from tidings_plan.resources import EventSubscription, EventType

OUTCOMES = "archive.recordReplayOutcome.v1"
RESERVED = ("deadletter.", "replay.", "retry.", "tidings.", "archive.")


def fold(topic: str) -> str:
    return topic.lower().replace("_", ".")


def channels(event_type: EventType) -> set[str]:
    """Return the topics of a type, folded."""
    return {fold(event_type.spec.topic(version)) for version in event_type.spec.versions}


def natural(topic: str) -> str:
    """Return the type whose channel a topic is by its name, folded; empty if there is none."""
    shape = re.fullmatch(r"([^.]+\..+)\.v[0-9]+", fold(topic))
    return shape[1] if shape else ""


def share_broker(one: str, other: str, types: list[EventType]) -> bool:
    """Return True if access of a type connects two namespaces, directly or through a third one.

    Topics of other namespaces are on another account or broker: "Separation of namespaces" in security.md.
    """

    def homes(namespace: str) -> set[str]:
        return {namespace, *(item.metadata.namespace for item in types if _invites(item, namespace))}

    return not homes(one).isdisjoint(homes(other))


def wrongs(
    app: tuple[str, str],
    publishes: Iterable[str],
    reads: Iterable[str],
    types: list[EventType],
    subscriptions: list[EventSubscription],
) -> Iterator[str]:
    """Yield each right that an app has and may not have."""
    namespace, own = app
    theirs = [
        subscription
        for subscription in subscriptions
        if (subscription.metadata.namespace, subscription.spec.consumer.app_id) == app
    ]
    for topic in publishes:
        if not _may_publish(topic, namespace, own, types, theirs):
            yield f"{app} may publish {topic}"
    for topic in reads:
        if not _may_read(topic, namespace, own, types, theirs):
            yield f"{app} may read {topic}"


def _may_publish(topic: str, namespace: str, own: str, types: list[EventType], theirs: list[EventSubscription]) -> bool:
    if topic in (OUTCOMES, f"deadletter.{own}") or topic.startswith(f"deadletter.{own}."):
        return True
    owners = _owners(topic, namespace, types)
    for owner in owners:
        granted = owner.metadata.namespace == namespace and own in owner.spec.producers
        kind = fold(owner.spec.type)
        reserved = fold(topic).startswith(RESERVED) and not kind.startswith("archive.")
        if granted and natural(topic) in ("", kind) and not reserved:
            return True
    if topic.startswith("replay."):
        return any(events.name.startswith("deadletter.") for item in theirs for events in item.spec.events)
    named = {item.spec.delivery.dead_letter.topic for item in theirs}
    return topic in named and not owners and not fold(topic).startswith(RESERVED)


def _may_read(topic: str, namespace: str, own: str, types: list[EventType], theirs: list[EventSubscription]) -> bool:
    if topic == f"replay.{own}":
        return True
    if topic.startswith("deadletter."):
        return any(events.name.startswith("deadletter.") for item in theirs for events in item.spec.events)
    for owner in types:
        if _invites(owner, namespace) and fold(topic) in channels(owner):
            return True
    named = {item.spec.source.topic for item in theirs}
    return topic in named and not _owners(topic, namespace, types) and not fold(topic).startswith(RESERVED)


def _invites(owner: EventType, namespace: str) -> bool:
    return namespace == owner.metadata.namespace or not {namespace, "*"}.isdisjoint(owner.spec.access.namespaces)


def _owners(topic: str, namespace: str, types: list[EventType]) -> list[EventType]:
    return [
        item
        for item in types
        if fold(topic) in channels(item) and share_broker(namespace, item.metadata.namespace, types)
    ]


def all_of(known: Any) -> tuple[list[EventType], list[EventSubscription]]:
    """Return all event types and subscriptions of an inventory."""
    return list(known.types.values()), list(known.subscriptions.values())
