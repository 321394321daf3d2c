"""Render Dapr Subscriptions (v2alpha1): one per app, component and topic, with the rules of all its subscriptions."""

import hashlib
import re
from collections.abc import Iterable, Iterator
from typing import Any
from zlib import crc32

from tidings.conventions import IGNORED_PATH, REPLAY_PATH, dead_letter_topic, event_path
from tidings_plan import filters
from tidings_plan.channels import Channel
from tidings_plan.conditions import Rule, rules_of
from tidings_plan.overlaps import in_order
from tidings_plan.resources import durations
from tidings_plan.resources.findings import Finding
from tidings_plan.resources.subscription import EventSubscription, Filter, Selection

_NAME_LIMIT = 253
_WORD = "[a-z0-9]+(?:[A-Z][a-z0-9]+)*"
_LOSSLESS = re.compile(rf"{_WORD}(?:\.{_WORD})*")

MOST_AT_ONCE = 32
"""Default maximum of events per delivery: as many as components/redis has workers."""
SLOWEST_BULK = 5
"""Maximum seconds a rate limit may stretch one delivery: shorter than any broker's acknowledgement timeout."""


def merged(
    app: str,
    namespace: str,
    channel: Channel,
    readers: list[Selection],
    *,
    bulk: bool = True,
    concurrent: bool = False,
) -> dict[str, Any]:
    """Build the Dapr Subscription of an app for a topic.

    A default path is always set, because daprd dead-letters events that match neither a rule nor a default.

    Args:
        app: App id.
        namespace: Namespace of the app.
        channel: Component and topic.
        readers: All entries of the app's subscriptions on the topic, oldest first.
        bulk: Whether the component supports a requested bulk delivery.
        concurrent: Whether the component delivers several messages of a topic concurrently.

    """
    topic = channel.topic
    named = [(reader.metadata.name, rule) for reader in readers for rule in rules_of(reader)]
    ordered = in_order(named)
    always = next((rule for rule in ordered if not rule.match), Rule("", IGNORED_PATH))
    rules = [{"match": rule.match, "path": rule.path or event_path(topic)} for rule in ordered if rule.match]
    routes = {**({"rules": rules} if rules else {}), "default": always.path or event_path(topic)}
    bulk_subscribe = _bulk(readers) if bulk else None
    if readers[0].spec.consumer.kit:
        bulk_subscribe = bulk_subscribe or _acknowledged_entries(readers, concurrent=concurrent)
    raw = readers[0].spec.consumer.kit and not rules
    # With the kit, daprd's own dead letters are events that the kit never received: they go to the app's topic.
    first = readers[0].spec
    own = None if first.consumer.kit else first.delivery.dead_letter.topic
    return _subscription(app, namespace, channel, routes, own or dead_letter_topic(app), bulk_subscribe, raw=raw)


def parallel(readers: list[Selection], components: list[str]) -> list[str]:
    """Return the components, of those that share a consumer, through which an app reads a topic: each brings one event.

    Where order is asked for there is one, since events that are under way at once may overtake each other. With the
    kit, which keeps to each subscription's bound, there are as many as the widest of them asks for.
    """
    if any(reader.spec.ordering.mode == "Key" for reader in readers):
        return components[:1]
    bounds = [reader.spec.max_concurrency or 1 for reader in readers] or [1]
    return components[: max(bounds) if all(reader.spec.consumer.kit for reader in readers) else min(bounds)]


def spread(topics: Iterable[str], components: list[str]) -> dict[str, str]:
    """Return the component through which each topic is read: one of its own if enough of them share a consumer.

    On RabbitMQ, daprd publishes and subscribes on one channel per component, where calls that overlap take each other's
    answers (docs/upstream/rabbitmq-channel.md): the first component only publishes, unless it is alone. On Kafka, a
    component delivers to one topic at a time. Most topics keep their component when others are added or removed.
    """
    readers = components[1:] or components
    free: list[str] = []
    chosen: dict[str, str] = {}
    for topic in sorted(topics):
        free = free or [*readers]
        preferred = readers[crc32(topic.encode()) % len(readers)]
        chosen[topic] = preferred if preferred in free else free[0]
        free.remove(chosen[topic])
    return chosen


