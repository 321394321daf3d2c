"""Channels are topics, operations what each app sends and receives there, messages the versions of types."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from tidings.conventions import replay_topic
from tidings.messages.envelope import CONTENT_TYPE
from tidings_plan.asyncapi import messages, schemas
from tidings_plan.channels import channel_of
from tidings_plan.model import AppPlan, Plan
from tidings_plan.resources.eventtype import EventType, Version
from tidings_plan.resources.inventory import Inventory, type_key

VERSION = "3.0.0"
Place = tuple[str, str]
"""A pub/sub component and a topic."""
_Typed = dict[str, tuple[EventType, Version]]


def document(inventory: Inventory, planned: Plan, *, title: str, version: str, app: str = "") -> dict[str, Any]:
    """Describe the whole system, or one app: the channels that it uses, and what it does with them.

    Args:
        inventory: The EventTypes.
        planned: The plan of the same inventory.
        title: What the system is called.
        version: The document's own version.
        app: Only this app, as the plan spells it; it must be planned.

    """
    apps = {app: planned.apps[app]} if app else planned.apps
    # By message; of two types that claim one name, the senior.
    typed: _Typed = {
        f"{resource.spec.type}.{version.name}": (resource, version)
        for resource in inventory.types.values()
        if inventory.type(type_key(resource)) is resource
        for version in resource.spec.versions
        if version.is_published
    }
    carried = _carried(planned, typed)
    topics_of = [one for planned_app in apps.values() for one in (planned_app.reads, planned_app.publishes)]
    by_component = topics_of if app else [planned.channels]
    places = {(pubsub, topic) for one in by_component for pubsub, topics in one.items() for topic in topics}
    counts = Counter(topic for _, topic in places)
    # Where two components have a topic of the same name, both are part of the channel's name.
    names = {(pubsub, topic): topic if counts[topic] == 1 else f"{topic}-{pubsub}" for pubsub, topic in places}
    used = {name for place in places for name in carried[place]}
    return {
        "asyncapi": VERSION,
        "info": {
            "title": title,
            "version": version,
            "tags": _domains(typed[name][0] for name in used if name in typed),
        },
        "defaultContentType": CONTENT_TYPE,
        "channels": {names[place]: _channel(place, carried[place], typed) for place in sorted(places)},
        "operations": _operations(apps, names, carried),
        "components": _components(sorted(used), typed),
    }


def _components(used: list[str], typed: _Typed) -> dict[str, Any]:
    """Return the messages of these names, with what they refer to."""
    common, schemas_of = messages.common_messages(), messages.common_schemas()
    for name in used:
        if name in typed and isinstance(schema := typed[name][1].schema, Mapping):
            schemas_of |= schemas.components(name, schema)
    return {
        "messages": {
            schemas.component_name(name): messages.message(*typed[name]) if name in typed else common[name]
            for name in used
        },
        "messageTraits": {messages.TRAIT: messages.trait()},
        "schemas": schemas_of,
    }


def _carried(planned: Plan, typed: _Typed) -> dict[Place, list[str]]:
    """Return the names of the messages on each topic."""
    result: dict[Place, set[str]] = defaultdict(set)
    for name, (event_type, version) in typed.items():
        channel = channel_of(event_type, version)
        result[channel.pubsub, channel.topic].add(name)
    replays = {replay_topic(app.app) for app in planned.apps.values()}
    for app in planned.apps.values():
        for entry in app.policy.subscriptions:  # a subscription may read a type from a topic of its own
            labels = {f"{entry.type}.v{major}" for major in entry.versions}
            result[entry.pubsub, entry.topic] |= labels & typed.keys()
        for pubsub, topics in (*app.reads.items(), *app.publishes.items()):
            for topic in topics:
                if not result[pubsub, topic]:
                    result[pubsub, topic].add(messages.REPLAYED if topic in replays else messages.DEAD_LETTER)
    return {place: sorted(names) for place, names in result.items()}


def _channel(place: Place, names: list[str], typed: _Typed) -> dict[str, Any]:
    pubsub, topic = place
    types = [typed[name][0] for name in names if name in typed]
    described = {"description": " ".join(dict.fromkeys(resource.spec.description for resource in types)).strip()}
    return {
        "address": topic,
        **(described if described["description"] else {}),
        "messages": {
            schemas.component_name(name): {"$ref": f"#/components/messages/{schemas.component_name(name)}"}
            for name in names
        },
        "tags": _domains(types),
        "x-dapr-pubsub": pubsub,
        **({"x-owner": {"team": types[0].spec.owner.team, "contact": types[0].spec.owner.contact}} if types else {}),
    }


def _operations(
    apps: Mapping[str, AppPlan], names: Mapping[Place, str], carried: Mapping[Place, list[str]]
) -> dict[str, Any]:
    operations: dict[str, Any] = {}
    for app, planned in apps.items():
        for action, topics_of in (("send", planned.publishes), ("receive", planned.reads)):
            for place in ((pubsub, topic) for pubsub, topics in topics_of.items() for topic in topics):
                at = f"#/channels/{names[place]}"
                entries = [
                    {"name": entry.name, "path": entry.path}
                    for entry in planned.policy.subscriptions
                    if action == "receive" and (entry.pubsub, entry.topic) == place
                ]
                operations[schemas.component_name(f"{app}.{action}.{names[place]}")] = {
                    "action": action,
                    "channel": {"$ref": at},
                    "summary": f"{app} {action}s {place[1]}",
                    "tags": [{"name": app}],
                    "messages": [{"$ref": f"{at}/messages/{schemas.component_name(name)}"} for name in carried[place]],
                    **({"x-subscriptions": entries} if entries else {}),
                }
    return operations


def _domains(types: Iterable[EventType]) -> list[dict[str, str]]:
    return [{"name": name} for name in sorted({resource.spec.type.partition(".")[0] for resource in types})]
