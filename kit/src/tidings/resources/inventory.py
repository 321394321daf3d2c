"""Everything that is known, with the indexes a plan needs: changes cost what they touch, not what there is."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from tidings.resources.accounts import connected
from tidings.resources.eventtype import EventType
from tidings.resources.findings import Finding
from tidings.resources.model import Resource
from tidings.resources.replay import EventReplay
from tidings.resources.subscription import EventSubscription

At = TypeVar("At")
Key = tuple[str, str]
"""Namespace and name (of a resource), namespace and type (of an event type), namespace and app id."""


class Inventory:
    """All resources, by kind and key. Mutable: `put` and `remove` tell which apps must be planned anew."""

    def __init__(self, resources: Iterable[Resource[Any]] = (), findings: Iterable[Finding] = ()) -> None:
        self.types: dict[Key, EventType] = {}
        self.subscriptions: dict[Key, EventSubscription] = {}
        self.replays: dict[Key, EventReplay] = {}
        self.findings: list[Finding] = list(findings)
        self._faulty = frozenset(each.resource for each in self.findings if each.severity == "error")
        self.serial: set[str] = set()
        """The pub/sub components that bring an app one message at a time, as far as is known: `name`, as files have it,
        or `namespace/name`."""
        self.sharing: set[str] = set()
        """Those whose workers serve all topics of an app: a slow one holds the others up."""
        self.concurrent: set[str] = set()
        """Components that are known to deliver several messages of one topic at once."""
        self.accounts: dict[str, frozenset[str]] = {}
        """By namespace, a digest of each broker account that its components are known to lead to."""
        self._claims: dict[Key, dict[Key, EventType]] = defaultdict(dict)
        self._of_app: dict[Key, dict[Key, EventSubscription]] = defaultdict(dict)
        self._of_type: dict[Key, dict[Key, EventSubscription]] = defaultdict(dict)
        self._produced_by: dict[Key, dict[Key, EventType]] = defaultdict(dict)
        self._wildcards: dict[Key, EventSubscription] = {}
        self._types_on: dict[str, dict[Key, EventType]] = defaultdict(dict)
        self._users_of: dict[str, dict[Key, EventSubscription]] = defaultdict(dict)
        self._namespaces_of: dict[str, set[str]] = defaultdict(set)
        self._names_in: dict[str, Counter[str]] = defaultdict(Counter)
        self._dead_letter_readers: dict[str, dict[Key, EventSubscription]] = defaultdict(dict)
        self._homes_of: dict[str, Counter[str]] = defaultdict(Counter)
        """By invited namespace (or `*`), the namespaces whose types invite it."""
        for resource in resources:
            self.put(resource)

    def put(self, resource: Resource[Any]) -> frozenset[Key]:
        """Add or replace a resource; return the apps whose plan it may change."""
        touched = self.remove(resource.kind, resource.key)
        if resource.kind == "EventType":
            self.types[resource.key] = resource
            self._claims[type_key(resource)][resource.key] = resource
            for app in _producers(resource):
                self._produced_by[app][resource.key] = resource
            return touched | self._index_type(resource) | self._apps_near(type_key(resource)) | _producers(resource)
        if resource.kind == "EventSubscription":
            is_new = app_key(resource) not in self._of_app
            self.subscriptions[resource.key] = resource
            self._of_app[app_key(resource)][resource.key] = resource
            self._index_wish(resource)
            for topic in _named_topics(resource):
                self._users_of[topic][resource.key] = resource
            return touched | self._apps_around(resource, dead_letters_differ=is_new)
        self.replays[resource.key] = resource
        return touched

    def remove(self, kind: str, key: Key) -> frozenset[Key]:
        """Forget a resource, if it is known; return the apps whose plan that may change."""
        if kind == "EventType" and (event_type := self.types.pop(key, None)):
            _drop(self._claims, type_key(event_type), key)
            for app in _producers(event_type):
                _drop(self._produced_by, app, key)
            return self._unindex_type(event_type) | self._apps_near(type_key(event_type)) | _producers(event_type)
        if kind == "EventSubscription" and (subscription := self.subscriptions.pop(key, None)):
            _drop(self._of_app, app_key(subscription), key)
            _drop(self._of_type, wanted_type(subscription), key)
            self._wildcards.pop(key, None)
            _drop(self._dead_letter_readers, subscription.metadata.namespace, key)
            near = self._apps_around(subscription, dead_letters_differ=app_key(subscription) not in self._of_app)
            for topic in _named_topics(subscription):
                _drop(self._users_of, topic, key)
            if app_key(subscription) not in self._of_app:
                self._namespaces_of[app_key(subscription)[1]].discard(app_key(subscription)[0])
            return near
        if kind == "EventReplay":
            self.replays.pop(key, None)
        return frozenset()

    def is_faulty(self, resource: Resource[Any]) -> bool:
        """Whether reading it has found an error, such as a schema's file that is not there."""
        return resource.ref in self._faulty

    @property
    def apps(self) -> frozenset[Key]:
        """Every app that reads or publishes something."""
        return self.consuming_apps | self._produced_by.keys()

    @property
    def consuming_apps(self) -> frozenset[Key]:
        """Every app that has a subscription."""
        return frozenset(self._of_app)

    def is_serial(self, namespace: str, component: str) -> bool:
        """Whether the component of that name in a namespace brings one message at a time."""
        return not self.serial.isdisjoint((component, f"{namespace}/{component}"))

    def is_sharing(self, namespace: str, component: str) -> bool:
        """Whether the workers of the component of that name in a namespace serve all topics of an app."""
        return not self.sharing.isdisjoint((component, f"{namespace}/{component}"))

    def is_concurrent(self, namespace: str, component: str) -> bool:
        """Return whether the component of that name is known to deliver several messages of one topic at once."""
        return not self.concurrent.isdisjoint((component, f"{namespace}/{component}"))

    def type(self, key: Key) -> EventType | None:
        """Return the event type of that namespace and business name; of several, the oldest."""
        claims = self._claims.get(key)
        return min(claims.values(), key=seniority) if claims else None

    def claims(self, key: Key) -> list[EventType]:
        """All EventTypes that claim that name, the oldest first: more than one is a mistake."""
        return sorted(self._claims.get(key, {}).values(), key=seniority)

    def type_names(self, namespace: str) -> Iterator[str]:
        """Yield the business names that a namespace knows."""
        return iter(self._names_in.get(namespace, ()))

    def matching_types(self, namespace: str, pattern: str) -> list[EventType]:
        """Return the types of a namespace whose name matches a pattern such as `orders.*`, sorted by name."""
        found = [name for name in self.type_names(namespace) if covers(pattern, name)]
        return [kind for name in sorted(found) if (kind := self.type((namespace, name)))]

    def of_app(self, app: Key) -> list[EventSubscription]:
        """Return an app's subscriptions, the oldest first."""
        return sorted(self._of_app.get(app, {}).values(), key=seniority)

    def consumers(self, event_type: EventType) -> list[EventSubscription]:
        """Return the subscriptions that name the type (no wildcards), the oldest first."""
        return sorted(self._of_type.get(type_key(event_type), {}).values(), key=seniority)

    def observers(self, event_type: EventType) -> list[EventSubscription]:
        """Return the wildcard subscriptions that read the type too."""
        return [
            each
            for each in self._wildcards.values()
            if wanted_type(each)[0] == event_type.metadata.namespace
            and covers(wanted_type(each)[1], event_type.spec.type)
        ]

    def wildcards(self) -> list[EventSubscription]:
        """Return every subscription that reads by pattern, the oldest first."""
        return sorted(self._wildcards.values(), key=seniority)

    def produced_by(self, app: Key) -> list[EventType]:
        """Return the types an app is named as a producer of."""
        return sorted(self._produced_by.get(app, {}).values(), key=seniority)

    def types_on(self, topic: str) -> list[EventType]:
        """Return the types that have a topic as a channel of theirs, in whatever namespace, the oldest first."""
        return sorted(self._types_on.get(fold(topic), {}).values(), key=seniority)

    def topic_users(self, topic: str) -> list[EventSubscription]:
        """Return the subscriptions that name a topic as their dead letters or their source, the oldest first."""
        return sorted(self._users_of.get(fold(topic), {}).values(), key=seniority)

    def namesakes(self, app: Key) -> list[Key]:
        """Return the consuming apps of the same id in other namespaces that share a broker with the app's."""
        others = sorted(self._namespaces_of.get(app[1], set()) - {app[0]})
        return [(other, app[1]) for other in others if self.share_broker(app[0], other)]

    def reader_of_dead_letters(self, namespace: str) -> EventSubscription | None:
        """Return the oldest subscription of a namespace that reads dead letters."""
        return min(self._dead_letter_readers.get(namespace, {}).values(), key=seniority, default=None)

    def share_broker(self, one: str, other: str) -> bool:
        """Whether two namespaces share a broker: a type that one may read in the other travels on it."""
        return one == other or not self._reached_by(one).isdisjoint(self._reached_by(other))

    def is_neighbour(self, one: str, other: str) -> bool:
        """Return whether nothing connects two namespaces, and they share a broker account all the same."""
        return connected(self.accounts, one, other) and not self.share_broker(one, other)

    def namespaces_of(self, app_id: str) -> list[str]:
        """Return the namespaces in which an app of that id consumes something."""
        return sorted(self._namespaces_of.get(app_id, ()))

    def _reached_by(self, namespace: str) -> set[str]:
        return {namespace, *self._homes_of.get(namespace, ()), *self._homes_of.get("*", ())}

    def _index_type(self, event_type: EventType) -> frozenset[Key]:
        """Note a type's topics, name and guests; return the apps whose rights that may change."""
        for topic in _topics(event_type):
            self._types_on[topic][event_type.key] = event_type
        self._names_in[event_type.metadata.namespace][event_type.spec.type] += 1
        for invited in event_type.spec.access.namespaces:
            self._homes_of[invited][event_type.metadata.namespace] += 1
        return self._apps_on(_topics(event_type)) | self._guests(event_type)

    def _unindex_type(self, event_type: EventType) -> frozenset[Key]:
        near = self._apps_on(_topics(event_type)) | self._guests(event_type)
        for topic in _topics(event_type):
            _drop(self._types_on, topic, event_type.key)
        _less(self._names_in, event_type.metadata.namespace, event_type.spec.type)
        for invited in event_type.spec.access.namespaces:
            _less(self._homes_of, invited, event_type.metadata.namespace)
        return near

    def _guests(self, event_type: EventType) -> frozenset[Key]:
        """Return the apps of the namespaces that a type invites: whom they share a broker with depends on it."""
        invited = event_type.spec.access.namespaces
        return frozenset(app for app in self._of_app if app[0] in invited or "*" in invited) if invited else frozenset()

    def _apps_on(self, topics: Iterable[str]) -> frozenset[Key]:
        """Return the apps that use, publish or read one of the topics."""
        found: set[Key] = set()
        for topic in topics:
            found.update(app_key(each) for each in self._users_of.get(topic, {}).values())
            for event_type in self._types_on.get(topic, {}).values():
                named = self._of_type.get(type_key(event_type), {}).values()
                found.update(_producers(event_type), (app_key(each) for each in named))
        return frozenset(found)

    def _index_wish(self, subscription: EventSubscription) -> None:
        self._namespaces_of[app_key(subscription)[1]].add(app_key(subscription)[0])
        if reads_others_dead_letters(subscription):
            self._dead_letter_readers[subscription.metadata.namespace][subscription.key] = subscription
        if subscription.spec.is_wildcard or is_dead_letters(subscription):
            self._wildcards[subscription.key] = subscription
        else:
            self._of_type[wanted_type(subscription)][subscription.key] = subscription

    def _apps_near(self, event_type: Key) -> frozenset[Key]:
        named = self._of_type.get(event_type, {}).values()
        return frozenset(app_key(each) for each in (*named, *self._wildcards.values()))

    def _apps_around(self, subscription: EventSubscription, *, dead_letters_differ: bool) -> frozenset[Key]:
        """Return the subscription's app, its rivals for a command, and who reads the dead letters of its app."""
        near = frozenset({app_key(subscription)}) | self._apps_on(_named_topics(subscription))
        if reads_others_dead_letters(subscription):
            readers = self._dead_letter_readers.get(subscription.metadata.namespace, {}).values()
            near |= frozenset(app_key(each) for each in readers)
        event_type = self.type(wanted_type(subscription))
        if event_type and event_type.spec.intent == "Command":
            near |= self._apps_near(type_key(event_type))
        if dead_letters_differ:
            near |= frozenset(self.namesakes(app_key(subscription)))
            near |= frozenset(app_key(each) for each in self._wildcards.values())
        return near


