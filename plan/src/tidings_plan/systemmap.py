"""Build the system map shown in the console: types, their consumers and deprecated versions.

The map is self-contained, so that viewers need neither the contracts nor the plan core. On a cluster, the operator
keeps one for each namespace in a ConfigMap. `tidings render -o map` prints it, `tidings up` writes it, and `${map}` in
`tidings.yaml` refers to the file.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from tidings.consume.policy import SubscriptionPolicy
from tidings_plan.channels import channel_of
from tidings_plan.model import AppPlan, Plan
from tidings_plan.resources.eventtype import EventType, Version
from tidings_plan.resources.inventory import Inventory

JsonObject = dict[str, Any]


def system_map(inventory: Inventory, planned: Plan) -> JsonObject:
    """Build the map: `types`, `subscriptions`, and `deprecated` versions with the subscriptions that still name them.

    Subscriptions with errors are not planned and therefore not included. Wildcard subscriptions are marked (`pattern`):
    they do not block the removal of a deprecated version.

    Args:
        inventory: All resources.
        planned: The plan of the inventory.

    """
    # An archive serves one namespace: with a single one, app ids need not include it.
    is_alone = len({app.namespace for app in planned.apps.values()}) == 1
    subscriptions = [
        subscription if is_alone else {**subscription, "app": key}
        for key, app in planned.apps.items()
        for subscription in map_subscriptions(app, inventory)
    ]
    return assemble_map(inventory.types.values(), subscriptions)


def assemble_map(types: Iterable[EventType], subscriptions: Sequence[JsonObject]) -> JsonObject:
    """Build a map of these types and of the subscriptions that `map_subscriptions` has yielded."""
    types = sorted(types, key=lambda event_type: (event_type.spec.type, event_type.key))
    return {
        "types": [_type(event_type) for event_type in types],
        "subscriptions": subscriptions,
        "deprecated": [entry for kind in types for entry in _deprecated(kind, subscriptions)],
    }


def _type(event_type: EventType) -> JsonObject:
    spec = event_type.spec
    return {
        "type": spec.type,
        "intent": spec.intent,
        "description": spec.description,
        "owner": spec.owner.team,
        "contact": spec.owner.contact,
        "classification": spec.classification,
        "producers": list(spec.producers),
        "versions": [_version(event_type, version) for version in spec.versions],
    }


def _version(event_type: EventType, version: Version) -> JsonObject:
    channel = channel_of(event_type, version)
    return {"name": version.name, "state": version.state, "pubsub": channel.pubsub, "topic": channel.topic}


def map_subscriptions(planned: AppPlan, inventory: Inventory) -> Iterator[JsonObject]:
    """Yield the subscriptions of an app, except to dead letters; one entry for types by name and one for patterns."""
    reads: dict[tuple[str, bool], dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    topics: dict[tuple[str, bool], set[str]] = defaultdict(set)
    terms: dict[str, SubscriptionPolicy] = {}
    namespace = planned.namespace
    for entry in planned.policy.subscriptions:
        if entry.type != "*":
            events = inventory.subscriptions[namespace, entry.name].spec.events
            is_observed = entry.type not in {event.type for event in events}
            reads[entry.name, is_observed][entry.type].update(f"v{major}" for major in entry.versions)
            topics[entry.name, is_observed].add(entry.topic)
            terms[entry.name] = entry
    for (name, is_observed), types in reads.items():
        rate, consumer = terms[name].rate_limit, inventory.subscriptions[namespace, name].spec.consumer
        yield {
            "name": name,
            "app": planned.app,
            "owner": consumer.owner,
            "contact": consumer.contact,
            "pattern": is_observed,
            "suspended": terms[name].suspend,
            "eventsPerSecond": rate.events / rate.per if rate else None,
            "reads": {
                kind: sorted(versions, key=lambda version: int(version.removeprefix("v")))
                for kind, versions in sorted(types.items())
            },
            "topics": sorted(topics[name, is_observed]),
        }


def _deprecated(event_type: EventType, subscriptions: Sequence[JsonObject]) -> Iterator[JsonObject]:
    for version in event_type.spec.versions:
        if version.state != "Deprecated":
            continue
        ends = version.deprecation
        yield {
            "type": event_type.spec.type,
            "version": version.name,
            "effective": ends.effective.isoformat() if ends else None,
            "removal": ends.removal.isoformat() if ends else None,
            "alternative": (ends.alternative or None) if ends else None,
            "readers": [
                {"app": subscription["app"], "subscription": subscription["name"]}
                for subscription in subscriptions
                if version.name in subscription["reads"].get(event_type.spec.type, ()) and not subscription["pattern"]
            ],
        }
