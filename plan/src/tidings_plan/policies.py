"""The consumer policy: the settings that the SDK in an app enforces."""

from collections.abc import Iterable

from tidings.consume import policy
from tidings.conventions import dead_letter_topic, event_path, replay_topic
from tidings_plan.channels import Channel
from tidings_plan.conditions import rules_of
from tidings_plan.resources import durations
from tidings_plan.resources.subscription import Selection


def consumer_policy(app: str, readers: Iterable[tuple[Selection, list[Channel]]]) -> policy.Policy:
    """Build an app's policy, with one entry per subscription, topic and path.

    Entries with the same name belong to one subscription and share its limits.
    """
    entries = [
        _entry(app, selection, channel, path)
        for selection, channels in readers
        for channel in channels
        for path in dict.fromkeys(rule.path or event_path(channel.topic) for rule in rules_of(selection))
    ]
    return policy.Policy(
        app=app,
        subscriptions=tuple(sorted(entries, key=lambda entry: (entry.name, entry.topic, entry.path))),
        dead_letter_topic=dead_letter_topic(app),
        replay_topic=replay_topic(app),
    )


def _entry(app: str, selection: Selection, channel: Channel, path: str) -> policy.SubscriptionPolicy:
    spec = selection.spec
    retry = spec.delivery.retry
    rate = spec.rate_limit
    return policy.SubscriptionPolicy(
        name=selection.metadata.name,
        type=channel.type,
        path=path,
        topic=channel.topic,
        versions=(int(channel.major),) if channel.major else (),
        pubsub=channel.pubsub,
        max_concurrency=spec.max_concurrency,
        rate_limit=policy.RateLimit(rate.events_per_second, 1.0, rate.burst) if rate else None,
        retry=policy.RetryPolicy(
            retry.policy.lower(),
            durations.seconds(retry.duration),
            durations.seconds(retry.max_interval),
            retry.max_retries,
        ),
        timeout=durations.seconds(spec.delivery.timeout),
        dead_letter_topic=spec.delivery.dead_letter.topic or dead_letter_topic(app),
        ordering=policy.Ordering(spec.ordering.mode.lower(), spec.ordering.key),
        suspend=spec.suspend,
    )