def seniority(resource: Resource[Any]) -> tuple[str, Key]:
    """Sort key: the older resource first (where a cluster tells), then by name. The senior one wins a dispute."""
    return resource.metadata.creation_timestamp, resource.key


def type_key(event_type: EventType) -> Key:
    """Namespace and business name of a type."""
    return event_type.metadata.namespace, event_type.spec.type


def app_key(subscription: EventSubscription) -> Key:
    """Namespace and id of the app that reads."""
    return subscription.metadata.namespace, subscription.spec.consumer.app_id


def wanted_type(subscription: EventSubscription) -> Key:
    """Namespace and business name (or pattern) that a subscription asks for."""
    ref = subscription.spec.event_type_ref
    return ref.namespace or subscription.metadata.namespace, ref.name


def fold(topic: str) -> str:
    """Return what two topics have in common that a broker, or the name of a stream, may not keep apart."""
    return topic.lower().replace("_", ".")


def covers(pattern: str, name: str) -> bool:
    """Whether a type's name is what a subscription asks for: the name itself, `*`, or `<domain>.*`."""
    return name.startswith(pattern[:-1]) if pattern == "*" or pattern.endswith(".*") else name == pattern


def is_dead_letters(subscription: EventSubscription) -> bool:
    """Whether the subscription reads dead letters rather than events."""
    return subscription.spec.event_type_ref.name.startswith("deadletter.")


