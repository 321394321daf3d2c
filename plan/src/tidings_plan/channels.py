"""Resolve a subscription to channels, by its type, versions and their states, or by its pattern."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

from tidings_plan.conventions import DEAD_LETTER_PREFIX, dead_letter_topic
from tidings_plan.resources.did_you_mean import did_you_mean
from tidings_plan.resources.eventtype import EventType, Version
from tidings_plan.resources.findings import Finding, Severity
from tidings_plan.resources.inventory import Inventory, app_key, is_dead_letters, requested_type, type_key
from tidings_plan.resources.subscription import EventSubscription


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
    return [
        channel_of(event_type, version)
        for version in event_type.spec.versions
        if version.state in ("Active", "Deprecated")
    ]


def resolve(subscription: EventSubscription, inventory: Inventory, today: date) -> tuple[list[Channel], list[Finding]]:
    """Return the channels that a subscription reads, in a stable order, and the findings about its reference."""
    if is_dead_letters(subscription):
        return _dead_letters(subscription, inventory), list(_pointless_versions(subscription))
    if subscription.spec.is_wildcard:
        return _everything(subscription, inventory), list(_pointless_versions(subscription))
    event_type = readable_type(subscription, inventory)
    if event_type is None:
        return [], [_unknown_type(subscription, inventory)]
    findings = [*_pin(subscription)]
    chosen = []
    for path, name in _requested_versions(subscription):
        version = next((candidate for candidate in event_type.spec.versions if candidate.name == name), None)
        problems = _check_version(subscription, event_type, version, name, today)
        findings += [subscription.finding(*problem, at=("spec", "versions", *path)) for problem in problems]
        if version and not any(severity == "error" for severity, *_ in problems):
            chosen.append(version)
    if not subscription.spec.versions.requested:
        findings.append(_no_version(subscription, event_type))
    findings = _as_enforced(subscription, findings) if chosen else findings
    return [_with_source(channel_of(event_type, version), subscription) for version in chosen], findings


def _with_source(channel: Channel, subscription: EventSubscription) -> Channel:
    source = subscription.spec.source
    return Channel(source.pubsub or channel.pubsub, source.topic or channel.topic, channel.type, channel.major)


def _requested_versions(subscription: EventSubscription) -> list[tuple[tuple[str | int, ...], str]]:
    versions = subscription.spec.versions
    if versions.pin:
        return [(("pin",), versions.pin)]
    return [(("accept", index), name) for index, name in enumerate(versions.accept)]


def _dead_letters(subscription: EventSubscription, inventory: Inventory) -> list[Channel]:
    namespace, pattern = requested_type(subscription)
    requested_app = pattern.removeprefix(DEAD_LETTER_PREFIX)
    own = app_key(subscription)
    # A pattern excludes its own dead letters, which would otherwise loop if they fail again. By name they are allowed.
    apps = sorted(app for space, app in inventory.consuming_apps if space == namespace)
    pubsub = subscription.spec.source.pubsub or "pubsub"
    return [
        Channel(pubsub, dead_letter_topic(app), "*")
        for app in apps
        if requested_app == app or (requested_app == "*" and app != own[1])
    ]


def _everything(subscription: EventSubscription, inventory: Inventory) -> list[Channel]:
    namespace, pattern = requested_type(subscription)
    # Exclude the types that the app names: within an app, an event goes to one subscription.
    named = {
        requested_type(sibling) for sibling in inventory.of_app(app_key(subscription)) if not sibling.spec.is_wildcard
    }
    types = [
        event_type for event_type in inventory.matching_types(namespace, pattern) if type_key(event_type) not in named
    ]
    allowed = [event_type for event_type in types if _may_read(subscription, event_type)]
    return sorted(channel for event_type in allowed for channel in published(event_type))


def _unknown_type(subscription: EventSubscription, inventory: Inventory) -> Finding:
    """Return the error for an unknown type.

    An unreadable type in another namespace yields the same error as a missing one, to not reveal that it exists.
    """
    home, name = requested_type(subscription)
    own, at = subscription.metadata.namespace, ("spec", "eventTypeRef", "name")
    if home == own:
        message = f"No EventType has the type {name}" + ("" if home == "default" else f" in namespace {home}")
        fix = did_you_mean(name, list(inventory.type_names(home))) or "Add the EventType, or correct the name."
    else:
        message = f"Namespace {home} has no type {name} that may be read from namespace {own}"
        types = inventory.matching_types(home, "*")
        readable = [event_type.spec.type for event_type in types if _may_read(subscription, event_type)]
        fix = did_you_mean(name, readable) or f"Ask its owner to add {own} to its spec.access.namespaces."
    if name[-3:-1] == ".v":
        fix = "Name the type without its version; versions go under spec.versions.accept."
    return subscription.finding("error", "unknown-type", message, fix, at=at)


def readable_type(subscription: EventSubscription, inventory: Inventory) -> EventType | None:
    """Return the type that a subscription names, or None if it does not exist or its namespace has no access."""
    event_type = inventory.type(requested_type(subscription))
    return event_type if event_type and _may_read(subscription, event_type) else None


def _may_read(subscription: EventSubscription, event_type: EventType) -> bool:
    """Return True if a type's access includes the namespace of a subscription."""
    own, allowed = subscription.metadata.namespace, event_type.spec.access.namespaces
    return own == event_type.metadata.namespace or own in allowed or "*" in allowed


