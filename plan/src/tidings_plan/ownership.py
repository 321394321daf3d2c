"""Topic ownership: the single place that decides which apps may publish to and consume from a topic.

- An EventType owns the channels of its versions. Its producers publish there, its subscriptions consume there.
- An app owns `deadletter.<app>`, topics that start with `deadletter.<app>.`, and its own replay and retry topics.
- `archive.*` is reserved for the archive's types, `tidings.*` for what the archive publishes for Tidings; Dapr's outbox
  topics and names that brokers use themselves (`_…`, `amq.*`) cannot be owned.
- Any other topic that subscriptions name as dead-letter topic or source belongs to the oldest of them.
- A topic with another name than `<type>.v<n>` that both a type and a subscription name belongs to the type if they are
  in the same namespace, where the authors of types decide; of two namespaces, to the older resource.

Topics that differ only in case, or in `.` and `_`, count as the same topic, because brokers and stream names may not
distinguish them. Components are ignored, because two of them may use the same broker. Namespaces share a broker if an
EventType's `access` connects them (`Inventory.share_broker`); otherwise, the broker's accounts isolate them.
"""

import re
from collections.abc import Iterator
from typing import Any

from tidings.conventions import OWN_DOMAIN, dead_letter_topic
from tidings_plan.naming import is_own
from tidings_plan.resources.eventtype import EventType
from tidings_plan.resources.findings import Finding
from tidings_plan.resources.inventory import (
    Inventory,
    app_key,
    fold,
    is_dead_letters,
    requested_type,
    seniority,
    type_key,
)
from tidings_plan.resources.model import Resource
from tidings_plan.resources.source_location import Path
from tidings_plan.resources.subscription import EventSubscription, Selection, selections

_OF_APPS = {"deadletter": "dead letters", "replay": "replays", "retry": "retries"}
_CHANNEL = re.compile(r"(?P<type>[^.]+\..+)\.v[0-9]+")
_DEAD_LETTERS: Path = ("spec", "delivery", "deadLetter", "topic")
_SOURCE: Path = ("spec", "source", "topic")


def named(other: Resource[Any], reader: Resource[Any]) -> str:
    """Describe another resource in a message to `reader`: by name only if both are in the same namespace.

    Readers of a status or a rejection may not be allowed to know the resources of other namespaces.
    """
    if other.metadata.namespace != reader.metadata.namespace:
        return f"an {other.kind} of another namespace"
    app = f" (app {other.spec.consumer.app_id})" if other.kind == "EventSubscription" else ""
    return f"{other.ref}{app}"


def of_type(event_type: EventType, inventory: Inventory) -> Iterator[Finding]:
    """Yield an error for each version whose channel the type may not own."""
    own = fold(event_type.spec.type)
    internal = "archive" if own.startswith("archive.") else ""
    if is_own(event_type.spec.type, event_type.spec.producers):
        internal = OWN_DOMAIN
    for topic in dict.fromkeys(event_type.spec.topic(version) for version in event_type.spec.versions):
        shape = _CHANNEL.fullmatch(fold(topic))
        reason = _reserved(topic, but=internal)
        if not reason and shape and shape["type"] != own:
            reason = f"is named like a channel of {topic.rpartition('.')[0]}"
        senior = None if reason else _senior(event_type, topic, inventory)
        if reason or senior:
            why = reason or f"belongs to {named(senior, event_type)}" if senior else reason
            fix = "Set spec.channel.topic to {type}.v{version} or to an unused name."
            at = ("spec", "channel", "topic")
            yield event_type.finding("error", "foreign-topic", f"The topic {topic} {why}", fix, at=at)


def of_subscription(subscription: EventSubscription, inventory: Inventory) -> Iterator[Finding]:
    """Yield an error for each topic that a subscription names but its app does not own."""
    dead_letters, source = subscription.spec.delivery.dead_letter.topic, subscription.spec.source.topic
    app = subscription.spec.consumer.app_id
    if dead_letters and (why := _not_dead_letters(subscription, dead_letters, inventory)):
        fix = f"Remove it to use the default, {dead_letter_topic(app)}."
        message = f"{app} may not publish its dead letters to {dead_letters}, which {why}"
        yield subscription.finding("error", "foreign-topic", message, fix, at=_DEAD_LETTERS)
    if source and (why := _not_source(subscription, source, inventory)):
        fix = "Remove it, or name the type that owns it in spec.events."
        message = f"{app} may not read {source}, which {why}"
        yield subscription.finding("error", "foreign-topic", message, fix, at=_SOURCE)
    # An app of the same id on the same broker would share its consumers, dead letters and replays.
    key = app_key(subscription)
    first = inventory.of_app(key)[0]
    if any(seniority(inventory.of_app(other)[0]) < seniority(first) for other in inventory.namesakes(key)):
        message = f"The app {app} is also in another namespace, which shares the broker"
        fix = "Use another id: both apps would receive each other's events and dead letters."
        at = ("spec", "consumer", "appId")
        yield subscription.finding("error", "app-in-two-namespaces", message, fix, at=at)
    if source and len(subscription.spec.events) > 1:
        message = "source.topic replaces the topic of every entry of spec.events: all would read the same"
        fix = "Use a separate EventSubscription for the event that comes from another topic."
        yield subscription.finding("error", "source-of-several", message, fix, at=_SOURCE)


