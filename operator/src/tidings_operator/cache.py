"""Cache of the API server's objects, and the keys to reconcile when they change. No I/O."""

import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, TypeVar

import msgspec

from tidings_operator import accepted, children
from tidings_operator.children import Live, Name
from tidings_operator.client import Api
from tidings_operator.statuses import Observation
from tidings_operator.workqueue import Key
from tidings_plan.resources import EventSubscription, Finding, Inventory, parse_resource, selections
from tidings_plan.resources.inventory import app_key, requested_type, type_key
from tidings_plan.resources.model import Resource
from tidings_plan.resources.source_location import Origin

ObjectReference = tuple[str, str, str]
"""Kind, namespace and name."""
T = TypeVar("T", bound=Hashable)
NOWHERE = Origin()
READY = b'"status":"True","type":"Ready"'
"""Part of the encoded status of a Ready object: decoding thousands of statuses for each scrape would take too long."""
SHARED = (
    "consumer",
    "source",
    "routes",
    "delivery",
    "ordering",
    "start_from",
    "deletion_policy",
    "enforcement",
)
"""Fields of an EventSubscription's spec that many subscriptions have in common."""


def encode_status(status: Any) -> bytes:
    """Return a status as JSON that is equal for equal statuses."""
    return msgspec.json.encode(status or {}, order="deterministic")


@lru_cache(maxsize=4096)
def shared(value: T) -> T:
    """Intern a value, because most subscriptions have most of their fields in common."""
    return value


def slim(resource: Resource[Any]) -> Resource[Any]:
    """Return a resource that shares common parts with others in memory."""
    if resource.kind != "EventSubscription":
        return resource
    same = {name: shared(getattr(resource.spec, name)) for name in SHARED}
    return replace(resource, origin=NOWHERE, spec=msgspec.structs.replace(resource.spec, **same))


@dataclass(slots=True)
class Tracked:
    """The last observed state of one of our own objects; its spec is in the inventory, if it could be read."""

    uid: str
    generation: int
    version: int
    status: bytes
    """Encoded by `encode_status`."""
    findings: tuple[Finding, ...] = ()

    def decoded_status(self) -> dict[str, Any]:
        """Return the status."""
        status: dict[str, Any] = msgspec.json.decode(self.status)
        return status


Read = tuple[Resource[Any] | None, Sequence[Finding]]
"""A resource, or the reason why it could not be read."""


def _place(body: Mapping[str, Any]) -> ObjectReference:
    return body["kind"], body["metadata"]["namespace"], body["metadata"]["name"]


def _read(place: ObjectReference, body: Mapping[str, Any], read: Read | None) -> Read:
    """Return the resource to plan with: None for objects being deleted, except for replays, which must be ended."""
    if body["metadata"].get("deletionTimestamp") and place[0] != "EventReplay":
        return None, ()
    resource, findings = read or parse_resource(body)
    return slim(resource) if resource else None, findings


def live(api: Api, item: Mapping[str, Any]) -> Live:
    """Read a child from a list, where items have no kind."""
    return children.live({**item, "kind": api.kind})


@dataclass(slots=True)
class AppState:
    """State of an app beyond its subscriptions."""

    children: dict[Name, Live] = field(default_factory=dict)
    settled: dict[Name, tuple[str, str]] = field(default_factory=dict)
    """By child, the hash that was written or observed as correct, and the hash of the server's version of it."""
    observation: Observation | None = None
    on_map: bytes | None = None
    """Its subscriptions in the system map, as JSON; None before the app has been planned."""
    is_planned: bool = False
    """True if the app has been planned since this operator started; before that, `settled` is meaningless."""


