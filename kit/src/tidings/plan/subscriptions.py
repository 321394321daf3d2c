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

MOST_AT_ONCE = 32
"""Events in one delivery at most, where the kit did not ask for more: as many as components/redis has workers."""
SLOWEST_BULK = 5
"""Seconds that the rate limit of a subscription may take for one delivery: less than any broker waits for an answer."""


def merged(
    app: str,
    namespace: str,
    channel: Channel,
    readers: list[EventSubscription],
    *,
    bulk: bool = True,
    concurrent: bool = False,
) -> dict[str, Any]:
    """Build the one Dapr Subscription of an app for a topic, from all its subscriptions there, the senior first.

    `bulk` is whether the component can keep a requested bulk delivery; `concurrent`, whether it is known to deliver
    several messages of a topic at once.
    The default path is always given: daprd sends what no rule matches and no default takes to the dead letters.
    """
    topic = channel.topic
    named = [(each.metadata.name, rule) for each in readers for rule in rules_of(each)]
    ordered = in_order(named)
    always = next((rule for rule in ordered if not rule.match), Rule("", IGNORED_PATH))
    rules = [{"match": rule.match, "path": rule.path or event_path(topic)} for rule in ordered if rule.match]
    routes = {**({"rules": rules} if rules else {}), "default": always.path or event_path(topic)}
    asked = _bulk(readers) if bulk else None
    if readers[0].spec.consumer.kit:
        asked = asked or _named_entries(readers, concurrent=concurrent)
    raw = readers[0].spec.consumer.kit and not rules
    return _subscription(app, namespace, channel, routes, _dead_letters(app, readers), asked, raw=raw)


def replays(app: str, namespace: str, pubsub: str) -> dict[str, Any]:
    """Build the Subscription through which events are sent to one app again."""
    channel = Channel(pubsub, replay_topic(app), "*")
    routes = {"default": REPLAY_PATH}
    return _subscription(app, namespace, channel, routes, dead_letter_topic(app), _bulk_of(1), raw=True)


def plain_delivery(subscription: EventSubscription) -> Iterator[Finding]:
    """Yield a finding for an app whose events daprd may acknowledge although the app was not reached."""
    if not subscription.spec.consumer.kit and subscription.spec.bulk is None:
        message = "While the app cannot be reached, daprd may acknowledge events that it has not answered"
        mend = (
            "Write bulk: {maxMessages: 1} and answer each entry, use the kit, or serve gRPC: docs/explanation/dapr.md."
        )
        yield subscription.finding("warning", "plain-delivery", message, mend, at=("spec", "consumer"))


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
    return _bulk_of(most, round(longest * 1000))


def _named_entries(readers: list[EventSubscription], *, concurrent: bool) -> dict[str, Any]:
    """Return the bulk delivery under which an official daprd acknowledges nothing that the app has not answered.

    The answer to a bulk delivery must name each entry, whereas an empty answer to a plain delivery counts as success:
    docs/explanation/dapr.md. A bulk of one flushes at once. A larger one is delivered as soon as its first event is a
    millisecond old; the kit handles its events concurrently, and none of them is acknowledged before the slowest.
    """
    rates = [each.spec.rate_limit.events_per_second for each in readers if each.spec.rate_limit]
    most = min([MOST_AT_ONCE, *(int(rate * SLOWEST_BULK) for rate in rates)]) if concurrent else 1
    return _bulk_of(max(most, 1))


def _bulk_of(most: int, await_ms: int = 1) -> dict[str, Any]:
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
    """Build a Subscription. `raw`: the app gets the published bytes, which daprd would otherwise re-encode in a bulk.

    Dapr's routing rules need the decoded event, so a Subscription that has any cannot be raw.
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