def of_selection(selection: Selection, inventory: Inventory) -> Iterator[Finding]:
    """Yield an error unless this app is the only reader of other apps' dead letters in its namespace.

    A reader of dead letters may replay them, that is, publish to other apps.
    """
    namespace, own = selection.metadata.namespace, app_key(selection)
    if not is_dead_letters(selection) or selection.events.name == dead_letter_topic(own[1]):
        return
    if requested_type(selection)[0] != namespace:
        message = "Reading dead letters of another namespace is not allowed"
        yield selection.finding("error", "access-denied", message, "Read the dead letters of its own namespace.")
        return
    reader = inventory.reader_of_dead_letters(namespace)
    if reader and app_key(reader) != own:
        message = f"{reader.ref} (app {app_key(reader)[1]}) already reads the dead letters of this namespace"
        fix = "Only one app may read and replay them: delete one of the subscriptions."
        yield selection.finding("error", "dead-letters-with-two-readers", message, fix)


def _reserved(topic: str, *, but: str = "") -> str:
    """Return the reason if a topic is reserved, except for the internal domain `but`, otherwise an empty string."""
    head, _, rest = fold(topic).partition(".")
    if head in _OF_APPS:
        return f"is reserved for the {_OF_APPS[head]} of app {rest or '?'}"
    if (head in ("archive", OWN_DOMAIN) and head != but) or fold(topic).endswith("outbox"):
        return "is internal"
    if not head or head == "amq":  # such as Kafka's __consumer_offsets, NATS's _INBOX.… and RabbitMQ's amq.fanout
        return "is reserved for brokers"
    return ""


def _senior(event_type: EventType, topic: str, inventory: Inventory) -> Resource[Any] | None:
    """Return the older type, or the older subscription of another namespace, that owns a topic on the same broker."""
    home = event_type.metadata.namespace
    for other in inventory.types_on(topic):
        if type_key(other) == type_key(event_type):
            continue  # duplicate types have a finding of their own
        is_senior = seniority(other) < seniority(event_type)
        if is_senior and inventory.share_broker(home, other.metadata.namespace):
            return other
    for user in () if _is_named_after(event_type, topic) else inventory.topic_users(topic):
        is_senior = user.metadata.namespace != home and seniority(user) < seniority(event_type)
        if is_senior and inventory.share_broker(home, user.metadata.namespace):
            return user
    return None


def _is_named_after(event_type: EventType, topic: str) -> bool:
    """Return True if a topic has the name that only this type may use: `<type>.v<n>`."""
    shape = _CHANNEL.fullmatch(fold(topic))
    return shape is not None and shape["type"] == fold(event_type.spec.type)


def _owning_type(subscription: EventSubscription, topic: str, inventory: Inventory) -> EventType | None:
    """Return the type that owns a topic which a subscription names, or None."""
    home = subscription.metadata.namespace
    for event_type in inventory.types_on(topic):
        namespace = event_type.metadata.namespace
        if namespace == home:
            return event_type
        is_senior = _is_named_after(event_type, topic) or seniority(event_type) < seniority(subscription)
        if is_senior and inventory.share_broker(home, namespace):
            return event_type
    return None


def _not_dead_letters(subscription: EventSubscription, topic: str, inventory: Inventory) -> str:
    app = subscription.spec.consumer.app_id
    if (topic + ".").startswith(dead_letter_topic(app) + "."):
        return ""
    if reason := _reserved(topic):
        return reason
    if shape := _CHANNEL.fullmatch(fold(topic)):
        return f"is a channel of {topic[: len(shape['type'])]}"
    if owner := _owning_type(subscription, topic, inventory):
        return f"is a channel of {named(owner, subscription)}"
    return _senior_claim(subscription, inventory.topic_users(topic), inventory)


def _not_source(subscription: EventSubscription, topic: str, inventory: Inventory) -> str:
    event_type = inventory.type(requested_type(selections(subscription)[0]))
    if event_type and fold(topic) in {fold(event_type.spec.topic(version)) for version in event_type.spec.versions}:
        return ""
    if reason := _reserved(topic):
        return reason
    if owner := _owning_type(subscription, topic, inventory):
        return f"is a channel of {named(owner, subscription)}"
    writers = [
        user
        for user in inventory.topic_users(topic)
        if user.spec.delivery.dead_letter.topic and fold(user.spec.delivery.dead_letter.topic) == fold(topic)
    ]
    return _senior_claim(subscription, writers, inventory)


def _senior_claim(subscription: EventSubscription, users: list[EventSubscription], inventory: Inventory) -> str:
    """Return the reason if an older subscription of another app claims the topic, otherwise an empty string."""
    for other in users:
        if app_key(other) == app_key(subscription) or seniority(other) > seniority(subscription):
            continue
        if inventory.share_broker(subscription.metadata.namespace, other.metadata.namespace):
            return f"{named(other, subscription)} uses"
    return ""
