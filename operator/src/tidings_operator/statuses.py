"""Build the status of EventSubscriptions and EventTypes from plans and their outcomes. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

from tidings.conventions import ALL_DEAD_LETTERS, dead_letter_topic, replay_topic
from tidings_operator import accepted
from tidings_operator.children import Desired, Name
from tidings_operator.conditions import Condition, dated, format_finding, judged, kstatus
from tidings_plan import AppPlan
from tidings_plan.resources import EventSubscription, EventType, Finding, Inventory, Selection, selections
from tidings_plan.resources.inventory import is_dead_letters, requested_type
from tidings_plan.resources.source_location import spell

RESOLUTION = ("unknown-type", "access-denied", "command-with-two-consumers", "unreachable-subscription")
VERSIONS = (
    "unknown-version",
    "draft-version",
    "retired-version",
    "past-removal",
    "deprecated-version",
    "version-missing",
    "versions-of-a-pattern",
    "incompatible-schema",
)
MISFITS = 5
"""Maximum incompatibilities of a type in one message."""
NAMED = 3
"""Maximum names in a message."""
MANY = 100
"""Maximum names in a list of a status."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Reason for a failed write of a child."""

    reason: str
    message: str
    is_final: bool


@dataclass(frozen=True, slots=True)
class Observation:
    """Subscriptions reported by an app's sidecars, or the reason why they are unreachable."""

    subscribed: frozenset[tuple[str, str]] = frozenset()
    """Pub/sub component and topic of subscriptions that every sidecar of the app has."""
    by_some: frozenset[tuple[str, str]] = frozenset()
    """The same for at least one sidecar."""
    sidecars: int = 0
    unreachable: str = ""
    routes: frozenset[tuple[str, str]] = frozenset()
    """Name and hash of each Dapr Subscription that existed at the time of the query."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Outcome of applying an app's plan."""

    planned: AppPlan
    desired: Sequence[Desired]
    failures: Mapping[Name, Failure] = field(default_factory=dict)
    observation: Observation | None = None


def subscription(
    this: EventSubscription, outcome: Outcome, inventory: Inventory, before: Mapping[str, Any], now: str
) -> dict[str, Any]:
    """Return the status of a subscription."""
    findings = [finding for finding in outcome.planned.findings if finding.resource == this.ref]
    own_children = [child for child in outcome.desired if this.metadata.name in child.subscriptions]
    failure = next((outcome.failures[child.name] for child in own_children if child.name in outcome.failures), None)
    judgements = _accepted(this, findings)
    programmed = _programmed(this, outcome.planned, judgements, failure)
    topics = _topics(this, outcome.planned)
    ready = next(
        (
            Condition("Ready", "False", condition.reason, condition.message)
            for condition in (*judgements, programmed)
            if not condition.holds
        ),
        None,
    )
    ready = ready or _ready(this, topics)
    busy = failure is not None and not failure.is_final and all(condition.holds for condition in judgements)
    conditions = [
        *kstatus(ready, reconciling=busy),
        *judgements,
        programmed,
        _observed(this, outcome, topics, programmed, before),
        _dead_letters(this, inventory, programmed),
    ]
    generation = this.metadata.generation
    return {
        "observedGeneration": generation,
        "conditions": dated(conditions, before, generation, now),
        "topics": [topic for _, topic in topics][:MANY],
        "events": [_event(selection, outcome.planned, findings) for selection in selections(this)],
        "children": [_child(child) for child in own_children] if programmed.holds else [],
        "enforcement": dict(outcome.planned.enforcement.get(this.metadata.name, {})),
        "warnings": [format_finding(finding) for finding in findings if finding.severity == "warning"],
    }


def _event(selection: Selection, planned: AppPlan, findings: Sequence[Finding]) -> dict[str, Any]:
    """Return the status of an entry of `spec.events`."""
    own = [finding for finding in findings if finding.location.field.startswith(spell(selection.at))]
    read = planned.events.get(selection.metadata.name, {}).get(selection.index)
    topics = [topic for _, topic in read or ()]
    good = ("Planned", "") if topics else ("NothingToRead", "It matches nothing yet")
    judgement = judged("Ready", own, good)
    if read is None and judgement.holds:
        judgement = Condition("Ready", "False", "NotAccepted", "An error outside this entry rejects it")
    return {
        "name": selection.events.name,
        "ready": judgement.holds,
        "reason": judgement.reason,
        **({"message": judgement.message} if judgement.message else {}),
        "topics": topics[:MANY],
    }


def unreadable(generation: int, findings: Sequence[Finding], before: Mapping[str, Any], now: str) -> dict[str, Any]:
    """Return the status of an object whose spec could not be read."""
    ready = judged("Ready", findings, ("", ""))
    return {
        "observedGeneration": generation,
        "conditions": dated(kstatus(ready, reconciling=False), before, generation, now),
        "warnings": [format_finding(finding) for finding in findings[1:]],
    }


