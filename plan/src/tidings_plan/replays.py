"""Validation of EventReplays: the target must exist and accept replays, and the filter must be meaningful."""

from collections.abc import Iterator

from tidings_plan import conditions, filters
from tidings_plan.guarding import judged
from tidings_plan.resources.did_you_mean import did_you_mean
from tidings_plan.resources.findings import Finding
from tidings_plan.resources.inventory import Inventory
from tidings_plan.resources.matching import has_cel
from tidings_plan.resources.replay import EventReplay

ALLOWED_FROM = "tidings.dev/replays-from"
"""Annotation of an EventSubscription: comma-separated namespaces whose EventReplays may target it."""


def plan_replay(replay: EventReplay, inventory: Inventory) -> list[Finding]:
    """Return the findings about a replay. It must not run if there is an error."""
    return judged(replay, lambda: (None, _judge(replay, inventory)), None)[1]


def _judge(replay: EventReplay, inventory: Inventory) -> list[Finding]:
    target = replay.spec.target
    namespace = target.namespace or replay.metadata.namespace
    subscription = inventory.subscriptions.get((namespace, target.subscription))
    findings = list(_of_archive(replay)) if replay.spec.source.kind == "Archive" else []
    since, until = replay.spec.filter.since, replay.spec.filter.until
    if since and until and since.timestamp() >= until.timestamp():
        message = f"until ({until}) is not after since ({since}): nothing would be replayed"
        place = ("spec", "filter", "until")
        findings.append(replay.finding("error", "replay-times", message, "Correct the times.", at=place))
    findings += conditions.check_filters(replay, replay.spec.filter.match, ("spec", "filter", "match"))
    named = subscription.metadata.annotations.get(ALLOWED_FROM, "") if subscription else ""
    if replay.metadata.namespace not in {namespace, *(name.strip() for name in named.split(","))}:
        # Do not reveal whether the target exists in the other namespace.
        message = f"{replay.ref} may not target the namespace {namespace}"
        fix = f"Create it there, or list this namespace in the annotation {ALLOWED_FROM} of the EventSubscription."
        return [*findings, replay.finding("error", "replay-namespace", message, fix, at=("spec", "target"))]
    at = ("spec", "target", "subscription")
    if subscription is None:
        known = [name for space, name in inventory.subscriptions if space == namespace]
        message = f"EventSubscription {target.subscription} does not exist"
        fix = did_you_mean(target.subscription, known)
        return [*findings, replay.finding("error", "unknown-target", message, fix, at=at)]
    if not subscription.spec.consumer.kit:
        message = f"{subscription.ref} does not use the SDK, which confirms replayed events: the replay would never end"
        fix = "Use the SDK in its app, or replay its dead letters in the archive's console."
        findings.append(replay.finding("error", "replay-without-kit", message, fix, at=at))
    elif not subscription.spec.delivery.dead_letter.replay:
        message = f"{subscription.ref} does not allow replays"
        fix = "Set its spec.delivery.deadLetter.replay to true."
        findings.append(replay.finding("error", "replay-not-allowed", message, fix, at=at))
    return findings


def condition(replay: EventReplay) -> str:
    """Return `spec.filter.match` as CEL over `event`; empty if it matches every event."""
    return filters.conjunction(filters.terms(replay.spec.filter.match))


def _of_archive(replay: EventReplay) -> Iterator[Finding]:
    """Yield errors for filters that the archive does not support."""
    criteria, at = replay.spec.filter, ("spec", "filter")
    if criteria.reason:
        message = "Archived events have no failure reason"
        fix = "Remove spec.filter.reason, or use source.kind: DeadLetters."
        yield replay.finding("error", "replay-reason", message, fix, at=(*at, "reason"))
    if has_cel(criteria.match):
        fix = "Use exact, prefix, suffix, all, any or not, or source.kind: DeadLetters."
        yield replay.finding("error", "replay-cel", "The archive does not support CEL", fix, at=(*at, "match"))
    if criteria.versions and (not criteria.type or criteria.type.endswith("*")):
        message = "The archive filters by version only for a single type"
        fix = "Name the type in spec.filter.type, or remove the versions."
        yield replay.finding("error", "replay-versions", message, fix, at=(*at, "versions"))