def not_parallel(subscription: EventSubscription, components: list[str]) -> Iterator[Finding]:
    """Yield a finding where a component brings fewer events at once than a subscription may handle."""
    spec = subscription.spec
    if spec.ordering.mode == "None" and (spec.max_concurrency or 1) > len(components):
        message = f"maxConcurrency is {spec.max_concurrency}, and {components[0]} brings one event of a topic at a time"
        if len(components) > 1:
            message = f"maxConcurrency is {spec.max_concurrency}, and {', '.join(components)} bring one event each"
        remedy = f"Write at most {len(components)}, or add the component {components[0]}-{len(components)}."
        yield subscription.finding("warning", "too-few-components", message, remedy, at=("spec", "maxConcurrency"))


def replays(app: str, namespace: str, channel: Channel) -> dict[str, Any]:
    """Build the Dapr Subscription for replays to an app."""
    routes = {"default": REPLAY_PATH}
    return _subscription(app, namespace, channel, routes, dead_letter_topic(app), _bulk_of(1), raw=True)


def routed_replays(
    app: str, namespace: str, channel: Channel, readers: list[tuple[Selection, Channel]], *, bulk: bool
) -> dict[str, Any]:
    """Build the Dapr Subscription for replays to an app without the kit.

    The app does not know `replayto`, so daprd routes each replayed event to the path on which the subscription that it
    is for receives new events from the same topic: the app may read types and versions that only it knows. Any other
    event goes to the path for ignored ones.
    """
    rules = [
        {"match": _replayed(selection, original, rule), "path": rule.path or event_path(original.topic)}
        for selection, original in readers
        for rule in rules_of(selection)
    ]
    bulk_subscribe = _bulk([selection for selection, _ in readers]) if bulk else None
    routes = {"rules": rules, "default": IGNORED_PATH}
    return _subscription(app, namespace, channel, routes, dead_letter_topic(app), bulk_subscribe, raw=False)


def _replayed(selection: Selection, original: Channel, rule: Rule) -> str:
    """Return the condition that a replayed event is for a rule of a subscription; `*` stands for any subscription."""
    targets = (Filter(exact={"replayto": selection.metadata.name}), Filter(exact={"replayto": "*"}))
    conditions = filters.terms((Filter(any=targets), Filter(exact={"replaytopic": original.topic})))
    return filters.conjunction([*conditions, *([filters.embeddable(rule.match)] if rule.match else [])])


def plain_delivery(subscription: EventSubscription) -> Iterator[Finding]:
    """Yield a finding for an app without the kit whose events daprd may acknowledge without delivering them."""
    if not subscription.spec.consumer.kit and subscription.spec.bulk is None:
        message = "While the app is unreachable, daprd may acknowledge events that the app has not acknowledged"
        fix = "Set bulk: {maxMessages: 1} and answer each entry, use the kit, or serve gRPC: docs/explanation/dapr.md."
        yield subscription.finding("warning", "plain-delivery", message, fix, at=("spec", "consumer"))


def disagreement(subscription: EventSubscription, other: EventSubscription) -> Iterator[Finding]:
    """Yield conflicts between two subscriptions of an app on settings that exist once per Dapr Subscription."""
    spec, own, theirs = subscription.spec, subscription.spec.delivery.dead_letter, other.spec.delivery.dead_letter
    if not spec.consumer.kit and own.topic != theirs.topic:
        message = f"Its dead-letter topic differs from that of {other.ref} on the same topic"
        fix = f"Use the same topic in both; until then, the topic of {other.ref} applies."
        place = subscription.origin.at("spec", "delivery", "deadLetter")
        yield subscription.finding("warning", "conflicting-policies", message, fix, at=place)
    if (spec.bulk is None) != (other.spec.bulk is None):
        message = f"Only one of this and {other.ref} requests bulk delivery on their shared topic: neither gets it"
        place = subscription.origin.at("spec", "bulk")
        yield subscription.finding(
            "warning", "conflicting-policies", message, "Request it in both or in neither.", at=place
        )


