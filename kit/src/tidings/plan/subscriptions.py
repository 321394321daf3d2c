"""Dapr Subscriptions (v2alpha1): one per app, pub/sub component and topic, with the rules of all subscriptions."""

from collections.abc import Iterator
from typing import Any

from tidings.plan.channels import Channel
from tidings.plan.conditions import Rule, rules_of
from tidings.plan.conventions import (
    IGNORED_PATH,
    REPLAY_PATH,
    dead_letter_topic,
    event_path,
    replay_topic,
    subscription_name,
)
from tidings.plan.overlaps import in_order
from tidings.resources import durations
from tidings.resources.findings import Finding
from tidings.resources.subscription import EventSubscription


def merged(
    app: str, namespace: str, channel: Channel, readers: list[EventSubscription], *, bulk: bool = True
) -> dict[str, Any]:
    """Build the one Dapr Subscription of an app for a topic, from all its subscriptions there, the senior first.

    `bulk` is whether the component can bring several messages at once.
    The default path is always given: daprd sends what no rule matches and no default takes to the dead letters.
    """
    topic = channel.topic
    named = [(each.metadata.name, rule) for each in readers for rule in rules_of(each)]
    ordered = in_order(named)
    always = next((rule for rule in ordered if not rule.match), Rule("", IGNORED_PATH))
    rules = [{"match": rule.match, "path": rule.path or event_path(topic)} for rule in ordered if rule.match]
    routes = {**({"rules": rules} if rules else {}), "default": always.path or event_path(topic)}
    wishes = _bulk(readers) if bulk else None
    return _subscription(app, namespace, channel, routes, _dead_letters(app, readers), wishes)


def replays(app: str, namespace: str, pubsub: str) -> dict[str, Any]:
    """Build the Subscription through which events are sent to one app again."""
    channel = Channel(pubsub, replay_topic(app), "*")
    return _subscription(app, namespace, channel, {"default": REPLAY_PATH}, dead_letter_topic(app), None)


def disagreement(subscription: EventSubscription, other: EventSubscription) -> Iterator[Finding]:
    """Yield where two subscriptions of an app want differently what a Dapr Subscription has only once."""
    spec, mine, theirs = subscription.spec, subscription.spec.delivery.dead_letter, other.spec.delivery.dead_letter
    if not spec.consumer.kit and mine.topic != theirs.topic:
        message = f"Its dead-letter topic differs from that of {other.ref} on the same topic"
        mend = f"Write the same in both; until then that of {other.ref} is kept."
        place = subscription.origin.at("spec", "delivery", "deadLetter")
        yield subscription.finding("warning", "conflicting-policies", message, mend, at=place)
    if (spec.bulk is None) != (other.spec.bulk is None):
        message = f"One of this and {other.ref} asks for bulk delivery, and they share a topic: neither gets it"
        place = subscription.origin.at("spec", "bulk")
        yield subscription.finding("warning", "conflicting-policies", message, "Write it in both.", at=place)


def _dead_letters(app: str, readers: list[EventSubscription]) -> str:
    """With the kit, daprd's own dead letters are those the kit never saw: they go to the app's topic."""
    first = readers[0].spec
    own = None if first.consumer.kit else first.delivery.dead_letter.topic
    return own or dead_letter_topic(app)


def _bulk(readers: list[EventSubscription]) -> dict[str, Any] | None:
    wishes = [each.spec.bulk for each in readers if each.spec.bulk]
    if len(wishes) < len(readers):
        return None
    longest = max(durations.seconds(each.max_await) for each in wishes)
    most = max(each.max_messages for each in wishes)
    return {"enabled": True, "maxMessagesCount": most, "maxAwaitDurationMs": round(longest * 1000)}


def _subscription(
    app: str,
    namespace: str,
    channel: Channel,
    routes: dict[str, Any],
    dead_letters: str,
    bulk: dict[str, Any] | None,
) -> dict[str, Any]:
    spec = {"pubsubname": channel.pubsub, "topic": channel.topic, "routes": routes, "deadLetterTopic": dead_letters}
    return {
        "apiVersion": "dapr.io/v2alpha1",
        "kind": "Subscription",
        "metadata": {"name": subscription_name(app, channel.pubsub, channel.topic), "namespace": namespace},
        "spec": {**spec, **({"bulkSubscribe": bulk} if bulk else {})},
        "scopes": [app],
    }
