"""Which topics a subscription reads: its type, its versions and their states, or a pattern over all of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

from tidings.plan.conventions import DEAD_LETTER_PREFIX, dead_letter_topic
from tidings.resources.eventtype import EventType, Version
from tidings.resources.findings import Finding, Severity
from tidings.resources.inventory import Inventory, app_key, is_dead_letters, type_key, wanted_type
from tidings.resources.subscription import EventSubscription
from tidings.resources.suggesting import did_you_mean


@dataclass(frozen=True, slots=True, order=True)
class Channel:
    """One version of one type on its topic. Dead letters have the type `*` and no version."""

    pubsub: str
    topic: str
    type: str
    major: str = ""


def channel_of(event_type: EventType, version: Version) -> Channel:
    """Return where the events of a version travel."""
    spec = event_type.spec
    return Channel(spec.channel.pubsub, spec.topic(version), spec.type, version.major)


def published(event_type: EventType) -> list[Channel]:
    """Return the channels that exist: of every version that is neither a draft nor retired."""
    return [channel_of(event_type, each) for each in event_type.spec.versions if each.state in ("Active", "Deprecated")]


def resolve(subscription: EventSubscription, inventory: Inventory, today: date) -> tuple[list[Channel], list[Finding]]:
    """Return the channels a subscription reads, in a stable order, and what is wrong with its wish."""
    if is_dead_letters(subscription):
        return _dead_letters(subscription, inventory), list(_pointless_versions(subscription))
    if subscription.spec.is_wildcard:
        return _everything(subscription, inventory), list(_pointless_versions(subscription))
    event_type = readable_type(subscription, inventory)
    if event_type is None:
        return [], [_unknown_type(subscription, inventory)]
    findings = [*_pin(subscription)]
    chosen = []
    for place, name in _wanted(subscription):
        version = next((each for each in event_type.spec.versions if each.name == name), None)
        found = _judge(subscription, event_type, version, name, today)
        findings += [subscription.finding(*each, at=("spec", "versions", *place)) for each in found]
        if version and not any(severity == "error" for severity, *_ in found):
            chosen.append(version)
    if not subscription.spec.versions.wanted:
        findings.append(_no_version(subscription, event_type))
    findings = _as_enforced(subscription, findings) if chosen else findings
    return [_moved(channel_of(event_type, each), subscription) for each in chosen], findings


def _moved(channel: Channel, subscription: EventSubscription) -> Channel:
    source = subscription.spec.source
    return Channel(source.pubsub or channel.pubsub, source.topic or channel.topic, channel.type, channel.major)


def _wanted(subscription: EventSubscription) -> list[tuple[tuple[str | int, ...], str]]:
    versions = subscription.spec.versions
    if versions.pin:
        return [(("pin",), versions.pin)]
    return [(("accept", place), name) for place, name in enumerate(versions.accept)]


def _dead_letters(subscription: EventSubscription, inventory: Inventory) -> list[Channel]:
    namespace, pattern = wanted_type(subscription)
    wanted = pattern.removeprefix(DEAD_LETTER_PREFIX)
    own = app_key(subscription)
    # A pattern leaves its own dead letters out: what it cannot handle would come back for ever. Named, they are read.
    apps = sorted(app for space, app in inventory.consuming_apps if space == namespace)
    pubsub = subscription.spec.source.pubsub or "pubsub"
    return [
        Channel(pubsub, dead_letter_topic(app), "*")
        for app in apps
        if wanted == app or (wanted == "*" and app != own[1])
    ]


def _everything(subscription: EventSubscription, inventory: Inventory) -> list[Channel]:
    namespace, pattern = wanted_type(subscription)
    # What its app reads by name goes there only: an event goes to one subscription of an app.
    named = {wanted_type(each) for each in inventory.of_app(app_key(subscription)) if not each.spec.is_wildcard}
    types = [each for each in inventory.matching_types(namespace, pattern) if type_key(each) not in named]
    allowed = [each for each in types if _may_read(subscription, each)]
    return sorted(channel for each in allowed for channel in published(each))


def _unknown_type(subscription: EventSubscription, inventory: Inventory) -> Finding:
    """Say the same of a type that may not be read and of one that does not exist: another namespace's are its own."""
    home, name = wanted_type(subscription)
    own, at = subscription.metadata.namespace, ("spec", "eventTypeRef", "name")
    if home == own:
        message = f"No EventType has the type {name}" + ("" if home == "default" else f" in namespace {home}")
        mend = did_you_mean(name, list(inventory.type_names(home))) or "Add its EventType, or correct the name."
    else:
        message = f"Namespace {home} has no type {name} that may be read from namespace {own}"
        readable = [each.spec.type for each in inventory.matching_types(home, "*") if _may_read(subscription, each)]
        mend = did_you_mean(name, readable) or f"Ask whoever owns it to add {own} to its spec.access.namespaces."
    if name[-3:-1] == ".v":
        mend = "Name the type without its version; versions stand under spec.versions.accept."
    return subscription.finding("error", "unknown-type", message, mend, at=at)