def _bulk(readers: list[Selection]) -> dict[str, Any] | None:
    requested = [reader.spec.bulk for reader in readers if reader.spec.bulk]
    if len(requested) < len(readers):
        return None
    longest = max(durations.seconds(bulk.max_await) for bulk in requested)
    most = max(bulk.max_messages for bulk in requested)
    return _bulk_of(most, round(longest * 1000))


def _acknowledged_entries(readers: list[Selection], *, concurrent: bool) -> dict[str, Any]:
    """Return the bulk settings with which an unmodified daprd only acknowledges what the app has acknowledged.

    The response to a bulk delivery must list each entry, whereas an empty response to a plain delivery counts as
    success (docs/explanation/dapr.md). A bulk of one is flushed immediately. A larger bulk is delivered once its first
    event is five milliseconds old; the SDK handles its events concurrently and acknowledges them after the slowest one.
    """
    rates = [reader.spec.rate_limit.events_per_second for reader in readers if reader.spec.rate_limit]
    most = min([MOST_AT_ONCE, *(int(rate * SLOWEST_BULK) for rate in rates)]) if concurrent else 1
    return _bulk_of(max(most, 1))


def _bulk_of(most: int, await_ms: int | None = None) -> dict[str, Any]:
    if await_ms is None:
        # daprd wakes up this often for each subscription, even while idle; a bulk of one never waits for it.
        await_ms = 1000 if most == 1 else 5
    return {"enabled": True, "maxMessagesCount": most, "maxAwaitDurationMs": await_ms}


def _subscription(
    app: str,
    namespace: str,
    channel: Channel,
    routes: dict[str, Any],
    dead_letters: str,
    bulk: dict[str, Any] | None,
    *,
    raw: bool,
) -> dict[str, Any]:
    """Build a Dapr Subscription.

    With `raw`, the app receives the published bytes, which daprd would otherwise re-encode in a bulk. Dapr's routing
    rules need the decoded event, so a Subscription with rules cannot be raw.
    """
    spec = {"pubsubname": channel.pubsub, "topic": channel.topic, "routes": routes, "deadLetterTopic": dead_letters}
    return {
        "apiVersion": "dapr.io/v2alpha1",
        "kind": "Subscription",
        "metadata": {"name": subscription_name(app, channel.pubsub, channel.topic), "namespace": namespace},
        "spec": {
            **spec,
            **({"bulkSubscribe": bulk} if bulk else {}),
            **({"metadata": {"rawPayload": "true"}} if bulk and raw else {}),
        },
        "scopes": [app],
    }


def subscription_name(app: str, pubsub: str, topic: str) -> str:
    """Return the name of an app's Dapr Subscription to a topic: a deterministic Kubernetes name.

    `kitchen` and `orders.orderConfirmed.v2` give `kitchen.orders.order-confirmed.v2`. If the conversion is lossy (other
    characters, or too long), a short hash avoids collisions.
    """
    kebab = re.sub(r"(?<=[a-z0-9])([A-Z])", r"-\1", topic).lower()
    name = re.sub(r"[^a-z0-9]*\.[^a-z0-9]*", ".", re.sub(r"[^a-z0-9.-]+", "-", f"{app}.{kebab}")).strip(".-")
    if _LOSSLESS.fullmatch(topic) and pubsub == "pubsub" and len(name) <= _NAME_LIMIT:
        return name
    digest = hashlib.sha256(f"{pubsub}|{topic}".encode()).hexdigest()[:8]
    return f"{name[: _NAME_LIMIT - 9].rstrip('.-')}-{digest}"
