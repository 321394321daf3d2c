"""Plan a single app: a pure function of the inventory, so that an operator can replan only the changed app."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import date
from functools import partial
from typing import Any

from tidings.conventions import DEAD_LETTER_PREFIX, REPLAY_OUTCOMES, dead_letter_topic, replay_topic
from tidings_plan import (
    channels,
    conditions,
    consumers,
    enforcement,
    neighbours,
    overlaps,
    ownership,
    personal,
    policies,
    resiliency,
    subscriptions,
    types,
)
from tidings_plan.channels import Channel
from tidings_plan.guarding import bounded, failure, judged
from tidings_plan.model import AppPlan, Topics
from tidings_plan.resources.findings import Finding, has_errors, worst_first
from tidings_plan.resources.inventory import Inventory, Key, app_key, is_dead_letters, requested_type
from tidings_plan.resources.subscription import EventSubscription, Selection, selections

SLOW = 10.0
"""Events per second below which a subscription needs its own workers, measured with 1/s on 12 and 32 workers."""

MAX_EVENTS = 1_000
"""Maximum entries of `spec.events` per app: each change of one of its subscriptions replans the app."""
MAX_RULES = 128
"""Maximum per app and topic: rules are compared pairwise here and evaluated sequentially by the sidecar."""
MAX_RULE_TEXT = 4_000_000

Readers = list[tuple[Selection, list[Channel]]]


def plan_app(app: Key, inventory: Inventory, today: date) -> AppPlan:
    """Plan one app, given by namespace and app id.

    An entry of `spec.events` with an error is ignored, and so are all entries of a subscription whose shared settings
    have one; everything else of the app is planned.
    """
    findings: list[Finding] = []
    accepted = _Accepted()
    left = MAX_EVENTS
    for subscription in inventory.of_app(app):
        left -= len(subscription.spec.events)
        if left < 0:
            message = f"App {app[1]} consumes more than {MAX_EVENTS} events: this subscription is not planned"
            fix = "Use a pattern, or several apps."
            findings.append(subscription.finding("error", "too-many-events", message, fix))
            continue
        readers, own_findings = _check(subscription, inventory, today)
        for selection, read in readers:
            conflicts = judged(subscription, partial(accepted.check, selection, read), None)[1]
            if not has_errors(conflicts):
                accepted.add(selection, read)
            own_findings += conflicts
        findings += bounded(subscription, list(dict.fromkeys(own_findings)))
    readers = accepted.readers
    try:
        findings += [*_slow(readers, inventory), *_suspended_alone(readers)]
        return _rendered(app, readers, inventory, findings)
    except Exception as error:  # noqa: BLE001 - a failure of one app must not affect the others
        failed = [failure(subscription, error) for subscription in _by_subscription(readers)]
        return _rendered(app, [], inventory, [*findings, *failed])


def _rendered(app: Key, readers: Readers, inventory: Inventory, findings: list[Finding]) -> AppPlan:
    """Render the plan for subscriptions without errors."""
    namespace, name = app
    by_channel, by_subscription = _by_channel(readers), _by_subscription(readers)
    replayed = [Channel(pubsub, replay_topic(name), "*") for pubsub in _replay_components(readers)]
    through = _through(namespace, by_channel, replayed, inventory)
    further = {one: channel for channel, used in through.items() for one in used if one != channel}
    originals = {channel.pubsub: original.pubsub for channel, original in further.items()}
    by_component: dict[str, list[EventSubscription]] = defaultdict(list)
    for subscription, read in by_subscription.items():
        for pubsub in dict.fromkeys(channel.pubsub for channel in read):
            by_component[pubsub].append(subscription)
    return AppPlan(
        app=name,
        namespace=namespace,
        subscriptions=tuple(
            sorted(
                _children(app, readers, through, by_channel, inventory),
                key=lambda child: str(child["metadata"]["name"]),
            )
        ),
        resiliency=resiliency.resiliency(name, namespace, by_component, originals),
        policy=policies.consumer_policy(name, readers),
        reads=_topics([*through, *further]),
        publishes=_topics([*_published(app, inventory, readers), *_own_dead_letters(name, further, by_channel)]),
        parallel=originals,
        enforcement={
            subscription.metadata.name: enforcement.enforcers(subscription, _bounds(subscription, read, inventory))
            for subscription, read in by_subscription.items()
        },
        events=_events(readers),
        findings=tuple(worst_first(findings)),
    )


def _children(
    app: Key,
    readers: Readers,
    through: dict[Channel, list[Channel]],
    by_channel: dict[Channel, list[Selection]],
    inventory: Inventory,
) -> Iterator[dict[str, Any]]:
    """Render the Dapr Subscriptions of an app: to each of its topics, and to its replays."""
    namespace, name = app
    for original, used in through.items():
        for channel in used:
            delivery = inventory.delivery(namespace, channel.pubsub)
            # Where messages are delivered one at a time, a bulk never fills.
            bulk, concurrent = not delivery.serial, delivery.concurrent
            if near := by_channel.get(original):
                yield subscriptions.merged(name, namespace, channel, near, bulk=bulk, concurrent=concurrent)
            elif readers[0][0].spec.consumer.kit:
                yield subscriptions.replays(name, namespace, channel)
            else:
                replayed = [
                    (selection, near)
                    for selection, read in readers
                    for near in read
                    if near.pubsub == original.pubsub and selection.spec.delivery.dead_letter.replay
                ]
                yield subscriptions.routed_replays(name, namespace, channel, replayed, bulk=bulk)


def _check(subscription: EventSubscription, inventory: Inventory, today: date) -> tuple[Readers, list[Finding]]:
    """Check a subscription on its own; return its valid entries with their channels, and all findings."""
    readers: Readers = []
    findings: list[Finding] = []
    nothing: list[Channel] = []
    for selection in selections(subscription):
        read, own = judged(subscription, partial(_check_selection, selection, inventory, today), nothing)
        if not has_errors(own):
            readers.append((selection, read))
        findings += own
    everything = [channel for _, read in readers for channel in read]
    shared = judged(subscription, lambda: (None, _check_shared(subscription, everything, inventory)), None)[1]
    return ([] if has_errors(shared) else readers), [*findings, *shared]


def _check_shared(subscription: EventSubscription, read: list[Channel], inventory: Inventory) -> list[Finding]:
    """Return the findings about the settings that all entries of a subscription share."""
    findings = conditions.check_shared(subscription)
    findings += ownership.of_subscription(subscription, inventory)
    findings += neighbours.of_subscription(subscription, inventory)
    findings += enforcement.unenforced(subscription, _bounds(subscription, read, inventory))
    findings += resiliency.check(subscription)
    findings += subscriptions.plain_delivery(subscription)
    for pubsub in sorted({channel.pubsub for channel in read}):
        namespace = subscription.metadata.namespace
        if inventory.delivery(namespace, pubsub).serial:
            findings += subscriptions.not_parallel(subscription, inventory.parallel(namespace, pubsub))
    return findings


def _check_selection(selection: Selection, inventory: Inventory, today: date) -> tuple[list[Channel], list[Finding]]:
    """Check one entry; return its channels and findings."""
    read, findings = channels.resolve(selection, inventory, today)
    if selection.events.pattern:  # leave out types with errors; for a type by name, that is an error
        home, _ = requested_type(selection)
        read = [
            channel
            for channel in read
            if not (matched := inventory.type((home, channel.type))) or types.grants(matched, inventory)
        ]
    findings += ownership.of_selection(selection, inventory)
    findings += consumers.of_selection(selection, read, inventory, today)
    findings += conditions.check(selection)
    event_type = channels.readable_type(selection, inventory)
    if event_type and not types.grants(event_type, inventory):
        message = f"{event_type.ref} has an error and cannot be consumed"
        fix = "Fix the EventType; see its findings."
        findings.append(selection.finding("error", "type-refused", message, fix, at=("type",)))
    if not has_errors(findings):
        findings += personal.check_conditions(selection, read, inventory)
    if event_type and not has_errors(findings):
        findings += conditions.probe(selection, event_type, read)
    if event_type and not event_type.spec.producers:
        message = f"{event_type.spec.type} has no producer: this subscription will not receive any event"
        fix = f"List the producing apps in spec.producers of {event_type.ref}."
        findings.append(selection.finding("warning", "unreachable-subscription", message, fix, at=("type",)))
    if event_type and event_type.spec.intent == "Command":
        first = inventory.consumers(event_type)[0]
        if app_key(selection) != app_key(first):
            other = ownership.named(first.subscription, selection.subscription)
            message = f"{selection.events.name} is a command and {other} already consumes it"
            fix = "A command has one consuming app; let other apps consume the resulting fact."
            findings.append(selection.finding("error", "command-with-two-consumers", message, fix, at=("type",)))
    return read, findings


def _bounds(subscription: EventSubscription, read: list[Channel], inventory: Inventory) -> enforcement.Capabilities:
    """Return the limitations of the components that a subscription reads from."""
    namespace = subscription.metadata.namespace
    return enforcement.Capabilities(
        bulkless=any(inventory.delivery(namespace, channel.pubsub).serial for channel in read),
        # The limit applies per topic: several topics deliver one message each, concurrently.
        serial=len(read) == 1 and inventory.delivery(namespace, read[0].pubsub).serial,
        starts=frozenset(inventory.delivery(namespace, channel.pubsub).start for channel in read),
    )


def _through(
    namespace: str, by_channel: dict[Channel, list[Selection]], replayed: list[Channel], inventory: Inventory
) -> dict[Channel, list[Channel]]:
    """Return the channels through which an app reads each of its topics, in components that share a consumer."""
    result: dict[Channel, list[Channel]] = {}
    originals = [*by_channel, *replayed]
    for pubsub in dict.fromkeys(channel.pubsub for channel in originals):
        components = inventory.parallel(namespace, pubsub)
        near = [channel for channel in originals if channel.pubsub == pubsub]
        is_serial = inventory.delivery(namespace, pubsub).serial
        spread = subscriptions.spread((channel.topic for channel in near), components)
        for channel in near:
            parallel = subscriptions.parallel(by_channel.get(channel, []), components)
            names = parallel if is_serial else [spread[channel.topic]]
            result[channel] = [replace(channel, pubsub=name) for name in names]
    return result


def _own_dead_letters(
    app: str, further: dict[Channel, Channel], by_channel: dict[Channel, list[Selection]]
) -> Iterator[Channel]:
    """Yield where daprd publishes dead letters: through the component that brought the event."""
    for channel, original in further.items():
        own = (reader.spec.delivery.dead_letter.topic for reader in by_channel.get(original, ()))
        for topic in {dead_letter_topic(app), *own}:
            if topic:
                yield Channel(channel.pubsub, topic, "*")


def _slow(readers: Readers, inventory: Inventory) -> Iterator[Finding]:
    """Yield a warning for slow rate limits: they occupy the workers that all topics of the app share."""
    grouped = _by_subscription(readers)
    for subscription, read in grouped.items():
        rate = subscription.spec.rate_limit
        namespace = subscription.metadata.namespace
        shared = {channel.pubsub for channel in read if inventory.delivery(namespace, channel.pubsub).sharing}
        pubsubs = {channel.pubsub for other, near in grouped.items() if other is not subscription for channel in near}
        if rate and rate.events_per_second < SLOW and shared & pubsubs:
            name = min(shared & pubsubs)
            message = f"Its {rate.events_per_second:g} events per second delay the app's other topics on {name}"
            fix = f"Set source.pubsub to a separate component, a copy of {name} with few workers and a short queue."
            yield subscription.finding("warning", "slow-among-others", message, fix, at=("spec", "rateLimit"))


def _suspended_alone(readers: Readers) -> Iterator[Finding]:
    """Yield an error for each suspended subscription that shares a topic with one that is not."""
    on: dict[tuple[str, str], list[Selection]] = defaultdict(list)
    for selection, read in readers:
        for channel in read:
            on[channel.pubsub, channel.topic].append(selection)
    for (_, topic), near in on.items():
        active = next((selection for selection in near if not selection.spec.suspend), None)
        for selection in near if active else ():
            if active and selection.spec.suspend:
                message = (
                    f"It is not suspended, because {active.ref} reads {topic} too, and a topic is suspended as a whole"
                )
                fix = "Suspend both, or use an app of its own for one of them."
                yield selection.subscription.finding("error", "suspended-alone", message, fix, at=("spec", "suspend"))


class _Accepted:
    """The accepted entries of an app's subscriptions, with which each further one must be compatible."""

    def __init__(self) -> None:
        self.readers: Readers = []
        self._on: dict[tuple[str, str], list[Selection]] = defaultdict(list)
        self._first: dict[str, Selection] = {}
        """Oldest entry by component: daprd has one retry and timeout policy per component."""

    def add(self, selection: Selection, read: list[Channel]) -> None:
        """Accept an entry."""
        self.readers.append((selection, read))
        for channel in read:
            self._on[channel.pubsub, channel.topic].append(selection)
            self._first.setdefault(channel.pubsub, selection)

    def check(self, selection: Selection, read: list[Channel]) -> tuple[None, list[Finding]]:
        """Return the conflicts of a further entry with the accepted ones on the same topics."""
        findings = list(self._exceeded_limits(selection, read))
        if findings:
            return None, findings
        shared: dict[Selection, list[Channel]] = defaultdict(list)
        for channel in read:
            for senior in self._on.get((channel.pubsub, channel.topic), ()):
                shared[senior].append(channel)
        for senior, both in shared.items():
            findings += overlaps.conflicts(selection, senior, both)
            findings += subscriptions.disagreement(selection.subscription, senior.subscription)
        firsts = {first: first for channel in read if (first := self._first.get(channel.pubsub))}
        for first in firsts:
            findings += resiliency.disagreement(selection.subscription, first.subscription)
        return None, findings

    def _exceeded_limits(self, selection: Selection, read: list[Channel]) -> Iterator[Finding]:
        rules = conditions.rules_of(selection)
        for channel in read:
            existing = self._on.get((channel.pubsub, channel.topic), ())
            if len(rules) + sum(len(conditions.rules_of(other)) for other in existing) > MAX_RULES:
                message = f"{channel.topic} would have more than {MAX_RULES} rules to evaluate for each event"
                fix = "Filter in the app, or use several apps."
                yield selection.finding("error", "too-many-rules", message, fix)
                return
        if sum(len(rule.match) for rule in rules) * len(read) > MAX_RULE_TEXT:
            message = f"Its conditions on {len(read)} topics exceed {MAX_RULE_TEXT} characters in total"
            fix = "Shorten the filters, or consume fewer types."
            yield selection.finding("error", "too-many-rules", message, fix, at=("filters",))