def reads_others_dead_letters(subscription: EventSubscription) -> bool:
    """Whether the subscription reads dead letters of other apps, and not only those of its own."""
    own = f"deadletter.{subscription.spec.consumer.app_id}"
    return is_dead_letters(subscription) and subscription.spec.event_type_ref.name != own


def _drop(index: dict[At, dict[Key, Any]], at: At, key: Key) -> None:
    """Take an entry out of an index; a group that becomes empty goes too."""
    group = index.get(at)
    if group is not None:
        group.pop(key, None)
        if not group:
            del index[at]


def _less(index: dict[str, Counter[str]], at: str, name: str) -> None:
    """Count one less, and forget what is there no more."""
    index[at][name] -= 1
    index[at] += Counter()
    if not index[at]:
        del index[at]


def _topics(event_type: EventType) -> list[str]:
    return list(dict.fromkeys(fold(event_type.spec.topic(each)) for each in event_type.spec.versions))


def _named_topics(subscription: EventSubscription) -> list[str]:
    named = (subscription.spec.delivery.dead_letter.topic, subscription.spec.source.topic)
    return list(dict.fromkeys(fold(each) for each in named if each))


def _producers(event_type: EventType) -> frozenset[Key]:
    return frozenset((event_type.metadata.namespace, app) for app in event_type.spec.producers)
