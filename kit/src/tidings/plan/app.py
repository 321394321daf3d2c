"""The plan of one app: a pure function of the inventory, so that an operator can redo just the app that changed."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import date
from functools import partial

from tidings.plan import (
    channels,
    conditions,
    keepers,
    neighbours,
    overlaps,
    ownership,
    policies,
    resiliency,
    subscriptions,
    types,
)
from tidings.plan.channels import Channel
from tidings.plan.conventions import DEAD_LETTER_PREFIX, REPLAY_OUTCOMES, dead_letter_topic, replay_topic
from tidings.plan.guarding import failure, judged
from tidings.plan.model import AppPlan, Topics
from tidings.resources.findings import Finding, has_errors, worst_first
from tidings.resources.inventory import Inventory, Key, app_key, is_dead_letters, wanted_type
from tidings.resources.subscription import EventSubscription

SLOW = 10.0
"""Events a second, below which a subscription needs workers of its own: seen with one a second, 12 and 32 workers."""

MAX_SUBSCRIPTIONS = 1_000
"""Of one app: its plan is made anew with each change of one of them."""
MAX_RULES = 128
"""Of one app on one topic: they are compared with each other, and the sidecar asks one after the other."""
MAX_RULE_TEXT = 4_000_000

Readers = list[tuple[EventSubscription, list[Channel]]]


def plan_app(app: Key, inventory: Inventory, today: date) -> AppPlan:
    """Plan one app (namespace and app id).

    A subscription with an error programs nothing; the others of the app are planned as if it were not there.
    """
    findings: list[Finding] = []
    beside = _Beside()
    of_app = inventory.of_app(app)
    for subscription in of_app[:MAX_SUBSCRIPTIONS]:
        nothing: list[Channel] = []
        read, found = judged(subscription, partial(_verdict, subscription, inventory, today, beside), nothing)
        if not has_errors(found):
            beside.add(subscription, read)
        findings += found
    for subscription in of_app[MAX_SUBSCRIPTIONS:]:
        message = f"App {app[1]} has more than {MAX_SUBSCRIPTIONS} subscriptions: this one is not planned"
        mend = "Read with a pattern, or with several apps."
        findings.append(subscription.finding("error", "too-many-subscriptions", message, mend))
    readers = beside.readers
    try:
        findings += _slow(readers, inventory)
        return _rendered(app, readers, inventory, findings)
    except Exception as error:  # noqa: BLE001 - what one app needs concerns no other
        failed = [failure(each, error) for each, _ in readers]
        return _rendered(app, [], inventory, [*findings, *failed])


def _rendered(app: Key, readers: Readers, inventory: Inventory, findings: list[Finding]) -> AppPlan:
    """Return what Dapr, the kit and the broker need for subscriptions that have no error."""
    namespace, name = app
    by_channel = _by_channel(readers)
    replayed = _replayed(readers)
    children = [
        subscriptions.merged(
            name,
            namespace,
            each,
            near,
            bulk=not _is_bulkless(namespace, [each], inventory),
            concurrent=inventory.is_concurrent(namespace, each.pubsub),
        )
        for each, near in by_channel.items()
    ]
    children += [subscriptions.replays(name, namespace, pubsub) for pubsub in replayed]
    return AppPlan(
        app=name,
        namespace=namespace,
        subscriptions=tuple(sorted(children, key=lambda child: str(child["metadata"]["name"]))),
        resiliency=resiliency.resiliency(name, namespace, _by_component(readers)),
        policy=policies.consumer_policy(name, readers),
        reads=_topics([*by_channel, *(Channel(pubsub, replay_topic(name), "*") for pubsub in replayed)]),
        publishes=_topics(_published(app, inventory, readers)),
        enforcement={
            each.metadata.name: keepers.keepers(each, _bounds(each, read, inventory)) for each, read in readers
        },
        findings=tuple(worst_first(findings)),
    )


def _verdict(
    subscription: EventSubscription, inventory: Inventory, today: date, beside: "_Beside"
) -> tuple[list[Channel], list[Finding]]:
    read, found = _judge(subscription, inventory, today)
    if not has_errors(found):
        found += beside.check(subscription, read)
    return read, found


def _judge(subscription: EventSubscription, inventory: Inventory, today: date) -> tuple[list[Channel], list[Finding]]:
    """Look at a subscription by itself."""
    read, findings = channels.resolve(subscription, inventory, today)
    read = [each for each in read if _is_granted(subscription, each, inventory)]
    findings += ownership.of_subscription(subscription, inventory)
    findings += neighbours.of_subscription(subscription, inventory)
    findings += conditions.check(subscription)
    findings += keepers.unkept(subscription, _bounds(subscription, read, inventory))
    findings += resiliency.check(subscription)
    findings += subscriptions.plain_delivery(subscription)
    event_type = channels.readable_type(subscription, inventory)
    if event_type and not types.grants(event_type, inventory):
        message = f"{event_type.ref} has an error, so nobody may read it"
        mend = "Correct the EventType: its own findings say what is wrong."
        at = ("spec", "eventTypeRef", "name")
        findings.append(subscription.finding("error", "type-refused", message, mend, at=at))
    if event_type and not has_errors(findings):
        findings += conditions.probe(subscription, event_type, read)
    if event_type and not event_type.spec.producers:
        message = f"Nobody publishes {event_type.spec.type}: this subscription would wait for ever"
        mend = f"Name its apps in spec.producers of {event_type.ref}."
        at = ("spec", "eventTypeRef", "name")
        findings.append(subscription.finding("warning", "unreachable-subscription", message, mend, at=at))
    if event_type and event_type.spec.intent == "Command":
        findings += _rival(subscription, inventory.consumers(event_type))
    return read, findings


def _bounds(subscription: EventSubscription, read: list[Channel], inventory: Inventory) -> keepers.Bounds:
    """Return what the components that it reads from can and cannot do."""
    namespace = subscription.metadata.namespace
    return keepers.Bounds(
        bulkless=_is_bulkless(namespace, read, inventory),
        # One at a time on each topic: of several, each brings one.
        serial=len(read) == 1 and inventory.is_serial(namespace, read[0].pubsub),
    )


def _is_bulkless(namespace: str, read: list[Channel], inventory: Inventory) -> bool:
    """Return whether bulk delivery does harm: one message at a time would wait for others that cannot come."""
    return any(inventory.is_serial(namespace, each.pubsub) for each in read)


def _slow(readers: Readers, inventory: Inventory) -> Iterator[Finding]:
    """A few events a second fill the workers that all of an app's topics share, and the others wait with them."""
    for subscription, read in readers:
        rate = subscription.spec.rate_limit
        namespace = subscription.metadata.namespace
        shared = {each.pubsub for each in read if inventory.is_sharing(namespace, each.pubsub)}
        others = {each.pubsub for other, near in readers if other is not subscription for each in near}
        if rate and rate.events_per_second < SLOW and shared & others:
            name = min(shared & others)
            message = f"Its {rate.events_per_second:g} events a second hold up the app's other topics on {name}"
            mend = f"Name a component of its own in source: a copy of {name} with few workers and a short queue."
            yield subscription.finding("warning", "slow-among-others", message, mend, at=("spec", "rateLimit"))


