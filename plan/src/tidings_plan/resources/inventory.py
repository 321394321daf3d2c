"""In-memory store of all resources, indexed so that a change costs in proportion to the apps it affects."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from tidings.conventions import DEAD_LETTER_PREFIX, dead_letter_topic
from tidings_plan.resources.accounts import connected
from tidings_plan.resources.brokers import Delivery
from tidings_plan.resources.eventtype import EventType
from tidings_plan.resources.findings import Finding
from tidings_plan.resources.model import Resource
from tidings_plan.resources.replay import EventReplay
from tidings_plan.resources.subscription import EventSubscription, Selection, selections

At = TypeVar("At")
Member = TypeVar("Member")
Key = tuple[str, str]
"""Namespace and name (of a resource), namespace and type (of an event type), namespace and app id."""
_NO_APPS: frozenset[Key] = frozenset()


class Inventory:
    """All resources by kind and key. `put` and `remove` return the apps that must be planned again."""

    def __init__(self, resources: Iterable[Resource[Any]] = (), findings: Iterable[Finding] = ()) -> None:
        self.types: dict[Key, EventType] = {}
        self.subscriptions: dict[Key, EventSubscription] = {}
        self.replays: dict[Key, EventReplay] = {}
        self.findings: list[Finding] = list(findings)
        self._faulty = frozenset(finding.resource for finding in self.findings if finding.severity == "error")
        self._deliveries: dict[str, dict[str, Delivery]] = defaultdict(dict)
        """By namespace (empty: in files) and pub/sub component."""
        self.accounts: dict[str, frozenset[str]] = {}
        """By namespace, digests of the broker accounts that its components use."""
        self._claims: dict[Key, dict[Key, EventType]] = defaultdict(dict)
        self._of_app: dict[Key, dict[Key, EventSubscription]] = defaultdict(dict)
        self._of_type: dict[Key, dict[Selection, Selection]] = defaultdict(dict)
        self._produced_by: dict[Key, dict[Key, EventType]] = defaultdict(dict)
        self._wildcards: dict[Selection, Selection] = {}
        """Selections by a pattern, or of dead letters."""
        self._types_on: dict[str, dict[Key, EventType]] = defaultdict(dict)
        self._users_of: dict[str, dict[Key, EventSubscription]] = defaultdict(dict)
        self._namespaces_of: dict[str, set[str]] = defaultdict(set)
        self._names_in: dict[str, Counter[str]] = defaultdict(Counter)
        self._dead_letter_readers: dict[str, dict[Key, EventSubscription]] = defaultdict(dict)
        self._homes_of: dict[str, Counter[str]] = defaultdict(Counter)
        """By allowed namespace (or `*`), the namespaces whose types it may read, with the number of such types."""
        for resource in resources:
            self.put(resource)

    def put(self, resource: Resource[Any]) -> frozenset[Key]:
        """Add or replace a resource and return the apps whose plan may change."""
        return self._with_sharers(self._put(resource))

    def _put(self, resource: Resource[Any]) -> frozenset[Key]:
        touched = self._remove(resource.kind, resource.key)
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
            self._namespaces_of[app_key(resource)[1]].add(app_key(resource)[0])
            if reads_foreign_dead_letters(resource):
                self._dead_letter_readers[resource.metadata.namespace][resource.key] = resource
            for selection in selections(resource):
                if selection.events.pattern or is_dead_letters(selection):
                    self._wildcards[selection] = selection
                else:
                    self._of_type[requested_type(selection)][selection] = selection
            for topic in _named_topics(resource):
                self._users_of[topic][resource.key] = resource
            return touched | self._apps_around(resource, dead_letters_differ=is_new)
        self.replays[resource.key] = resource
        return touched

    def remove(self, kind: str, key: Key) -> frozenset[Key]:
        """Remove a resource, if it exists, and return the apps whose plan may change."""
        return self._with_sharers(self._remove(kind, key))

    def _remove(self, kind: str, key: Key) -> frozenset[Key]:
        if kind == "EventType" and (event_type := self.types.pop(key, None)):
            _drop(self._claims, type_key(event_type), key)
            for app in _producers(event_type):
                _drop(self._produced_by, app, key)
            return self._unindex_type(event_type) | self._apps_near(type_key(event_type)) | _producers(event_type)
        if kind == "EventSubscription" and (subscription := self.subscriptions.pop(key, None)):
            _drop(self._of_app, app_key(subscription), key)
            for selection in selections(subscription):
                _drop(self._of_type, requested_type(selection), selection)
                self._wildcards.pop(selection, None)
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
        """Return True if loading the resource produced an error, such as a missing schema file."""
        return resource.ref in self._faulty

    @property
    def apps(self) -> frozenset[Key]:
        """All apps that consume or publish events."""
        return self.consuming_apps | self._produced_by.keys()

    @property
    def consuming_apps(self) -> frozenset[Key]:
        """All apps with a subscription."""
        return frozenset(self._of_app)

    def delivery(self, namespace: str, component: str) -> Delivery:
        """Return how a pub/sub component delivers, as far as that is known."""
        return self._deliveries[""].get(component) or self._deliveries.get(namespace, {}).get(component, Delivery())

    def set_delivery(self, namespace: str, component: str, delivery: Delivery) -> None:
        """Note how a component delivers: in a namespace of a cluster, or, with an empty one, in files."""
        self._deliveries[namespace].pop(component, None)
        if delivery != Delivery():  # nothing is known of a component that is gone
            self._deliveries[namespace][component] = delivery

    def parallel(self, namespace: str, component: str) -> list[str]:
        """Return the components that share the consumer of a component, itself first.

        They are called `pubsub`, `pubsub-1`, `pubsub-2` … and are equal in all settings.
        """
        parts = [component]
        settings = self.delivery(namespace, component).settings
        while settings and self.delivery(namespace, following := f"{component}-{len(parts)}").settings == settings:
            parts.append(following)
        return parts

    def _with_sharers(self, touched: frozenset[Key]) -> frozenset[Key]:
        """Add all apps of the namespaces in which apps may share consumers: each may then concern any other."""
        known = self._deliveries
        namespaces = {
            namespace
            for namespace in {namespace for namespace, _ in touched}
            for delivery in (*known[""].values(), *known.get(namespace, {}).values())
            if delivery.consumer and not delivery.consumer.is_apart
        }
        return touched.union(app for app in self._of_app if app[0] in namespaces) if namespaces else touched

    def type(self, key: Key) -> EventType | None:
        """Return the event type with that namespace and business name; the oldest if several declare it."""
        claims = self._claims.get(key)
        return min(claims.values(), key=seniority) if claims else None

    def claims(self, key: Key) -> list[EventType]:
        """Return all EventTypes that declare that name, oldest first. More than one is an error."""
        return sorted(self._claims.get(key, {}).values(), key=seniority)

    def type_names(self, namespace: str) -> Iterator[str]:
        """Yield the business names of a namespace's types."""
        return iter(self._names_in.get(namespace, ()))

    def matching_types(self, namespace: str, pattern: str) -> list[EventType]:
        """Return the types of a namespace whose name matches a pattern such as `orders.*`, sorted by name."""
        names = [name for name in self.type_names(namespace) if covers(pattern, name)]
        return [kind for name in sorted(names) if (kind := self.type((namespace, name)))]

    def of_app(self, app: Key) -> list[EventSubscription]:
        """Return an app's subscriptions, oldest first."""
        return sorted(self._of_app.get(app, {}).values(), key=seniority)

    def consumers(self, event_type: EventType) -> list[Selection]:
        """Return the selections that name the type (no patterns) and may read it, oldest first."""
        named = self._of_type.get(type_key(event_type), {})
        return sorted((selection for selection in named if may_read(selection, event_type)), key=seniority)

    def observers(self, event_type: EventType) -> list[Selection]:
        """Return the selections whose pattern matches the type, and which may read it."""
        return [
            selection
            for selection in self._wildcards
            if may_read(selection, event_type)
            and requested_type(selection)[0] == event_type.metadata.namespace
            and covers(requested_type(selection)[1], event_type.spec.type)
        ]

    def wildcards(self) -> list[Selection]:
        """Return all selections by a pattern or of dead letters, oldest first."""
        return sorted(self._wildcards, key=seniority)

    def produced_by(self, app: Key) -> list[EventType]:
        """Return the types that list an app as a producer, oldest first."""
        return sorted(self._produced_by.get(app, {}).values(), key=seniority)

    def types_on(self, topic: str) -> list[EventType]:
        """Return the types with a channel on the topic, in any namespace, oldest first."""
        return sorted(self._types_on.get(fold(topic), {}).values(), key=seniority)

    def topic_users(self, topic: str) -> list[EventSubscription]:
        """Return the subscriptions that name a topic as dead-letter topic or source, oldest first."""
        return sorted(self._users_of.get(fold(topic), {}).values(), key=seniority)

    def namesakes(self, app: Key) -> list[Key]:
        """Return the consuming apps with the same id in other namespaces that share the app's broker."""
        namespaces = sorted(self._namespaces_of.get(app[1], set()) - {app[0]})
        return [(other, app[1]) for other in namespaces if self.share_broker(app[0], other)]

    def reader_of_dead_letters(self, namespace: str) -> EventSubscription | None:
        """Return the oldest subscription in a namespace to other apps' dead letters, or None."""
        return min(self._dead_letter_readers.get(namespace, {}).values(), key=seniority, default=None)

    def share_broker(self, one: str, other: str) -> bool:
        """Return True if two namespaces share a broker, that is, if `access` of some type connects them."""
        return one == other or not self._reached_by(one).isdisjoint(self._reached_by(other))

    def is_neighbour(self, one: str, other: str) -> bool:
        """Return True if two namespaces share a broker account although no type's access connects them."""
        return connected(self.accounts, one, other) and not self.share_broker(one, other)

    def namespaces_of(self, app_id: str) -> list[str]:
        """Return the namespaces with a consuming app of that id."""
        return sorted(self._namespaces_of.get(app_id, ()))

    def _reached_by(self, namespace: str) -> set[str]:
        return {namespace, *self._homes_of.get(namespace, ()), *self._homes_of.get("*", ())}

    def _index_type(self, event_type: EventType) -> frozenset[Key]:
        """Index a type's topics, name and access; return the apps whose permissions may change."""
        for topic in _topics(event_type):
            self._types_on[topic][event_type.key] = event_type
        self._names_in[event_type.metadata.namespace][event_type.spec.type] += 1
        touched = self._apps_on(_topics(event_type)) | self._connected_by(event_type)
        for invited in event_type.spec.access.namespaces:
            self._homes_of[invited][event_type.metadata.namespace] += 1
        return touched

    def _unindex_type(self, event_type: EventType) -> frozenset[Key]:
        near = self._apps_on(_topics(event_type))
        for topic in _topics(event_type):
            _drop(self._types_on, topic, event_type.key)
        _decrement(self._names_in, event_type.metadata.namespace, event_type.spec.type)
        for invited in event_type.spec.access.namespaces:
            _decrement(self._homes_of, invited, event_type.metadata.namespace)
        return near | self._connected_by(event_type)

    def _connected_by(self, event_type: EventType) -> frozenset[Key]:
        """Return the apps of the namespaces that share a broker because of this type, which is not indexed now.

        Those that other types of the same namespace invite share it with the ones that only this type invites.
        """
        home = event_type.metadata.namespace
        before = {name for name, homes in self._homes_of.items() if home in homes}
        after = before.union(event_type.spec.access.namespaces)
        return (
            frozenset(app for app in self.apps if {app[0], "*"} & after or app[0] == home)
            if after > before
            else _NO_APPS
        )

    def _apps_on(self, topics: Iterable[str]) -> frozenset[Key]:
        """Return the apps that publish or consume one of the topics."""
        apps: set[Key] = set()
        for topic in topics:
            apps.update(app_key(subscription) for subscription in self._users_of.get(topic, {}).values())
            for event_type in self._types_on.get(topic, {}).values():
                named = self._of_type.get(type_key(event_type), {}).values()
                apps.update(_producers(event_type), (app_key(subscription) for subscription in named))
                apps.update(map(app_key, self.observers(event_type)))
        return frozenset(apps)

    def _apps_near(self, event_type: Key) -> frozenset[Key]:
        """Return the apps that consume or produce a type, also those of another resource that declares it."""
        named = self._of_type.get(event_type, {}).values()
        producers = (app for claim in self._claims.get(event_type, {}).values() for app in _producers(claim))
        return frozenset([*(app_key(subscription) for subscription in (*named, *self._wildcards)), *producers])

    def _apps_around(self, subscription: EventSubscription, *, dead_letters_differ: bool) -> frozenset[Key]:
        """Return the affected apps: its own, competing consumers of a command, and dead-letter readers."""
        near = frozenset({app_key(subscription), *self.namesakes(app_key(subscription))})
        near |= self._apps_on(_named_topics(subscription))
        if reads_foreign_dead_letters(subscription):
            readers = self._dead_letter_readers.get(subscription.metadata.namespace, {}).values()
            near |= frozenset(app_key(reader) for reader in readers)
        for selection in selections(subscription):
            event_type = self.type(requested_type(selection))
            if event_type and event_type.spec.intent == "Command":
                near |= self._apps_near(type_key(event_type))
        if dead_letters_differ:
            near |= frozenset(map(app_key, self._wildcards))
        return near