def _pin(subscription: EventSubscription) -> Iterator[Finding]:
    versions = subscription.spec.versions
    if versions.pin and versions.accept and versions.pin not in versions.accept:
        message = f"versions.pin is {versions.pin}, which versions.accept does not list"
        yield subscription.finding(
            "error", "pin-not-accepted", message, "Pin one of the accepted versions.", at=("spec", "versions", "pin")
        )


def _no_version(subscription: EventSubscription, event_type: EventType) -> Finding:
    active = [version.name for version in event_type.spec.versions if version.state == "Active"]
    return subscription.finding(
        "error",
        "version-missing",
        "spec.versions does not list the versions that the consumer can read",
        f"Set versions: {{accept: [{', '.join(active) or 'v1'}]}}. New versions are never delivered implicitly.",
        at=("spec", "versions"),
    )


def _pointless_versions(subscription: EventSubscription) -> Iterator[Finding]:
    if subscription.spec.versions.requested:
        message = f"{subscription.spec.event_type_ref.name} matches every version: versions cannot be selected"
        yield subscription.finding(
            "error", "versions-of-a-pattern", message, "Remove spec.versions.", at=("spec", "versions")
        )


_VersionFinding = tuple[Severity, str, str, str]


def _check_version(
    subscription: EventSubscription, event_type: EventType, version: Version | None, name: str, today: date
) -> list[_VersionFinding]:
    kind = event_type.spec.type
    if version is None:
        known = ", ".join(version.name for version in event_type.spec.versions)
        return [("error", "unknown-version", f"{kind} has no version {name}", f"Known: {known}.")]
    if version.state == "Draft":
        fix = f"Wait until {event_type.spec.owner.team} activates it, or remove it."
        return [("error", "draft-version", f"{kind} {name} is a draft and not published yet", fix)]
    if version.state == "Retired":
        return [
            (
                "error",
                "retired-version",
                f"{kind} {name} is retired and no longer published",
                _instead(event_type, version),
            )
        ]
    if version.is_ending(today):
        return [_deprecated(subscription, event_type, version, today)]
    return []


def _deprecated(
    subscription: EventSubscription, event_type: EventType, version: Version, today: date
) -> _VersionFinding:
    kind, ends = f"{event_type.spec.type} {version.name}", version.deprecation
    if ends and ends.removal <= today:
        stalled = event_type.spec.policy.after_removal == "Stall"
        severity: Severity = "error" if stalled else "warning"
        message = f"{kind} was due for removal on {ends.removal}, and {subscription.metadata.name} still reads it"
        return severity, "past-removal", message, _instead(event_type, version)
    until = f" and will be removed on {ends.removal}" if ends else ""
    return "warning", "deprecated-version", f"{kind} is deprecated{until}", _instead(event_type, version)


def _instead(event_type: EventType, version: Version) -> str:
    named = version.deprecation.alternative if version.deprecation else ""
    active = [version.name for version in event_type.spec.versions if version.state == "Active"]
    choice = named or ", ".join(active)
    return f"Read {choice} instead." if choice else f"Ask {event_type.spec.owner.team} what replaces it."


def _as_enforced(subscription: EventSubscription, findings: list[Finding]) -> list[Finding]:
    """Downgrade errors about single versions to warnings for BestEffort. Access errors always remain errors."""
    if subscription.spec.enforcement == "Strict":
        return findings
    downgradable = ("unknown-version", "draft-version", "retired-version", "past-removal")
    return [
        subscription.finding("warning", finding.rule, finding.message, finding.fix, at=finding.location)
        if finding.rule in downgradable
        else finding
        for finding in findings
    ]
