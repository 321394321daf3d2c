"""Plan a single app: a pure function of the inventory, so that an operator can replan only the changed app."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import date
from functools import partial

from tidings_plan import (
    channels,
    conditions,
    enforcement,
    neighbours,
    overlaps,
    ownership,
    policies,
    resiliency,
    subscriptions,
    types,
)
from tidings_plan.channels import Channel
from tidings_plan.conventions import DEAD_LETTER_PREFIX, REPLAY_OUTCOMES, dead_letter_topic, replay_topic
from tidings_plan.guarding import failure, judged
from tidings_plan.model import AppPlan, Topics
from tidings_plan.resources.findings import Finding, has_errors, worst_first
from tidings_plan.resources.inventory import Inventory, Key, app_key, is_dead_letters, requested_type
from tidings_plan.resources.subscription import EventSubscription

SLOW = 10.0
"""Events per second below which a subscription needs its own workers, measured with 1/s on 12 and 32 workers."""

MAX_SUBSCRIPTIONS = 1_000
"""Maximum per app: each change of one of them replans the app."""
MAX_RULES = 128
"""Maximum per app and topic: rules are compared pairwise here and evaluated sequentially by the sidecar."""
MAX_RULE_TEXT = 4_000_000

Readers = list[tuple[EventSubscription, list[Channel]]]


def plan_app(app: Key, inventory: Inventory, today: date) -> AppPlan:
    """Plan one app, given by namespace and app id.

    A subscription with an error is ignored; the app's other subscriptions are planned without it.
    """
    findings: list[Finding] = []
    accepted = _AcceptedSubscriptions()
    of_app = inventory.of_app(app)
    for subscription in of_app[:MAX_SUBSCRIPTIONS]:
        nothing: list[Channel] = []
        read, own_findings = judged(
            subscription, partial(_check_with, subscription, inventory, today, accepted), nothing
        )
        if not has_errors(own_findings):
            accepted.add(subscription, read)
        findings += own_findings
    for subscription in of_app[MAX_SUBSCRIPTIONS:]:
        message = f"App {app[1]} has more than {MAX_SUBSCRIPTIONS} subscriptions: this one is not planned"
        fix = "Use a pattern, or several apps."
        findings.append(subscription.finding("error", "too-many-subscriptions", message, fix))
    readers = accepted.readers
    try:
        findings += _slow(readers, inventory)
        return _rendered(app, readers, inventory, findings)
    except Exception as error:  # noqa: BLE001 - a failure of one app must not affect the others
        failed = [failure(subscription, error) for subscription, _ in readers]
        return _rendered(app, [], inventory, [*findings, *failed])


def _rendered(app: Key, readers: Readers, inventory: Inventory, findings: list[Finding]) -> AppPlan:
    """Render the plan for subscriptions without errors."""
    namespace, name = app
    by_channel = _by_channel(readers)
    replayed = _replay_components(readers)
    parallel = _parallel(by_channel, inventory)
    originals = {each.pubsub: original.pubsub for each, original in parallel.items()}
    rendered = [*by_channel.items(), *((each, by_channel[original]) for each, original in parallel.items())]
    children = [
        subscriptions.merged(
            name,
            namespace,
            channel,
            near,
            bulk=not _is_bulkless(namespace, [channel], inventory),
            concurrent=inventory.is_concurrent(namespace, channel.pubsub),
        )
        for channel, near in rendered
    ]
    children += [subscriptions.replays(name, namespace, pubsub) for pubsub in replayed]
    return AppPlan(
        app=name,
        namespace=namespace,
        subscriptions=tuple(sorted(children, key=lambda child: str(child["metadata"]["name"]))),
        resiliency=resiliency.resiliency(name, namespace, _by_component(readers), originals),
        policy=policies.consumer_policy(name, readers),
        reads=_topics([*by_channel, *parallel, *(Channel(pubsub, replay_topic(name), "*") for pubsub in replayed)]),
        publishes=_topics([*_published(app, inventory, readers), *_own_dead_letters(name, parallel, by_channel)]),
        parallel=originals,
        enforcement={
            subscription.metadata.name: enforcement.enforcers(subscription, _bounds(subscription, read, inventory))
            for subscription, read in readers
        },
        findings=tuple(worst_first(findings)),
    )


def _check_with(
    subscription: EventSubscription, inventory: Inventory, today: date, accepted: "_AcceptedSubscriptions"
) -> tuple[list[Channel], list[Finding]]:
    read, findings = _check_alone(subscription, inventory, today)
    if not has_errors(findings):
        findings += accepted.check(subscription, read)
    return read, findings


def _check_alone(
    subscription: EventSubscription, inventory: Inventory, today: date
) -> tuple[list[Channel], list[Finding]]:
    """Check a subscription on its own; return its channels and findings."""
    read, findings = channels.resolve(subscription, inventory, today)
    read = [channel for channel in read if _is_granted(subscription, channel, inventory)]
    findings += ownership.of_subscription(subscription, inventory)
    findings += neighbours.of_subscription(subscription, inventory)
    findings += conditions.check(subscription)
    findings += enforcement.unenforced(subscription, _bounds(subscription, read, inventory))
    findings += resiliency.check(subscription)
    findings += subscriptions.plain_delivery(subscription)
    for pubsub in sorted({each.pubsub for each in read}):
        namespace = subscription.metadata.namespace
        if inventory.is_serial(namespace, pubsub):
            findings += subscriptions.not_parallel(subscription, inventory.parallel(namespace, pubsub))
    event_type = channels.readable_type(subscription, inventory)
    if event_type and not types.grants(event_type, inventory):
        message = f"{event_type.ref} has an error and cannot be consumed"
        fix = "Fix the EventType; see its findings."
        at = ("spec", "eventTypeRef", "name")
        findings.append(subscription.finding("error", "type-refused", message, fix, at=at))
    if event_type and not has_errors(findings):
        findings += conditions.probe(subscription, event_type, read)
    if event_type and not event_type.spec.producers:
        message = f"{event_type.spec.type} has no producer: this subscription will not receive any event"
        fix = f"List the producing apps in spec.producers of {event_type.ref}."
        at = ("spec", "eventTypeRef", "name")
        findings.append(subscription.finding("warning", "unreachable-subscription", message, fix, at=at))
    if event_type and event_type.spec.intent == "Command":
        findings += _competing_consumer(subscription, inventory.consumers(event_type))
    return read, findings


def _bounds(subscription: EventSubscription, read: list[Channel], inventory: Inventory) -> enforcement.Capabilities:
    """Return the limitations of the components that a subscription reads from."""
    namespace = subscription.metadata.namespace
    return enforcement.Capabilities(
        bulkless=_is_bulkless(namespace, read, inventory),
        # The limit applies per topic: several topics deliver one message each, concurrently.
        serial=len(read) == 1 and inventory.is_serial(namespace, read[0].pubsub),
    )


def _parallel(by_channel: dict[Channel, list[EventSubscription]], inventory: Inventory) -> dict[Channel, Channel]:
    """Return the further channels by which an app reads several events of a topic at once, and of each the original."""
    found: dict[Channel, Channel] = {}
    for channel, near in by_channel.items():
        components = inventory.parallel(near[0].metadata.namespace, channel.pubsub)
        for component in subscriptions.parallel(near, components)[1:]:
            found[replace(channel, pubsub=component)] = channel
    return found


def _own_dead_letters(
    app: str, parallel: dict[Channel, Channel], by_channel: dict[Channel, list[EventSubscription]]
) -> Iterator[Channel]:
    """Yield where daprd publishes dead letters: through the component that brought the event."""
    for channel, original in parallel.items():
        for topic in {dead_letter_topic(app), *(each.spec.delivery.dead_letter.topic for each in by_channel[original])}:
            if topic:
                yield Channel(channel.pubsub, topic, "*")


def _is_bulkless(namespace: str, read: list[Channel], inventory: Inventory) -> bool:
    """Return True if bulk delivery is harmful, because messages are delivered one at a time and a bulk never fills."""
    return any(inventory.is_serial(namespace, channel.pubsub) for channel in read)


def _slow(readers: Readers, inventory: Inventory) -> Iterator[Finding]:
    """Yield a warning for slow rate limits: they occupy the workers that all topics of the app share."""
    for subscription, read in readers:
        rate = subscription.spec.rate_limit
        namespace = subscription.metadata.namespace
        shared = {channel.pubsub for channel in read if inventory.is_sharing(namespace, channel.pubsub)}
        other_components = {channel.pubsub for other, near in readers if other is not subscription for channel in near}
        if rate and rate.events_per_second < SLOW and shared & other_components:
            name = min(shared & other_components)
            message = f"Its {rate.events_per_second:g} events per second delay the app's other topics on {name}"
            fix = f"Set source.pubsub to a separate component, a copy of {name} with few workers and a short queue."
            yield subscription.finding("warning", "slow-among-others", message, fix, at=("spec", "rateLimit"))


def _competing_consumer(subscription: EventSubscription, consumers: list[EventSubscription]) -> list[Finding]:
    """Return an error if another app already consumes the command: only the oldest consumer may."""
    owner = app_key(consumers[0])
    if app_key(subscription) == owner:
        return []
    command = subscription.spec.event_type_ref.name
    message = f"{command} is a command and {ownership.named(consumers[0], subscription)} already consumes it"
    fix = "A command has one consuming app; let other apps consume the resulting fact."
    at = ("spec", "eventTypeRef", "name")
    return [subscription.finding("error", "command-with-two-consumers", message, fix, at=at)]


def _is_granted(subscription: EventSubscription, channel: Channel, inventory: Inventory) -> bool:
    """Return False if a pattern matches the channel but its type has errors. For a type by name, that is an error."""
    event_type = (
        inventory.type((requested_type(subscription)[0], channel.type)) if subscription.spec.is_wildcard else None
    )
    return event_type is None or types.grants(event_type, inventory)


class _AcceptedSubscriptions:
    """The accepted subscriptions of an app, with which each further one must be compatible."""

    def __init__(self) -> None:
        self.readers: Readers = []
        self._on: dict[tuple[str, str], list[EventSubscription]] = defaultdict(list)
        self._first: dict[str, EventSubscription] = {}
        """Oldest subscription by component: daprd has one retry and timeout policy per component."""

    def add(self, subscription: EventSubscription, read: list[Channel]) -> None:
        """Accept a subscription."""
        self.readers.append((subscription, read))
        for channel in read:
            self._on[channel.pubsub, channel.topic].append(subscription)
            self._first.setdefault(channel.pubsub, subscription)

    def check(self, subscription: EventSubscription, read: list[Channel]) -> list[Finding]:
        """Return the conflicts of a further subscription with the accepted ones on the same topics."""
        findings = list(self._exceeded_limits(subscription, read))
        if findings:
            return findings
        shared: dict[Key, tuple[EventSubscription, list[Channel]]] = {}
        for channel in read:
            for senior in self._on.get((channel.pubsub, channel.topic), ()):
                shared.setdefault(senior.key, (senior, []))[1].append(channel)
        for senior, both in shared.values():
            findings += overlaps.conflicts(subscription, senior, both)
            findings += subscriptions.disagreement(subscription, senior)
        firsts = {first.key: first for channel in read if (first := self._first.get(channel.pubsub))}
        for first in firsts.values():
            findings += resiliency.disagreement(subscription, first)
        return findings

    def _exceeded_limits(self, subscription: EventSubscription, read: list[Channel]) -> Iterator[Finding]:
        rules = conditions.rules_of(subscription)
        for channel in read:
            existing = self._on.get((channel.pubsub, channel.topic), ())
            if len(rules) + sum(len(conditions.rules_of(other)) for other in existing) > MAX_RULES:
                message = f"{channel.topic} would have more than {MAX_RULES} rules to evaluate for each event"
                fix = "Filter in the app, or use several apps."
                yield subscription.finding("error", "too-many-rules", message, fix, at=("spec", "routes"))
                return
        if sum(len(rule.match) for rule in rules) * len(read) > MAX_RULE_TEXT:
            message = f"Its conditions on {len(read)} topics exceed {MAX_RULE_TEXT} characters in total"
            fix = "Shorten the filters, or consume fewer types."
            yield subscription.finding("error", "too-many-rules", message, fix, at=("spec", "filters"))


def _by_channel(readers: Readers) -> dict[Channel, list[EventSubscription]]:
    """Group subscriptions by channel, except channels with only suspended ones, whose events stay at the broker."""
    groups: dict[tuple[str, str], tuple[Channel, list[EventSubscription]]] = {}
    for subscription, read in readers:
        for channel in read:
            groups.setdefault((channel.pubsub, channel.topic), (channel, []))[1].append(subscription)
    return {channel: near for channel, near in groups.values() if not all(reader.spec.suspend for reader in near)}


def _by_component(readers: Readers) -> dict[str, list[EventSubscription]]:
    by_component: dict[str, list[EventSubscription]] = defaultdict(list)
    for subscription, read in readers:
        for pubsub in dict.fromkeys(channel.pubsub for channel in read):
            by_component[pubsub].append(subscription)
    return dict(by_component)


def _replay_components(readers: Readers) -> list[str]:
    """Return the components with subscriptions that accept replays, which requires the kit."""
    return sorted(
        {
            channel.pubsub
            for subscription, read in readers
            for channel in read
            if subscription.spec.delivery.dead_letter.replay and subscription.spec.consumer.kit
        }
    )


def _published(app: Key, inventory: Inventory, readers: Readers) -> Iterable[Channel]:
    """Yield the channels that the app publishes to, including dead letters, which daprd publishes as the app."""
    for event_type in inventory.produced_by(app):
        if types.grants(event_type, inventory):
            yield from channels.published(event_type)
    for pubsub in _replay_components(readers):
        yield Channel(pubsub, REPLAY_OUTCOMES, "*")
    for subscription, read in readers:
        own = subscription.spec.delivery.dead_letter.topic
        for pubsub in {channel.pubsub for channel in read}:
            yield Channel(pubsub, dead_letter_topic(app[1]), "*")
            if own:
                yield Channel(pubsub, own, "*")
        if is_dead_letters(subscription):
            for channel in read:
                yield Channel(channel.pubsub, replay_topic(channel.topic.removeprefix(DEAD_LETTER_PREFIX)), "*")


def _topics(read: Iterable[Channel]) -> Topics:
    by_component: dict[str, set[str]] = defaultdict(set)
    for channel in read:
        by_component[channel.pubsub].add(channel.topic)
    return {pubsub: tuple(sorted(topics)) for pubsub, topics in sorted(by_component.items())}