def seniority(resource: Resource[Any] | Selection) -> tuple[str, Key]:
    """Return the sort key for precedence: older resources first (files have no age), then by name.

    Of two conflicting resources, the senior one stays valid.
    """
    metadata = resource.metadata
    return metadata.creation_timestamp, (metadata.namespace, metadata.name)


def type_key(event_type: EventType) -> Key:
    """Return the namespace and business name of a type."""
    return event_type.metadata.namespace, event_type.spec.type


def app_key(subscription: EventSubscription | Selection) -> Key:
    """Return the namespace and id of the consuming app."""
    return subscription.metadata.namespace, subscription.spec.consumer.app_id


def requested_type(selection: Selection) -> Key:
    """Return the namespace and the business name or pattern that a selection requests."""
    return selection.events.namespace or selection.metadata.namespace, selection.events.name


def may_read(selection: Selection, event_type: EventType) -> bool:
    """Return True if a type's access includes the namespace of a selection."""
    own, allowed = selection.metadata.namespace, event_type.spec.access.namespaces
    return own == event_type.metadata.namespace or own in allowed or "*" in allowed


def fold(topic: str) -> str:
    """Normalise a topic: topics with equal results may collide on a broker or in a stream name."""
    return topic.lower().replace("_", ".")


def covers(pattern: str, name: str) -> bool:
    """Return True if a type's name matches a subscription's name or pattern (`*` or `<domain>.*`)."""
    return name.startswith(pattern[:-1]) if pattern == "*" or pattern.endswith(".*") else name == pattern


