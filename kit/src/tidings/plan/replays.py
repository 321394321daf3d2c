"""The rules of an EventReplay: that its target is there, may be replayed to, and that its filter means something."""

from collections.abc import Iterator

from tidings.plan import conditions, filters
from tidings.plan.guarding import judged
from tidings.resources.findings import Finding
from tidings.resources.inventory import Inventory
from tidings.resources.matching import has_cel
from tidings.resources.replay import EventReplay
from tidings.resources.subscription import EventSubscription
from tidings.resources.suggesting import did_you_mean

ALLOWED_FROM = "tidings.dev/replays-from"
"""Annotation of an EventSubscription: other namespaces, separated by commas, whose EventReplays may reach it."""


def plan_replay(replay: EventReplay, inventory: Inventory) -> list[Finding]:
    """Return what there is to say about a replay; with an error it must not run."""
    return judged(replay, lambda: (None, _judge(replay, inventory)), None)[1]


def _judge(replay: EventReplay, inventory: Inventory) -> list[Finding]:
    target = replay.spec.target
    namespace = target.namespace or replay.metadata.namespace
    subscription = inventory.subscriptions.get((namespace, target.subscription))
    findings = [*_times(replay), *(_of_archive(replay) if replay.spec.source.kind == "Archive" else ())]
    findings += conditions.check_filters(replay, replay.spec.filter.match, ("spec", "filter", "match"))
    if namespace != replay.metadata.namespace and not _is_allowed(replay, subscription):
        # The same answer whether the target exists or not: it tells nothing about another namespace.
        message = f"{replay.ref} may not reach into the namespace {namespace}"
        mend = f"Create it there, or let its EventSubscription name this namespace in the annotation {ALLOWED_FROM}."
        return [*findings, replay.finding("error", "replay-namespace", message, mend, at=("spec", "target"))]
    if subscription is None:
        known = [name for space, name in inventory.subscriptions if space == namespace]
        message = f"No EventSubscription is named {target.subscription}"
        mend = did_you_mean(target.subscription, known)
        at = ("spec", "target", "subscription")
        return [*findings, replay.finding("error", "unknown-target", message, mend, at=at)]
    return [*findings, *_reachable(replay, subscription)]


def _is_allowed(replay: EventReplay, subscription: EventSubscription | None) -> bool:
    """Return whether a subscription lets replays of another namespace reach it."""
    named = subscription.metadata.annotations.get(ALLOWED_FROM, "") if subscription else ""
    return replay.metadata.namespace in {each.strip() for each in named.split(",")}


def condition(replay: EventReplay) -> str:
    """Return `spec.filter.match` as CEL over `event`; empty where every event is meant."""
    return filters.conjunction([each.cel for each in filters.terms(replay.spec.filter.match)])


def _of_archive(replay: EventReplay) -> Iterator[Finding]:
    """Yield what can be asked of dead letters only."""
    wanted, at = replay.spec.filter, ("spec", "filter")
    if wanted.reason:
        message = "An event of the archive has not failed: it has no reason"
        mend = "Leave spec.filter.reason out, or take source.kind: DeadLetters."
        yield replay.finding("error", "replay-reason", message, mend, at=(*at, "reason"))
    if has_cel(wanted.match):
        mend = "Write exact, prefix, suffix, all, any or not; or take source.kind: DeadLetters."
        yield replay.finding("error", "replay-cel", "The archive reads no CEL", mend, at=(*at, "match"))
    if wanted.versions and (not wanted.type or wanted.type.endswith("*")):
        message = "The archive knows versions of one type only"
        mend = "Name the type in spec.filter.type, or leave the versions out."
        yield replay.finding("error", "replay-versions", message, mend, at=(*at, "versions"))


def _times(replay: EventReplay) -> Iterator[Finding]:
    since, until = replay.spec.filter.since, replay.spec.filter.until
    if since and until and (since.timestamp() >= until.timestamp()):
        message = f"It ends at {until}, before it begins at {since}: nothing would be sent"
        yield replay.finding("error", "replay-times", message, "Correct the times.", at=("spec", "filter", "until"))


def _reachable(replay: EventReplay, subscription: EventSubscription) -> Iterator[Finding]:
    at = ("spec", "target", "subscription")
    if not subscription.spec.consumer.kit:
        message = f"{subscription.ref} has no kit, which tells a replayed event from a new one"
        mend = "Use the kit in its app, or let the app read the dead-letter topic itself."
        yield replay.finding("error", "replay-without-kit", message, mend, at=at)
    elif not subscription.spec.delivery.dead_letter.replay:
        message = f"{subscription.ref} does not allow replays"
        mend = "Set its spec.delivery.deadLetter.replay to true."
        yield replay.finding("error", "replay-not-allowed", message, mend, at=at)