def readable_type(subscription: EventSubscription, inventory: Inventory) -> EventType | None:
    """Return the type that a subscription names, if its namespace may read it."""
    found = inventory.type(wanted_type(subscription))
    return found if found and _may_read(subscription, found) else None


def _may_read(subscription: EventSubscription, event_type: EventType) -> bool:
    """Return whether a type of another namespace invites the one of a subscription."""
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
    active = [each.name for each in event_type.spec.versions if each.state == "Active"]
    return subscription.finding(
        "error",
        "version-missing",
        "It does not say which versions the consumer can read",
        f"Write versions: {{accept: [{', '.join(active) or 'v1'}]}}: a new version must never arrive by surprise.",
        at=("spec", "versions"),
    )


def _pointless_versions(subscription: EventSubscription) -> Iterator[Finding]:
    if subscription.spec.versions.wanted:
        message = f"{subscription.spec.event_type_ref.name} reads every version: versions cannot be chosen"
        yield subscription.finding(
            "error", "versions-of-a-pattern", message, "Leave spec.versions out.", at=("spec", "versions")
        )


_Judgement = tuple[Severity, str, str, str]


def _judge(
    subscription: EventSubscription, event_type: EventType, version: Version | None, name: str, today: date
) -> list[_Judgement]:
    kind = event_type.spec.type
    if version is None:
        known = ", ".join(each.name for each in event_type.spec.versions)
        return [("error", "unknown-version", f"{kind} has no version {name}", f"Known: {known}.")]
    if version.state == "Draft":
        mend = f"Wait until {event_type.spec.owner.team} makes it Active, or leave it out."
        return [("error", "draft-version", f"{kind} {name} is a draft: nobody publishes it yet", mend)]
    if version.state == "Retired":
        return [
            (
                "error",
                "retired-version",
                f"{kind} {name} is retired: nobody publishes it any more",
                _instead(event_type, version),
            )
        ]
    if version.is_ending(today):
        return [_deprecated(subscription, event_type, version, today)]
    return []


def _deprecated(subscription: EventSubscription, event_type: EventType, version: Version, today: date) -> _Judgement:
    kind, ends = f"{event_type.spec.type} {version.name}", version.deprecation
    if ends and ends.removal <= today:
        stalled = event_type.spec.policy.after_removal == "Stall"
        severity: Severity = "error" if stalled else "warning"
        message = f"{kind} was to be removed on {ends.removal} and {subscription.metadata.name} still reads it"
        return severity, "past-removal", message, _instead(event_type, version)
    until = f" and will be removed on {ends.removal}" if ends else ""
    return "warning", "deprecated-version", f"{kind} is deprecated{until}", _instead(event_type, version)


def _instead(event_type: EventType, version: Version) -> str:
    named = version.deprecation.alternative if version.deprecation else ""
    active = [each.name for each in event_type.spec.versions if each.state == "Active"]
    choice = named or ", ".join(active)
    return f"Read {choice} instead." if choice else f"Ask {event_type.spec.owner.team} what replaces it."


def _as_enforced(subscription: EventSubscription, findings: list[Finding]) -> list[Finding]:
    """BestEffort reads the versions that are there and warns of the others; access is never bent."""
    if subscription.spec.enforcement == "Strict":
        return findings
    bendable = ("unknown-version", "draft-version", "retired-version", "past-removal")
    return [
        subscription.finding("warning", each.rule, each.message, each.mend, at=each.location)
        if each.rule in bendable
        else each
        for each in findings
    ]
