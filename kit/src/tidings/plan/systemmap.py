"""The system as a document that a person's page is drawn from: types, who reads them, and what is on its way out.

Whoever shows it needs neither the contracts nor the plan core: `tidings render -o map` prints it, `tidings up` writes
it, and `${map}` in `tidings.yaml` names the file.
"""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from tidings.plan.channels import channel_of
from tidings.plan.model import Plan
from tidings.resources.eventtype import EventType, Version
from tidings.resources.inventory import Inventory

JsonObject = dict[str, Any]


def system_map(inventory: Inventory, planned: Plan) -> JsonObject:
    """Draw the map: `types`, `subscriptions`, and `deprecated` versions with those who still read them by name.

    Only what is planned is on it: a subscription with an error reads nothing. One that reads by pattern is marked: it
    reads a deprecated version as long as there is one and holds nobody up.

    Args:
        inventory: What there is.
        planned: Its plan.

    """
    types = sorted(inventory.types.values(), key=lambda each: (each.spec.type, each.key))
    subscriptions = [each for app in planned.apps for each in _subscriptions(app, inventory, planned)]
    return {
        "types": [_type(each) for each in types],
        "subscriptions": subscriptions,
        "deprecated": [each for kind in types for each in _deprecated(kind, subscriptions)],
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
        "versions": [_version(event_type, each) for each in spec.versions],
    }


def _version(event_type: EventType, version: Version) -> JsonObject:
    channel = channel_of(event_type, version)
    return {"name": version.name, "state": version.state, "pubsub": channel.pubsub, "topic": channel.topic}


def _subscriptions(app: str, inventory: Inventory, planned: Plan) -> Iterator[JsonObject]:
    """One entry for each subscription of an app that reads events; those that read dead letters stand aside."""
    reads: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    terms: dict[str, JsonObject] = {}
    for entry in planned.apps[app].policy["subscriptions"]:
        if entry["type"] != "*":
            reads[entry["name"]][entry["type"]].update(f"v{major}" for major in entry["versions"])
            terms[entry["name"]] = entry
    namespace = planned.apps[app].namespace
    for name, types in reads.items():
        rate = terms[name]["rateLimit"]
        yield {
            "name": name,
            "app": app,
            "pattern": inventory.subscriptions[namespace, name].spec.is_wildcard,
            "suspended": terms[name]["suspend"],
            "eventsPerSecond": rate["events"] / rate["per"] if rate else None,
            "reads": {kind: sorted(versions, key=_major) for kind, versions in sorted(types.items())},
        }


def _deprecated(event_type: EventType, subscriptions: list[JsonObject]) -> Iterator[JsonObject]:
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
                {"app": each["app"], "subscription": each["name"]}
                for each in subscriptions
                if version.name in each["reads"].get(event_type.spec.type, ()) and not each["pattern"]
            ],
        }


def _major(version: str) -> int:
    return int(version.removeprefix("v"))