def _by_subscription(readers: Readers) -> dict[EventSubscription, list[Channel]]:
    """Return the channels of each subscription."""
    grouped: dict[EventSubscription, list[Channel]] = defaultdict(list)
    for selection, read in readers:
        grouped[selection.subscription] += read
    return dict(grouped)


def _events(readers: Readers) -> dict[str, dict[int, tuple[tuple[str, str], ...]]]:
    versions: dict[str, dict[int, tuple[tuple[str, str], ...]]] = defaultdict(dict)
    for selection, read in readers:
        topics = sorted({(channel.pubsub, channel.topic) for channel in read})
        versions[selection.metadata.name][selection.index] = tuple(topics)
    return dict(versions)


def _by_channel(readers: Readers) -> dict[Channel, list[Selection]]:
    """Group entries by channel, except channels with only suspended ones, whose events stay at the broker."""
    groups: dict[tuple[str, str], tuple[Channel, list[Selection]]] = {}
    for selection, read in readers:
        for channel in read:
            groups.setdefault((channel.pubsub, channel.topic), (channel, []))[1].append(selection)
    return {channel: near for channel, near in groups.values() if not all(reader.spec.suspend for reader in near)}


def _replay_components(readers: Readers) -> list[str]:
    """Return the components with subscriptions that accept replays."""
    return sorted(
        {
            channel.pubsub
            for selection, read in readers
            for channel in read
            if selection.spec.delivery.dead_letter.replay
        }
    )


def _published(app: Key, inventory: Inventory, readers: Readers) -> Iterable[Channel]:
    """Yield the channels that the app publishes to, including dead letters, which daprd publishes as the app."""
    for event_type in inventory.produced_by(app):
        if types.grants(event_type, inventory):
            yield from channels.published(event_type)
    for pubsub in _replay_components([reader for reader in readers if reader[0].spec.consumer.kit]):
        yield Channel(pubsub, REPLAY_OUTCOMES, "*")
    for selection, read in readers:
        own = selection.spec.delivery.dead_letter.topic
        for pubsub in {channel.pubsub for channel in read}:
            yield Channel(pubsub, dead_letter_topic(app[1]), "*")
            if own:
                yield Channel(pubsub, own, "*")
        if is_dead_letters(selection):
            for channel in read:
                yield Channel(channel.pubsub, replay_topic(channel.topic.removeprefix(DEAD_LETTER_PREFIX)), "*")


def _topics(read: Iterable[Channel]) -> Topics:
    by_component: dict[str, set[str]] = defaultdict(set)
    for channel in read:
        by_component[channel.pubsub].add(channel.topic)
    return {pubsub: tuple(sorted(topics)) for pubsub, topics in sorted(by_component.items())}
