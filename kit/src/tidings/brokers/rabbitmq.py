"""The RabbitMQ queues that Dapr's pubsub.rabbitmq makes only when an app first subscribes.

RabbitMQ keeps nothing that is published before a queue is bound: without these, what services tell while others are
still starting for the first time would be gone, although publishing succeeds. They are made exactly as daprd makes
them with the settings of components/rabbitmq; with other settings daprd would refuse them (PRECONDITION_FAILED).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import pika  # type: ignore[import-untyped]  # it has no types
from pika.exceptions import AMQPError, ChannelClosedByBroker  # type: ignore[import-untyped]

from tidings.errors import TidingsError

_PATIENCE = "?connection_attempts=3&retry_delay=1&socket_timeout=5"


class QueueError(TidingsError):
    """A queue could not be made, or RabbitMQ is not there."""


class RefusedQueues(QueueError):
    """RabbitMQ refuses some queues; all others are there."""


@contextmanager
def _connected(url: str, failure: str = "RabbitMQ does not answer ({})") -> Iterator[pika.BlockingConnection]:
    """Connect; any failure of RabbitMQ within the context is a QueueError, with its cause put into `failure`."""
    try:
        connection = pika.BlockingConnection(pika.URLParameters(url + ("" if "?" in url else _PATIENCE)))
        try:
            yield connection
        finally:
            if connection.is_open:
                connection.close()
    except (AMQPError, OSError) as error:
        raise QueueError(failure.format(f"{type(error).__name__}: {error}")) from error


def queue_consumers(
    url: str, subscriptions: Iterable[tuple[str, Mapping[str, Any]]]
) -> tuple[list[str], dict[tuple[str, str], int]]:
    """Return the missing queues and exchanges, and the number of consumers of each reader's (app, topic) queue.

    Raises:
        QueueError: RabbitMQ does not answer.

    """
    lost: list[str] = []
    consumers: dict[tuple[str, str], int] = {}
    with _connected(url) as connection:
        for app, topic in sorted({(app, str(entry["spec"]["topic"])) for app, entry in subscriptions}):
            consumers[app, topic] = 0
            try:
                connection.channel().exchange_declare(topic, passive=True)
            except ChannelClosedByBroker:
                lost.append(topic)
            try:
                queue = connection.channel().queue_declare(f"{app}-{topic}", passive=True)
                consumers[app, topic] = queue.method.consumer_count
            except ChannelClosedByBroker:
                lost.append(f"{app}-{topic}")
    return lost, consumers


def pending(url: str, readers: Iterable[tuple[str, str]]) -> dict[tuple[str, str], int]:
    """Return the number of messages that no sidecar has received yet, by topic and app; missing queues are left out.

    Raises:
        QueueError: RabbitMQ does not answer.

    """
    waiting: dict[tuple[str, str], int] = {}
    with _connected(url) as connection:
        for app, topic in sorted(set(readers)):
            with suppress(ChannelClosedByBroker):
                queue = connection.channel().queue_declare(f"{app}-{topic}", passive=True)
                waiting[topic, app] = queue.method.message_count
    return waiting


def ensure_queues(url: str, subscriptions: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
    """Make the queue of each app's Dapr Subscription, bound to its topic's exchange; what is there already stays.

    Args:
        url: RabbitMQ's address, such as `amqp://user:password@host:5672/`.
        subscriptions: App id and Subscription.

    Raises:
        QueueError: RabbitMQ does not answer.
        RefusedQueues: It refuses a name, or has a queue or exchange of that name with other settings. All other queues
            have been made: one topic must not affect the others.

    """
    topics = {(app, str(subscription["spec"]["topic"])) for app, subscription in subscriptions}
    refused: list[str] = []
    with _connected(url, "RabbitMQ's queues cannot be made ({}): is it running at that address?") as connection:
        channel = connection.channel()
        for app, topic in sorted(topics):
            queue = f"{app}-{topic}"
            try:
                channel.exchange_declare(topic, "fanout", durable=True)
                channel.queue_declare(queue, durable=True)
                channel.queue_bind(queue, topic)
            except ChannelClosedByBroker as error:
                refused.append(f"{queue}: {error.reply_text}")
                channel = connection.channel()
    if refused:
        raise RefusedQueues(
            f"RabbitMQ refuses queues ({'; '.join(refused)}): if they were made with other settings than those of "
            "components/rabbitmq, delete them; if the name is reserved, choose another topic"
        )
