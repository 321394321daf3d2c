"""Errors for apps that would share a consumer at the broker: each would get only part of the events, or another's.

A component names its consumer (`consumerID`, `consumerGroup`, `durableName`). Without `{appID}` in the name, all apps
that read a topic through the component share one consumer. On RabbitMQ, name and topic form the queue's name: with
`{appID}` alone, app `pay` with topic `ments-x` and app `pay-ments` with topic `x` share a queue.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import date

from tidings.conventions import replay_topic
from tidings_plan import channels, ownership
from tidings_plan.channels import Channel
from tidings_plan.resources.findings import Finding
from tidings_plan.resources.inventory import Inventory, app_key, seniority
from tidings_plan.resources.subscription import Selection, selections


def of_selection(selection: Selection, read: list[Channel], inventory: Inventory, today: date) -> Iterator[Finding]:
    """Yield an error for the first topic whose events an older subscription of another app would take."""
    namespace, app = app_key(selection)
    for channel in _with_replays(app, read):
        consumer = inventory.delivery(namespace, channel.pubsub).consumer
        if not consumer:
            continue
        queue = consumer.at(namespace, app, channel.topic)
        rivals = _readers(selection, channel, inventory) if consumer.is_fixed or consumer.is_alone else []
        # Those whose queues may have this name with another topic.
        alike = [other for other in consumer.candidates(namespace, queue) if other != app]
        rivals += [one for other in alike for user in inventory.of_app((namespace, other)) for one in selections(user)]
        if senior := _first(selection, rivals, (consumer.broker, queue), inventory, today):
            other = ownership.named(senior.subscription, selection.subscription)
            message = (
                f"{other} and it would share a consumer at the broker, because the component {channel.pubsub} calls it "
                f"{consumer.name}: each event of {channel.topic} would reach only one of them"
            )
            fix = f"Set {{appID}}{':' if consumer.separator else ''} as the name of the consumer in {channel.pubsub}."
            yield selection.finding("error", "shared-consumer", message, fix, at=("type",))
            return


def _with_replays(app: str, read: list[Channel]) -> list[Channel]:
    """Return the channels with those of the app's replays, which it reads through the same components."""
    components = {channel.pubsub: channel for channel in read}
    return [*read, *(replace(channel, topic=replay_topic(app)) for channel in components.values())]


def _readers(selection: Selection, channel: Channel, inventory: Inventory) -> list[Selection]:
    """Return the selections of other apps of its namespace that may read a topic."""
    types = inventory.types_on(channel.topic)
    readers = [reader for kind in types for reader in (*inventory.consumers(kind), *inventory.observers(kind))]
    readers += [reader for user in inventory.topic_users(channel.topic) for reader in selections(user)]
    namespace, own = app_key(selection)
    return [reader for reader in readers if app_key(reader)[0] == namespace and app_key(reader)[1] != own]


def _first(
    selection: Selection, rivals: list[Selection], queue: tuple[str, str], inventory: Inventory, today: date
) -> Selection | None:
    """Return the oldest of the selections that has this queue, if it is older than the selection."""
    for rival in sorted(rivals, key=seniority):
        if seniority(rival) > seniority(selection):
            return None
        namespace, app = app_key(rival)
        for channel in _with_replays(app, channels.resolve(rival, inventory, today)[0]):
            consumer = inventory.delivery(namespace, channel.pubsub).consumer
            if consumer and (consumer.broker, consumer.at(namespace, app, channel.topic)) == queue:
                return rival
    return None