def is_dead_letters(selection: Selection) -> bool:
    """Return True if the selection consumes dead letters."""
    return selection.events.name.startswith(DEAD_LETTER_PREFIX)


def reads_foreign_dead_letters(subscription: EventSubscription) -> bool:
    """Return True if the subscription consumes dead letters of other apps."""
    own = dead_letter_topic(subscription.spec.consumer.app_id)
    return any(is_dead_letters(selection) and selection.events.name != own for selection in selections(subscription))


def _drop(index: dict[At, dict[Member, Any]], at: At, key: Member) -> None:
    """Remove an entry from an index, and its group once it is empty."""
    group = index.get(at)
    if group is not None:
        group.pop(key, None)
        if not group:
            del index[at]


def _decrement(index: dict[str, Counter[str]], at: str, name: str) -> None:
    """Decrement a count and remove entries that reach zero."""
    index[at][name] -= 1
    index[at] += Counter()
    if not index[at]:
        del index[at]


def _topics(event_type: EventType) -> list[str]:
    return list(dict.fromkeys(fold(event_type.spec.topic(version)) for version in event_type.spec.versions))


def _named_topics(subscription: EventSubscription) -> list[str]:
    named = (subscription.spec.delivery.dead_letter.topic, subscription.spec.source.topic)
    return list(dict.fromkeys(fold(topic) for topic in named if topic))


def _producers(event_type: EventType) -> frozenset[Key]:
    return frozenset((event_type.metadata.namespace, app) for app in event_type.spec.producers)
