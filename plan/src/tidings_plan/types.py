"""Validation of EventTypes, on their own and together with other resources."""

from collections.abc import Iterator
from datetime import date
from functools import lru_cache

from tidings_plan import jsonschema, naming, neighbours, ownership, personal
from tidings_plan.channels import channel_of
from tidings_plan.guarding import judged
from tidings_plan.resources.eventtype import Deprecation, EventType
from tidings_plan.resources.findings import Finding, has_errors
from tidings_plan.resources.inventory import Inventory, fold, type_key


def plan_type(event_type: EventType, inventory: Inventory, today: date) -> list[Finding]:
    """Return the findings about a type."""

    def judge() -> tuple[None, list[Finding]]:
        findings = [*_alone(event_type, today), *_duplicates(event_type, inventory)]
        findings += [*ownership.of_type(event_type, inventory), *neighbours.of_type(event_type, inventory)]
        return None, [*findings, *_readers(event_type, inventory)]

    return judged(event_type, judge, None)[1]


def grants(event_type: EventType, inventory: Inventory) -> bool:
    """Return True if a type is free of errors and therefore grants rights to its producers and consumers."""
    return not (
        inventory.is_faulty(event_type)
        or _is_wrong(event_type)
        or any(_duplicates(event_type, inventory))
        or any(ownership.of_type(event_type, inventory))
    )


@lru_cache(maxsize=4096)
def _is_wrong(event_type: EventType) -> bool:
    """Return True if a type has an error that depends neither on the date nor on other resources."""
    return has_errors(judged(event_type, lambda: (None, _alone(event_type, date.min)), None)[1])


def _alone(event_type: EventType, today: date) -> list[Finding]:
    return [*naming.check(event_type), *_versions(event_type, today), *personal.check_type(event_type)]


def _duplicates(event_type: EventType, inventory: Inventory) -> Iterator[Finding]:
    first = inventory.claims(type_key(event_type))[0]
    if first is not event_type:
        message = f"{first.ref} already declares {event_type.spec.type}; this one is not used"
        at = ("spec", "type")
        yield event_type.finding("error", "duplicate-type", message, "Delete one, or rename it.", at=at)


def _versions(event_type: EventType, today: date) -> Iterator[Finding]:
    seen: set[str] = set()
    topics: dict[tuple[str, str], str] = {}
    for index, version in enumerate(event_type.spec.versions):
        at = ("spec", "versions", index)
        channel = channel_of(event_type, version)
        other = topics.setdefault((channel.pubsub, fold(channel.topic)), version.name)
        if other != version.name:
            message = f"{other} and {version.name} share the topic {channel.topic}: their consumers receive both"
            fix = "Include {version} in spec.channel.topic."
            yield event_type.finding("error", "shared-topic", message, fix, at=("spec", "channel", "topic"))
        if version.name in seen:
            message = f"Version {version.name} is declared twice"
            yield event_type.finding("error", "duplicate-version", message, "Delete or rename one.", at=(*at, "name"))
        seen.add(version.name)
        if version.state == "Deprecated" and version.deprecation is None:
            message = f"{version.name} is deprecated without a removal date"
            fix = "Add deprecation: {effective: 2026-01-01, removal: 2026-07-01, alternative: v2}."
            yield event_type.finding("warning", "deprecation-missing", message, fix, at=(*at, "state"))
        if version.deprecation:
            yield from _deprecation(event_type, index, version.deprecation, today)
        # A schema that is a string is an unreadable file, which has a finding of its own.
        for fault in jsonschema.faults(version.schema) if isinstance(version.schema, dict) else ():
            message = f"The schema of {version.name} {fault}"
            path = (*at, "schema", *fault.path)
            yield event_type.finding("error", "malformed-schema", message, fault.fix, at=path)
        if version.schema is None and version.state != "Draft":
            message = f"{version.name} has no schema that describes data"
            fix = f"Add schema: schemas/{event_type.spec.type}.{version.name}.json."
            yield event_type.finding("warning", "schema-missing", message, fix, at=at)


def _deprecation(event_type: EventType, index: int, ends: Deprecation, today: date) -> Iterator[Finding]:
    version = event_type.spec.versions[index]
    at = ("spec", "versions", index, "deprecation")
    if ends.removal <= ends.effective:
        message = f"{version.name} is removed on {ends.removal}, before it is deprecated on {ends.effective}"
        yield event_type.finding("error", "deprecation-dates", message, "Correct the dates.", at=(*at, "removal"))
    if ends.alternative and event_type.spec.version(ends.alternative) is None:
        message = f"The alternative {ends.alternative} is not a version of {event_type.spec.type}"
        fix = "Name a version of this type, such as v2."
        yield event_type.finding("error", "deprecation-alternative", message, fix, at=(*at, "alternative"))
    if version.state == "Active" and ends.effective <= today:
        message = f"{version.name} is Active, but deprecated since {ends.effective}"
        fix = "Write state: Deprecated."
        yield event_type.finding("warning", "deprecation-due", message, fix, at=("spec", "versions", index, "state"))


def _readers(event_type: EventType, inventory: Inventory) -> Iterator[Finding]:
    name = event_type.spec.type
    if not event_type.spec.producers:
        message = f"{name} has no producer"
        yield event_type.finding(
            "warning", "no-producer", message, "Name the apps that publish it in spec.producers.", at=("spec",)
        )
    consumers = inventory.consumers(event_type)
    if not consumers and event_type.spec.intent == "Command":
        message = f"No app consumes the command {name}"
        fix = "Add an EventSubscription for the app that executes it."
        yield event_type.finding("warning", "command-without-consumer", message, fix, at=("spec", "type"))
    elif not consumers:
        observed = ", only observed" if inventory.observers(event_type) else ""
        message = f"No subscription names {name}{observed}"
        yield event_type.finding("info", "unconsumed-type", message, at=("spec", "type"))