def _rival(subscription: EventSubscription, consumers: list[EventSubscription]) -> list[Finding]:
    """A command is done once: the first app that asked for it has it."""
    owner = app_key(consumers[0])
    if app_key(subscription) == owner:
        return []
    command = subscription.spec.event_type_ref.name
    message = f"{command} is a command and {ownership.named(consumers[0], subscription)} already takes it"
    mend = "A command has one consuming app; let others read the fact that results from it."
    at = ("spec", "eventTypeRef", "name")
    return [subscription.finding("error", "command-with-two-consumers", message, mend, at=at)]


def _is_granted(subscription: EventSubscription, channel: Channel, inventory: Inventory) -> bool:
    """Whether what a pattern covers may be read: of a type by name, an error says so."""
    event_type = inventory.type((wanted_type(subscription)[0], channel.type)) if subscription.spec.is_wildcard else None
    return event_type is None or types.grants(event_type, inventory)


class _Beside:
    """The subscriptions of an app that are planned already: each further one must fit beside them."""

    def __init__(self) -> None:
        self.readers: Readers = []
        self._on: dict[tuple[str, str], list[EventSubscription]] = defaultdict(list)
        self._first: dict[str, EventSubscription] = {}
        """By component, the oldest: daprd keeps one retry and timeout for each component."""

    def add(self, subscription: EventSubscription, read: list[Channel]) -> None:
        """Plan one more."""
        self.readers.append((subscription, read))
        for channel in read:
            self._on[channel.pubsub, channel.topic].append(subscription)
            self._first.setdefault(channel.pubsub, subscription)

    def check(self, subscription: EventSubscription, read: list[Channel]) -> list[Finding]:
        """Return what is wrong with one more. It is compared with those on the same topics, which are bounded."""
        findings = list(self._too_much(subscription, read))
        if findings:
            return findings
        shared: dict[Key, tuple[EventSubscription, list[Channel]]] = {}
        for channel in read:
            for senior in self._on.get((channel.pubsub, channel.topic), ()):
                shared.setdefault(senior.key, (senior, []))[1].append(channel)
        for senior, both in shared.values():
            findings += overlaps.conflicts(subscription, senior, both)
            findings += subscriptions.disagreement(subscription, senior)
        firsts = {first.key: first for each in read if (first := self._first.get(each.pubsub))}
        for first in firsts.values():
            findings += resiliency.disagreement(subscription, first)
        return findings

    def _too_much(self, subscription: EventSubscription, read: list[Channel]) -> Iterator[Finding]:
        rules = conditions.rules_of(subscription)
        for channel in read:
            there = self._on.get((channel.pubsub, channel.topic), ())
            if len(rules) + sum(len(conditions.rules_of(each)) for each in there) > MAX_RULES:
                message = f"{channel.topic} would have more than {MAX_RULES} rules, which a sidecar asks for each event"
                mend = "Let the app decide, or read with several apps."
                yield subscription.finding("error", "too-many-rules", message, mend, at=("spec", "routes"))
                return
        if sum(len(each.match) for each in rules) * len(read) > MAX_RULE_TEXT:
            message = f"Its conditions on {len(read)} topics are longer than {MAX_RULE_TEXT} characters together"
            mend = "Shorten the filters, or read fewer types."
            yield subscription.finding("error", "too-many-rules", message, mend, at=("spec", "filters"))


