"""The rules of an EventType by itself and among its readers."""

from collections.abc import Iterator
from datetime import date
from functools import lru_cache

from tidings.plan import jsonschema, naming, neighbours, ownership
from tidings.plan.channels import channel_of
from tidings.plan.guarding import judged
from tidings.resources.eventtype import EventType
from tidings.resources.findings import Finding, has_errors
from tidings.resources.inventory import Inventory, fold, type_key


def plan_type(event_type: EventType, inventory: Inventory, today: date) -> list[Finding]:
    """Return what there is to say about a type."""

    def judge() -> tuple[None, list[Finding]]:
        findings = [*_alone(event_type, today), *_claimed_twice(event_type, inventory)]
        findings += [*ownership.of_type(event_type, inventory), *neighbours.of_type(event_type, inventory)]
        return None, [*findings, *_readers(event_type, inventory)]

    return judged(event_type, judge, None)[1]


def grants(event_type: EventType, inventory: Inventory) -> bool:
    """Whether a type gives its producers and readers any right: one with an error gives none."""
    return not (
        inventory.is_faulty(event_type)
        or _is_wrong(event_type)
        or any(_claimed_twice(event_type, inventory))
        or any(ownership.of_type(event_type, inventory))
    )


@lru_cache(maxsize=4096)
def _is_wrong(event_type: EventType) -> bool:
    """Whether a type has an error of its own, which depends on no day and on nothing beside it."""
    return has_errors(judged(event_type, lambda: (None, _alone(event_type, date.min)), None)[1])


def _alone(event_type: EventType, today: date) -> list[Finding]:
    return [*naming.check(event_type), *_versions(event_type, today), *_topics(event_type)]


def _claimed_twice(event_type: EventType, inventory: Inventory) -> Iterator[Finding]:
    first = inventory.claims(type_key(event_type))[0]
    if first is not event_type:
        message = f"{first.ref} already declares {event_type.spec.type}; this one is not used"
        at = ("spec", "type")
        yield event_type.finding("error", "doubled-type", message, "Delete one, or rename it.", at=at)


def _versions(event_type: EventType, today: date) -> Iterator[Finding]:
    seen: set[str] = set()
    for place, version in enumerate(event_type.spec.versions):
        at = ("spec", "versions", place)
        if version.name in seen:
            message = f"Version {version.name} stands twice"
            yield event_type.finding("error", "doubled-version", message, "Delete or rename one.", at=(*at, "name"))
        seen.add(version.name)
        if version.state == "Deprecated" and version.deprecation is None:
            message = f"{version.name} is deprecated without a date: its readers cannot plan"
            mend = "Add deprecation: {effective: 2026-01-01, removal: 2026-07-01, alternative: v2}."
            yield event_type.finding("warning", "deprecation-missing", message, mend, at=(*at, "state"))
        if version.deprecation:
            yield from _deprecation(event_type, place, today)
        yield from _schema(event_type, place)
        if version.schema is None and version.state != "Draft":
            message = f"{version.name} has no schema: nothing tells its readers what data holds"
            mend = f"Add schema: schemas/{event_type.spec.type}.{version.name}.json."
            yield event_type.finding("warning", "schema-missing", message, mend, at=at)


def _schema(event_type: EventType, place: int) -> Iterator[Finding]:
    version = event_type.spec.versions[place]
    if isinstance(version.schema, dict):  # a text is the name of a file that was not read; that is said elsewhere
        for fault in jsonschema.faults(version.schema):
            message = f"The schema of {version.name} {fault}"
            at = ("spec", "versions", place, "schema", *fault.path)
            yield event_type.finding("error", "malformed-schema", message, fault.mend, at=at)


def _deprecation(event_type: EventType, place: int, today: date) -> Iterator[Finding]:
    version = event_type.spec.versions[place]
    at = ("spec", "versions", place, "deprecation")
    ends = version.deprecation
    if ends is None:
        return
    if ends.removal <= ends.effective:
        message = f"{version.name} is removed on {ends.removal}, before it is deprecated on {ends.effective}"
        yield event_type.finding("error", "deprecation-dates", message, "Correct the dates.", at=(*at, "removal"))
    if ends.alternative and ends.alternative not in {each.name for each in event_type.spec.versions}:
        message = f"The alternative {ends.alternative} is no version of {event_type.spec.type}"
        mend = "Name a version of this type, such as v2."
        yield event_type.finding("error", "deprecation-alternative", message, mend, at=(*at, "alternative"))
    if version.state == "Active" and ends.effective <= today:
        message = f"{version.name} is Active, but deprecated since {ends.effective}"
        mend = "Write state: Deprecated."
        yield event_type.finding("warning", "deprecation-due", message, mend, at=("spec", "versions", place, "state"))


def _topics(event_type: EventType) -> Iterator[Finding]:
    seen: dict[tuple[str, str], str] = {}
    for version in event_type.spec.versions:
        channel = channel_of(event_type, version)
        other = seen.setdefault((channel.pubsub, fold(channel.topic)), version.name)
        if other != version.name:
            message = f"{other} and {version.name} share the topic {channel.topic}: their readers get both"
            mend = "Let spec.channel.topic contain {version}."
            at = ("spec", "channel", "topic")
            yield event_type.finding("error", "shared-topic", message, mend, at=at)


def _readers(event_type: EventType, inventory: Inventory) -> Iterator[Finding]:
    name = event_type.spec.type
    if not event_type.spec.producers:
        message = f"{name} has no producer"
        yield event_type.finding(
            "warning", "no-producer", message, "Name the apps that publish it in spec.producers.", at=("spec",)
        )
    consumers = inventory.consumers(event_type)
    if not consumers and event_type.spec.intent == "Command":
        message = f"Nobody takes the command {name}"
        mend = "Its owner's app needs an EventSubscription for it."
        yield event_type.finding("warning", "command-without-consumer", message, mend, at=("spec", "type"))
    elif not consumers:
        observed = ", only observed" if inventory.observers(event_type) else ""
        message = f"No subscription names {name}{observed}"
        yield event_type.finding("info", "unconsumed-type", message, at=("spec", "type"))