def event_type(
    this: EventType,
    findings: Sequence[Finding],
    inventory: Inventory,
    before: Mapping[str, Any],
    now: str,
    today: date,
) -> dict[str, Any]:
    """Return the status of an event type, including its consumers."""
    is_valid = inventory.type((this.metadata.namespace, this.spec.type)) is this
    consumers = inventory.consumers(this) if is_valid else []
    errors = [finding for finding in findings if finding.severity == "error"]
    misfits = accepted.misfits(this, before, consumers) if is_valid else []
    compatible = judged("Compatible", misfits, ("Accepted", "Every version is compatible with its readers"))
    if misfits:  # list all versions that a change breaks
        compatible = replace(compatible, message=" | ".join(map(format_finding, misfits[:MISFITS])))
    ready = judged(
        "Ready", errors, ("Accepted", f"{len({consumer.subscription for consumer in consumers})} subscriptions name it")
    )
    ready = ready if errors or compatible.holds else replace(compatible, type="Ready")
    generation = this.metadata.generation
    return {
        "observedGeneration": generation,
        "conditions": dated([*kstatus(ready, reconciling=False), compatible], before, generation, now),
        "accepted": before.get("accepted", []) if misfits or not is_valid else accepted.following(this, before),
        "consumers": _listed(consumers),
        "observers": _listed(inventory.observers(this)) if is_valid else [],
        "consumerCount": len({consumer.subscription for consumer in consumers}),
        "deprecated": [
            {
                "version": version.name,
                "removal": version.deprecation.removal.isoformat(),
                "alternative": version.deprecation.alternative,
                "consumers": _listed(consumer for consumer in consumers if version.name in consumer.events.versions),
            }
            for version in this.spec.versions
            if version.deprecation and version.is_ending(today)
        ],
        "warnings": [format_finding(finding) for finding in findings if finding.severity == "warning"],
    }


def _accepted(this: EventSubscription, findings: Sequence[Finding]) -> list[Condition]:
    resolution = [finding for finding in findings if finding.rule in RESOLUTION]
    versions = [finding for finding in findings if finding.rule in VERSIONS]
    policy = [
        finding for finding in findings if finding.rule not in (*RESOLUTION, *VERSIONS) and finding.severity != "info"
    ]
    names = _shortened(event.name for event in this.spec.events)
    versions_of = _shortened(version for event in this.spec.events for version in event.versions) or "every version"
    return [
        judged(
            "EventTypeResolved",
            resolution,
            ("Resolved", f"{names} {'are' if len(this.spec.events) > 1 else 'is'} known"),
        ),
        judged("VersionAccepted", versions, ("Accepted", versions_of)),
        judged("PolicyAccepted", policy, ("Accepted", "All that is asked for is kept: see status.enforcement")),
    ]


def _programmed(
    this: EventSubscription, planned: AppPlan, accepted: Sequence[Condition], failure: Failure | None
) -> Condition:
    wrong = next((condition for condition in accepted if not condition.holds), None)
    entries = planned.events.get(this.metadata.name, {})
    if wrong and not entries:
        return Condition("Programmed", "False", "NotAccepted", f"Nothing is programmed while {wrong.type} is False")
    if failure:
        return Condition("Programmed", "False", failure.reason, failure.message)
    if wrong:
        message = f"{len(entries)} of {len(this.spec.events)} events are consumed: see status.events"
        return Condition("Programmed", "True", "PartlyProgrammed", message)
    if not any(entries.values()):
        message = "spec.events: they match no type yet. Add an EventType, or correct the pattern."
        return Condition("Programmed", "True", "NothingToRead", message)
    return Condition("Programmed", "True", "Programmed", f"The sidecar of {planned.app} has its routes and policies")


def _ready(this: EventSubscription, topics: Sequence[tuple[str, str]]) -> Condition:
    app = this.spec.consumer.app_id
    if this.spec.suspend:
        return Condition(
            "Ready", "True", "Suspended", "spec.suspend is true: the topics are not subscribed, see Observed"
        )
    if not topics:
        return Condition("Ready", "True", "NothingToRead", f"{this.spec.events[0].name} matches nothing yet")
    named = _shortened(topic for _, topic in topics)
    return Condition("Ready", "True", "Programmed", f"{app} reads {named}")


def _shortened(names: Iterable[str]) -> str:
    """Return the first names as a list."""
    unique = list(dict.fromkeys(names))
    return ", ".join(unique[:NAMED]) + (", …" if len(unique) > NAMED else "")


def _topics(this: EventSubscription, planned: AppPlan) -> list[tuple[str, str]]:
    name = this.metadata.name
    entries = (entry for entry in planned.policy.subscriptions if entry.name == name)
    return sorted({(entry.pubsub, entry.topic) for entry in entries})


