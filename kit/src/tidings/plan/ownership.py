"""Who owns a topic: the one place that decides which app may publish and read what.

- An EventType owns the channels of its versions. Its producers publish there, its subscriptions read there.
- An app owns `deadletter.<app>`, what begins with `deadletter.<app>.`, and its own replays and retries.
- `archive.*` belongs to the archive's types, `tidings.*` and Dapr's outbox topics to nobody.
- Any other topic that a subscription names as its dead letters or its source belongs to the oldest that names it.

Two topics that differ in case only, or in `.` and `_`, are one: brokers and stream names do not keep them apart.
Components are not looked at: two of them may stand for one broker. Namespaces that share one are those that an
EventType's `access` connects (`Inventory.share_broker`); what else separates namespaces is the broker's own accounts.
"""

import re
from collections.abc import Iterator
from typing import Any

from tidings.plan.conventions import DEAD_LETTER_PREFIX
from tidings.resources.eventtype import EventType
from tidings.resources.findings import Finding
from tidings.resources.inventory import (
    Inventory,
    app_key,
    fold,
    reads_others_dead_letters,
    seniority,
    type_key,
    wanted_type,
)
from tidings.resources.model import Resource
from tidings.resources.origin import Path
from tidings.resources.subscription import EventSubscription

_OF_APPS = {"deadletter": "dead letters", "replay": "replays", "retry": "retries"}
_CHANNEL = re.compile(r"(?P<type>[^.]+\..+)\.v[0-9]+")
_DEAD_LETTERS: Path = ("spec", "delivery", "deadLetter", "topic")
_SOURCE: Path = ("spec", "source", "topic")


def named(other: Resource[Any], reader: Resource[Any]) -> str:
    """Return what a message to one resource calls another: by name only within the namespace of both.

    Whoever reads a status or a refusal may have no right to know what there is in other namespaces.
    """
    if other.metadata.namespace != reader.metadata.namespace:
        return f"an {other.kind} of another namespace"
    app = f" (app {other.spec.consumer.app_id})" if other.kind == "EventSubscription" else ""
    return f"{other.ref}{app}"


def of_type(event_type: EventType, inventory: Inventory) -> Iterator[Finding]:
    """Yield an error for each version whose channel is not the type's to claim."""
    own = fold(event_type.spec.type)
    for topic in dict.fromkeys(event_type.spec.topic(each) for each in event_type.spec.versions):
        shape = _CHANNEL.fullmatch(fold(topic))
        reason = _reserved(topic, archive=own.startswith("archive."))
        if not reason and shape and shape["type"] != own:
            reason = f"has the name of a channel of {topic.rpartition('.')[0]}"
        senior = None if reason else _senior_type(event_type, topic, inventory)
        if reason or senior:
            why = reason or f"belongs to {named(senior, event_type)}" if senior else reason
            mend = "Let spec.channel.topic be {type}.v{version}, or a name that nothing else uses."
            at = ("spec", "channel", "topic")
            yield event_type.finding("error", "foreign-topic", f"The topic {topic} {why}", mend, at=at)


def of_subscription(subscription: EventSubscription, inventory: Inventory) -> Iterator[Finding]:
    """Yield an error for each topic that a subscription names and its app does not own."""
    dead_letters, source = subscription.spec.delivery.dead_letter.topic, subscription.spec.source.topic
    app = subscription.spec.consumer.app_id
    if dead_letters and (why := _not_dead_letters(subscription, dead_letters, inventory)):
        mend = f"Leave it out: then it is {DEAD_LETTER_PREFIX}{app}."
        message = f"{app} may not publish its dead letters to {dead_letters}, which {why}"
        yield subscription.finding("error", "foreign-topic", message, mend, at=_DEAD_LETTERS)
    if source and (why := _not_source(subscription, source, inventory)):
        mend = "Leave it out, or name the type that owns it in spec.eventTypeRef."
        message = f"{app} may not read {source}, which {why}"
        yield subscription.finding("error", "foreign-topic", message, mend, at=_SOURCE)
    yield from _namesakes(subscription, inventory)
    if reads_others_dead_letters(subscription):
        yield from _reader_of_dead_letters(subscription, inventory)