def _by_channel(readers: Readers) -> dict[Channel, list[EventSubscription]]:
    """Group by topic, leaving out what is suspended as a whole: the broker then keeps the events."""
    found: dict[tuple[str, str], tuple[Channel, list[EventSubscription]]] = {}
    for subscription, read in readers:
        for channel in read:
            found.setdefault((channel.pubsub, channel.topic), (channel, []))[1].append(subscription)
    return {channel: near for channel, near in found.values() if not all(each.spec.suspend for each in near)}


def _by_component(readers: Readers) -> dict[str, list[EventSubscription]]:
    found: dict[str, list[EventSubscription]] = defaultdict(list)
    for subscription, read in readers:
        for pubsub in dict.fromkeys(channel.pubsub for channel in read):
            found[pubsub].append(subscription)
    return dict(found)


def _replayed(readers: Readers) -> list[str]:
    """Return the components on which something of this app may be sent again: only the kit can sort it out."""
    return sorted(
        {
            channel.pubsub
            for subscription, read in readers
            for channel in read
            if subscription.spec.delivery.dead_letter.replay and subscription.spec.consumer.kit
        }
    )


def _published(app: Key, inventory: Inventory, readers: Readers) -> Iterable[Channel]:
    """Return what the app must be allowed to publish. daprd publishes dead letters in the app's own name."""
    for event_type in inventory.produced_by(app):
        if types.grants(event_type, inventory):
            yield from channels.published(event_type)
    for pubsub in _replayed(readers):
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
    found: dict[str, set[str]] = defaultdict(set)
    for channel in read:
        found[channel.pubsub].add(channel.topic)
    return {pubsub: tuple(sorted(topics)) for pubsub, topics in sorted(found.items())}