def _observed(
    this: EventSubscription,
    outcome: Outcome,
    topics: Sequence[tuple[str, str]],
    programmed: Condition,
    before: Mapping[str, Any],
) -> Condition:
    if not programmed.holds:
        return Condition("Observed", "Unknown", "NotProgrammed", "There is nothing to observe")
    seen, routes = outcome.observation, [child for child in outcome.desired if child.name.kind == "Subscription"]
    if seen is None:
        return _as_before(this, before)
    if unknown := _unobserved(this, seen):
        return Condition("Observed", "Unknown", *unknown)
    known = {(route.name.name, route.hash) for route in routes}
    own = {(route.name.name, route.hash) for route in routes if this.metadata.name in route.subscriptions}
    if not own <= seen.routes:
        return Condition("Observed", "Unknown", "NotAsked", "Its routes have changed: the sidecars are asked soon")
    declared = {(route.manifest["spec"]["pubsubname"], route.manifest["spec"]["topic"]) for route in routes}
    if this.spec.suspend:
        return _suspended(this, (set(topics) - declared) & seen.by_some)
    missing = (set(topics) & declared) - seen.subscribed
    surplus = seen.subscribed - declared if known == seen.routes else frozenset()
    return _compared(this, missing, surplus)


def _unobserved(this: EventSubscription, seen: Observation) -> tuple[str, str] | None:
    if seen.unreachable:
        return "Unreachable", seen.unreachable
    if not seen.sidecars:
        return "NoSidecar", f"No pod of app {this.spec.consumer.app_id} with a sidecar is ready"
    return None


def _suspended(this: EventSubscription, remaining: Iterable[tuple[str, str]]) -> Condition:
    """Return whether the sidecars have given up the topics of a suspended subscription."""
    if named := ", ".join(sorted(topic for _, topic in remaining)):
        message = f"Suspended but still subscribed: {named}. Remove the app's programmatic subscription."
        return Condition("Observed", "False", "StillSubscribed", message)
    return Condition("Observed", "True", "Suspended", f"No sidecar of {this.spec.consumer.app_id} subscribes to it")


def _compared(
    this: EventSubscription, missing: Iterable[tuple[str, str]], surplus: Iterable[tuple[str, str]]
) -> Condition:
    if missing:
        named = ", ".join(sorted(topic for _, topic in missing))
        message = f"Declared but not subscribed: {named}. Look at the log of the sidecar."
        return Condition("Observed", "False", "NotSubscribed", message)
    if surplus:
        named = ", ".join(sorted(topic for _, topic in surplus))
        message = f"Subscribed but not declared: {named}. Remove the app's programmatic subscription."
        return Condition("Observed", "True", "MoreThanDeclared", message)
    return Condition("Observed", "True", "Subscribed", f"Every sidecar of {this.spec.consumer.app_id} has it")


def _as_before(this: EventSubscription, before: Mapping[str, Any]) -> Condition:
    """Keep the previous operator's observation of this generation until the sidecars are queried again."""
    known = next((condition for condition in before.get("conditions") or () if condition["type"] == "Observed"), None)
    if known and known["observedGeneration"] == this.metadata.generation and known["reason"] != "NotProgrammed":
        return Condition("Observed", known["status"], known["reason"], known["message"])
    return Condition("Observed", "Unknown", "NotAsked", "The sidecars have not been asked yet")


def _dead_letters(this: EventSubscription, inventory: Inventory, programmed: Condition) -> Condition:
    namespace, app = this.metadata.namespace, this.spec.consumer.app_id
    own = dead_letter_topic(app)
    topic = this.spec.delivery.dead_letter.topic or own
    if not programmed.holds:
        return Condition("DeadLetterReady", "Unknown", "NotProgrammed")
    if all(map(is_dead_letters, selections(this))):
        return Condition("DeadLetterReady", "True", "KeepsOthers", f"Its own dead letters stay in {topic}")
    if topic != own:
        message = f"Dead letters go to {topic}; whether anybody keeps them is not observed"
        return Condition("DeadLetterReady", "Unknown", "OwnTopic", message)
    for reader in inventory.wildcards():
        space, pattern = requested_type(reader)
        if is_dead_letters(reader) and space == namespace and pattern in (ALL_DEAD_LETTERS, own):
            return Condition(
                "DeadLetterReady", "True", "Kept", f"{reader.subscription.ref} keeps what arrives in {topic}"
            )
    message = f"Dead letters go to {topic}, which has no subscription. Add one of deadletter.*, as the archive has."
    return Condition("DeadLetterReady", "False", "NobodyReads", message)


def _child(child: Desired) -> dict[str, str]:
    """Return the reference to a child, with its hash if it belongs to one topic only.

    The hash of children shared by the app's subscriptions (policy, Resiliency) is only on the child: here, each change
    would cause a write to all of them.
    """
    manifest = child.manifest
    named = {"apiVersion": manifest["apiVersion"], "kind": manifest["kind"], "name": manifest["metadata"]["name"]}
    if child.name.kind != "Subscription" or manifest["spec"]["topic"] == replay_topic(manifest["scopes"][0]):
        return named
    return {**named, "hash": child.hash}


def _listed(readers: Iterable[Selection]) -> list[str]:
    named = {
        f"{reader.metadata.namespace}/{reader.metadata.name} ({reader.spec.consumer.app_id})" for reader in readers
    }
    return sorted(named)[:MANY]