def _reserved(topic: str, *, archive: bool = False) -> str:
    """Return why nobody may claim a topic; empty where one may."""
    head, _, rest = fold(topic).partition(".")
    if head in _OF_APPS:
        return f"is kept for the {_OF_APPS[head]} of app {rest or '?'}"
    if head == "tidings" or (head == "archive" and not archive) or fold(topic).endswith("outbox"):
        return "is internal"
    return ""


def _senior_type(event_type: EventType, topic: str, inventory: Inventory) -> EventType | None:
    """Return the type that owns a topic before this one, in a namespace that shares its broker."""
    home = event_type.metadata.namespace
    for other in inventory.types_on(topic):
        if type_key(other) == type_key(event_type):
            continue  # two EventTypes for one type are another error
        is_senior = seniority(other) < seniority(event_type)
        if is_senior and inventory.share_broker(home, other.metadata.namespace):
            return other
    return None


def _not_dead_letters(subscription: EventSubscription, topic: str, inventory: Inventory) -> str:
    app = subscription.spec.consumer.app_id
    if topic == f"{DEAD_LETTER_PREFIX}{app}" or topic.startswith(f"{DEAD_LETTER_PREFIX}{app}."):
        return ""
    if reason := _reserved(topic):
        return reason
    if shape := _CHANNEL.fullmatch(fold(topic)):
        return f"is a channel of {topic[: len(shape['type'])]}"
    for owner in inventory.types_on(topic):
        return f"is a channel of {named(owner, subscription)}"
    return _senior_claim(subscription, inventory.topic_users(topic), inventory)


def _not_source(subscription: EventSubscription, topic: str, inventory: Inventory) -> str:
    event_type = inventory.type(wanted_type(subscription))
    if event_type and fold(topic) in {fold(event_type.spec.topic(each)) for each in event_type.spec.versions}:
        return ""
    if reason := _reserved(topic):
        return reason
    for owner in inventory.types_on(topic):
        return f"is a channel of {named(owner, subscription)}"
    writers = [
        each
        for each in inventory.topic_users(topic)
        if each.spec.delivery.dead_letter.topic and fold(each.spec.delivery.dead_letter.topic) == fold(topic)
    ]
    return _senior_claim(subscription, writers, inventory)


def _senior_claim(subscription: EventSubscription, users: list[EventSubscription], inventory: Inventory) -> str:
    """Return why a topic belongs to another app, which named it first."""
    for other in users:
        if app_key(other) == app_key(subscription) or seniority(other) > seniority(subscription):
            continue
        if inventory.share_broker(subscription.metadata.namespace, other.metadata.namespace):
            return f"{named(other, subscription)} uses"
    return ""


def _namesakes(subscription: EventSubscription, inventory: Inventory) -> Iterator[Finding]:
    """Apps of one id on one broker would share consumers, dead letters and replays."""
    app = app_key(subscription)
    first = inventory.of_app(app)[0]
    for other in inventory.namesakes(app):
        if seniority(inventory.of_app(other)[0]) < seniority(first):
            message = f"The app {app[1]} is also in another namespace, which shares the broker"
            at = ("spec", "consumer", "appId")
            mend = "Give it another id: both would get each other's events and dead letters."
            yield subscription.finding("error", "app-in-two-namespaces", message, mend, at=at)
            return


def _reader_of_dead_letters(subscription: EventSubscription, inventory: Inventory) -> Iterator[Finding]:
    """Whoever reads dead letters may replay them, that is, publish to other apps: one app of the same namespace."""
    at = ("spec", "eventTypeRef")
    namespace, own = subscription.metadata.namespace, app_key(subscription)
    if wanted_type(subscription)[0] != namespace:
        message = "Dead letters of another namespace may not be read"
        yield subscription.finding("error", "access-denied", message, "Read those of its own namespace.", at=at)
        return
    reader = inventory.reader_of_dead_letters(namespace)
    if reader and app_key(reader) != own:
        message = f"{reader.ref} (app {app_key(reader)[1]}) already reads the dead letters of this namespace"
        mend = "One app reads them, because it may send them again: delete one of the two."
        yield subscription.finding("error", "dead-letters-with-two-readers", message, mend, at=at)