class Cache:
    """All observed objects. `dirty` is called with each key to reconcile."""

    def __init__(self, dirty: Callable[[Key], None]) -> None:
        self.inventory = Inventory()
        self.objects: dict[ObjectReference, Tracked] = {}
        self.apps: defaultdict[tuple[str, str], AppState] = defaultdict(AppState)
        self.misfits: dict[tuple[str, str], dict[str, str]] = {}
        """By type with incompatible changes: its versions and the reasons."""
        self._unweighed: set[tuple[str, str]] = set()
        """Types that have changed since their compatibility was checked."""
        self.listings: set[tuple[str, str]] = set()
        """Kinds (and namespaces) that have been listed once, of those that kopf does not watch."""
        self.last_sign = time.monotonic()
        self.dirty = dirty

    def is_news(self, change: str | None, body: Mapping[str, Any]) -> bool:
        """Return True if an event has an unknown spec, which must be parsed first."""
        known, metadata = self.objects.get(_place(body)), body["metadata"]
        is_known = known and (known.uid, known.generation) == (metadata["uid"], metadata.get("generation", 0))
        return change != "DELETED" and not is_known

    def handle_event(self, change: str | None, body: Mapping[str, Any], read: Read | None = None) -> None:
        """Handle a watch event of an own object: None (listed), ADDED, MODIFIED or DELETED.

        `read` is the parsed spec, if it is available already.
        """
        self.last_sign = time.monotonic()
        metadata = body["metadata"]
        place = _place(body)
        known = self.objects.get(place)
        if change == "DELETED":
            if known and known.uid == metadata["uid"]:
                del self.objects[place]
                near = self._types_near(place)
                self._touch(place, self.inventory.remove(place[0], place[1:]), near)
                self._unweighed.discard(place[1:])
                self.misfits.pop(place[1:], None)
            return
        if known and known.uid == metadata["uid"] and known.version >= int(metadata["resourceVersion"]):
            return
        self._keep(place, known, body, read)

    def handle_write(self, place: ObjectReference, body: Mapping[str, Any]) -> None:
        """Record the server's response to a status update before the watch event arrives."""
        known = self.objects.get(place)
        version = int(body["metadata"]["resourceVersion"])
        if known and known.uid == body["metadata"]["uid"] and known.version < version:
            known.status, known.version = encode_status(body.get("status")), version
            self._unweigh(place)

    def listed(self, api: Api, namespace: str, items: Sequence[Live]) -> None:
        """Replace all children of a kind; those missing in the list have been deleted."""
        present = {(item.namespace, item.app, item.name) for item in items}
        for (space, app), state in self.apps.items():
            for name in [child_name for child_name in state.children if child_name.kind == api.kind]:
                if (not namespace or space == namespace) and (space, app, name) not in present:
                    self._lost(space, app, name)
        for item in items:
            self.child(item)
        self.listings.add((api.kind, namespace))

    def changed(self, api: Api, change: str, item: Mapping[str, Any]) -> None:
        """Handle an event about a child."""
        child = live(api, item)
        if change != "DELETED":
            self.child(child)
            return
        known = self.apps[child.namespace, child.app].children.get(child.name)
        if known and known.uid == child.uid:
            self._lost(child.namespace, child.app, child.name)

    def child(self, child: Live) -> None:
        """Update a child, unless the known state is newer."""
        state = self.apps[child.namespace, child.app]
        known = state.children.get(child.name)
        if known and known.uid == child.uid and known.version >= child.version:
            return
        state.children[child.name] = child
        if known is None or (known.content, known.hash) != (child.content, child.hash):
            self.dirty(Key("app", child.namespace, child.app))

    def reject(self, resource: Resource[Any], finding: Finding) -> bool:
        """Plan without an object as if it could not be read; return False if it has changed meanwhile."""
        place: ObjectReference = (resource.kind, *resource.key)
        tracked = self.objects.get(place)
        if tracked is None or self.inventory.subscriptions.get(resource.key) is not resource:
            return False
        tracked.findings = (finding,)
        near = self._types_near(place)
        self.dirty(Key("app", *app_key(resource)))
        self._touch(place, self.inventory.remove(resource.kind, resource.key), near)
        return True

    def observed(self, app: tuple[str, str], observation: Observation) -> None:
        """Record the subscriptions reported by an app's sidecars."""
        state = self.apps[app]
        if state.observation != observation:
            state.observation = observation
            self.dirty(Key("app", *app))

    def unsuited(self, subscription: EventSubscription) -> Iterator[Finding]:
        """Yield a warning for each version that was changed incompatibly for a subscription."""
        for selection in selections(subscription):
            this = self.inventory.type(requested_type(selection))
            if this is None:
                continue
            misfits = self.weigh(this.key) if this.key in self._unweighed else self.misfits.get(this.key, {})
            team = this.spec.owner.team
            for name in selection.events.versions:
                if name in misfits:
                    fix = f"It is still delivered. Ask {team} for {name} as it was, or read a new version."
                    at = ("versions",)
                    yield selection.finding("warning", "incompatible-schema", misfits[name], fix, at=at)

    def everything(self) -> list[Key]:
        """Return all keys."""
        return [
            *(Key("app", *app) for app in self.inventory.consuming_apps | self.apps.keys()),
            *(Key("EventType", *key) for key in self.inventory.types),
            *(Key("EventReplay", *key) for key in self.inventory.replays),
            *(Key(*place) for place, tracked in self.objects.items() if tracked.findings),
        ]

    def ready(self) -> int:
        """Return the number of EventSubscriptions whose status is Ready."""
        return sum(
            place[0] == "EventSubscription" and READY in tracked.status for place, tracked in self.objects.items()
        )

    def drop_if_empty(self, app: tuple[str, str]) -> None:
        """Remove an app without subscriptions and children."""
        if app in self.apps and not self.apps[app].children and not self.inventory.of_app(app):
            del self.apps[app]

    def _keep(self, place: ObjectReference, known: Tracked | None, body: Mapping[str, Any], read: Read | None) -> None:
        metadata, status = body["metadata"], encode_status(body.get("status"))
        version, generation = int(metadata["resourceVersion"]), metadata.get("generation", 0)
        if known and (known.uid, known.generation) == (metadata["uid"], generation):
            known.version = version
            if known.status != status:
                # Another client changed the status: write it again.
                known.status = status
                self._unweigh(place)
                self.dirty(self._key(place))
            return
        resource, findings = _read(place, body, read)
        self.objects[place] = Tracked(metadata["uid"], generation, version, status, tuple(findings))
        near = self._types_near(place)
        kind, key = place[0], place[1:]
        touched = self.inventory.put(resource) if resource else self.inventory.remove(kind, key)
        self._touch(place, touched, near)
        self._unweigh(place)

    def weigh(self, key: tuple[str, str]) -> dict[str, str]:
        """Check a type against its accepted states: return the incompatible versions and the reasons."""
        this, tracked = self.inventory.types.get(key), self.objects.get(("EventType", *key))
        return accepted.misfit_versions(this, tracked.decoded_status()) if this and tracked else {}

    def weighed(self, key: tuple[str, str], misfits: dict[str, str]) -> None:
        """Record the result of `weigh`; if it has changed, queue the type's readers."""
        self._unweighed.discard(key)
        before = self.misfits.pop(key, {})
        if misfits:
            self.misfits[key] = misfits
        this = self.inventory.types.get(key)
        for consumer in self.inventory.consumers(this) if this and misfits != before else ():
            self.dirty(Key("app", *app_key(consumer)))

    def _unweigh(self, place: ObjectReference) -> None:
        """Mark a type for a new compatibility check."""
        if place[0] == "EventType" and place[1:] in self.inventory.types:
            self._unweighed.add(place[1:])
            self.dirty(Key(*place))

    def _touch(self, place: ObjectReference, apps: Iterable[tuple[str, str]], types: set[tuple[str, str]]) -> None:
        for app in apps:
            if app in self.apps or self.inventory.of_app(app):
                self.dirty(Key("app", *app))
        for key in types | self._types_near(place):
            self.dirty(Key("EventType", *key))
        if place[0] == "EventSubscription":
            for key, replay in self.inventory.replays.items():
                if replay.spec.target.subscription == place[2]:
                    self.dirty(Key("EventReplay", *key))
        self.dirty(self._key(place))

    def _key(self, place: ObjectReference) -> Key:
        """Return the key that reconciles an object: a subscription's app, otherwise the object itself."""
        subscription = self.inventory.subscriptions.get(place[1:]) if place[0] == "EventSubscription" else None
        return Key("app", *app_key(subscription)) if subscription else Key(*place)

    def _types_near(self, place: ObjectReference) -> set[tuple[str, str]]:
        """Return the types whose status depends on an object, and competitors for a type's name."""
        if place[0] == "EventType":
            this = self.inventory.types.get(place[1:])
            return {event_type.key for event_type in self.inventory.claims(type_key(this))} if this else set()
        subscription = self.inventory.subscriptions.get(place[1:]) if place[0] == "EventSubscription" else None
        return {event_type.key for event_type in self._read_by(subscription)} if subscription else set()

    def _read_by(self, subscription: EventSubscription) -> Iterator[Any]:
        for selection in selections(subscription):
            namespace, name = requested_type(selection)
            if selection.events.pattern:
                yield from self.inventory.matching_types(namespace, name)
            else:
                yield from self.inventory.claims((namespace, name))

    def _lost(self, namespace: str, app: str, name: Name) -> None:
        if self.apps[namespace, app].children.pop(name, None):
            self.dirty(Key("app", namespace, app))
