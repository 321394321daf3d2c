"""Resolve a selection of events to channels, by its type, versions and their states, or by its pattern."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date

from tidings.conventions import DEAD_LETTER_PREFIX, dead_letter_topic
from tidings_plan.resources.did_you_mean import did_you_mean
from tidings_plan.resources.eventtype import EventType, Version
from tidings_plan.resources.findings import Finding, Severity
from tidings_plan.resources.inventory import Inventory, app_key, is_dead_letters, may_read, requested_type, type_key
from tidings_plan.resources.subscription import Selection, selections


@dataclass(frozen=True, slots=True, order=True)
class Channel:
    """A version of a type on its topic. Dead letters have the type `*` and no version."""

    pubsub: str
    topic: str
    type: str
    major: str = ""


def channel_of(event_type: EventType, version: Version) -> Channel:
    """Return the channel of a version."""
    spec = event_type.spec
    return Channel(spec.channel.pubsub, spec.topic(version), spec.type, version.major)


def published(event_type: EventType) -> list[Channel]:
    """Return the channels of all Active and Deprecated versions."""
    return [channel_of(event_type, version) for version in event_type.spec.versions if version.is_published]


def resolve(selection: Selection, inventory: Inventory, today: date) -> tuple[list[Channel], list[Finding]]:
    """Return the channels that a selection reads, in a stable order, and the findings about its reference."""
    if is_dead_letters(selection):
        return _dead_letters(selection, inventory), list(_pointless_versions(selection))
    if selection.events.pattern:
        return _everything(selection, inventory), list(_pointless_versions(selection))
    event_type = readable_type(selection, inventory)
    if event_type is None:
        return [], [_unknown_type(selection, inventory)]
    findings: list[Finding] = []
    chosen = []
    for index, name in enumerate(selection.events.versions):
        version = event_type.spec.version(name)
        problems = _check_version(selection, event_type, version, name, today)
        findings += [selection.finding(*problem, at=("versions", index)) for problem in problems]
        if version and not any(severity == "error" for severity, *_ in problems):
            chosen.append(version)
    if not selection.events.versions:
        active = ", ".join(version.name for version in event_type.spec.versions if version.state == "Active")
        message = f"The versions of {selection.events.name} that the consumer can read are missing"
        fix = f"Set versions: [{active or 'v1'}]. New versions are never delivered implicitly."
        findings.append(selection.finding("error", "version-missing", message, fix, at=("versions",)))
    if chosen and selection.spec.enforcement == "BestEffort":  # errors about access remain errors
        mild = ("unknown-version", "draft-version", "retired-version", "past-removal")
        findings = [replace(found, severity="warning") if found.rule in mild else found for found in findings]
    source = selection.spec.source
    read = [channel_of(event_type, version) for version in chosen]
    return [
        replace(channel, pubsub=source.pubsub or channel.pubsub, topic=source.topic or channel.topic)
        for channel in read
    ], findings


def _dead_letters(selection: Selection, inventory: Inventory) -> list[Channel]:
    namespace, pattern = requested_type(selection)
    requested_app = pattern.removeprefix(DEAD_LETTER_PREFIX)
    own = app_key(selection)
    # A pattern excludes its own dead letters, which would otherwise loop if they fail again. By name they are allowed.
    apps = sorted(app for space, app in inventory.consuming_apps if space == namespace)
    pubsub = selection.spec.source.pubsub or "pubsub"
    return [
        Channel(pubsub, dead_letter_topic(app), "*")
        for app in apps
        if requested_app == app or (requested_app == "*" and app != own[1])
    ]


def _everything(selection: Selection, inventory: Inventory) -> list[Channel]:
    namespace, pattern = requested_type(selection)
    # Exclude the types that the app names: within an app, an event goes to one selection.
    named = {
        requested_type(item)
        for sibling in inventory.of_app(app_key(selection))
        for item in selections(sibling)
        if not item.events.pattern
    }
    types = [
        event_type for event_type in inventory.matching_types(namespace, pattern) if type_key(event_type) not in named
    ]
    allowed = [event_type for event_type in types if may_read(selection, event_type)]
    return sorted(channel for event_type in allowed for channel in published(event_type))


def _unknown_type(selection: Selection, inventory: Inventory) -> Finding:
    """Return the error for an unknown type.

    An unreadable type in another namespace yields the same error as a missing one, to not reveal that it exists.
    """
    home, name = requested_type(selection)
    own, at = selection.metadata.namespace, ("type",)
    if home == own:
        message = f"No EventType has the type {name}" + ("" if home == "default" else f" in namespace {home}")
        fix = did_you_mean(name, list(inventory.type_names(home))) or "Add the EventType, or correct the name."
    else:
        message = f"Namespace {home} has no type {name} that may be read from namespace {own}"
        types = inventory.matching_types(home, "*")
        readable = [event_type.spec.type for event_type in types if may_read(selection, event_type)]
        fix = did_you_mean(name, readable) or f"Ask its owner to add {own} to its spec.access.namespaces."
    if name[-3:-1] == ".v":
        fix = "Name the type without its version; versions go under versions."
    return selection.finding("error", "unknown-type", message, fix, at=at)


def readable_type(selection: Selection, inventory: Inventory) -> EventType | None:
    """Return the type that a selection names, or None if it does not exist or its namespace has no access."""
    event_type = inventory.type(requested_type(selection))
    return event_type if event_type and may_read(selection, event_type) else None


def _pointless_versions(selection: Selection) -> Iterator[Finding]:
    if selection.events.versions:
        message = f"{selection.events.name} matches every version: versions cannot be selected"
        yield selection.finding("error", "versions-of-a-pattern", message, "Remove versions.", at=("versions",))


_VersionFinding = tuple[Severity, str, str, str]


def _check_version(
    selection: Selection, event_type: EventType, version: Version | None, name: str, today: date
) -> list[_VersionFinding]:
    kind = event_type.spec.type
    if version is None:
        known = ", ".join(version.name for version in event_type.spec.versions)
        return [("error", "unknown-version", f"{kind} has no version {name}", f"Known: {known}.")]
    if version.state == "Draft":
        fix = f"Wait until {event_type.spec.owner.team} activates it, or remove it."
        return [("error", "draft-version", f"{kind} {name} is a draft and not published yet", fix)]
    if version.state == "Retired":
        message = f"{kind} {name} is retired and no longer published"
        return [("error", "retired-version", message, _instead(event_type, version))]
    if version.is_ending(today):
        return [_deprecated(selection, event_type, version, today)]
    return []


def _deprecated(selection: Selection, event_type: EventType, version: Version, today: date) -> _VersionFinding:
    kind, ends = f"{event_type.spec.type} {version.name}", version.deprecation
    if ends and ends.removal <= today:
        stalled = event_type.spec.policy.after_removal == "Stall"
        severity: Severity = "error" if stalled else "warning"
        message = f"{kind} was due for removal on {ends.removal}, and {selection.metadata.name} still reads it"
        return severity, "past-removal", message, _instead(event_type, version)
    until = f" and will be removed on {ends.removal}" if ends else ""
    return "warning", "deprecated-version", f"{kind} is deprecated{until}", _instead(event_type, version)


def _instead(event_type: EventType, version: Version) -> str:
    named = version.deprecation.alternative if version.deprecation else ""
    active = [version.name for version in event_type.spec.versions if version.state == "Active"]
    choice = named or ", ".join(active)
    return f"Read {choice} instead." if choice else f"Ask {event_type.spec.owner.team} what replaces it."
