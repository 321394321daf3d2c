"""The RabbitMQ queues that Dapr's pubsub.rabbitmq makes only when an app first subscribes.

RabbitMQ keeps nothing that is published before a queue is bound: without these, what services tell while others are
still starting for the first time would be gone, although publishing succeeds. They are made exactly as daprd makes
them with the settings of components/rabbitmq; with other settings daprd would refuse them (PRECONDITION_FAILED).

For the same reason, dead letters that no app reads are held in a queue of their own, until an app reads their topic.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pika  # type: ignore[import-untyped]  # it has no types
from pika.exceptions import AMQPError, ChannelClosedByBroker  # type: ignore[import-untyped]

from tidings.errors import TidingsError

if TYPE_CHECKING:
    from pika.adapters.blocking_connection import BlockingChannel  # type: ignore[import-untyped]

MAX_AGE = timedelta(days=7)
"""How long dead letters are held that no app reads; other brokers keep everything for as long."""
_HELD = {"x-message-ttl": round(MAX_AGE.total_seconds() * 1000)}
_PATIENCE = "?connection_attempts=3&retry_delay=1&socket_timeout=5"


class QueueError(TidingsError):
    """A queue could not be made, or RabbitMQ is not there."""


class RefusedQueues(QueueError):
    """RabbitMQ refuses some queues; all others are there."""

    def __init__(self, reasons: Mapping[str, str], topics: Iterable[str]) -> None:
        super().__init__(
            f"RabbitMQ refuses queues ({'; '.join(f'{queue}: {why}' for queue, why in reasons.items())}): if they were "
            "made with other settings than those of components/rabbitmq, delete them; if the name is reserved, choose "
            "another topic"
        )
        self.names = frozenset({*reasons, *topics})
        """The queues and the exchanges of their topics."""


def queue_name(app: str, topic: str) -> str:
    """Return the name of the queue in which an app receives a topic, as daprd makes it from the component's consumerID.

    Neither app ids nor topics contain a colon. With a hyphen alone, app `pay` with topic `ments-orders.orderPlaced.v1`
    would share the queue of app `pay-ments` with topic `orders.orderPlaced.v1`, and receive its events.
    """
    return f"{app}:-{topic}"


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


class _Probe:
    """Asks whether queues and exchanges exist. RabbitMQ closes the channel after each that does not."""

    def __init__(self, connection: pika.BlockingConnection) -> None:
        self._connection, self._channel = connection, connection.channel()

    def queue(self, name: str) -> Any | None:
        """Return a queue's `message_count` and `consumer_count`, or None if it does not exist."""
        return self._ask("queue_declare", name)

    def exchange(self, name: str) -> bool:
        """Return True if the exchange exists."""
        return self._ask("exchange_declare", name) is not None

    def _ask(self, call: str, name: str) -> Any | None:
        if not self._channel.is_open:
            self._channel = self._connection.channel()
        try:
            return getattr(self._channel, call)(name, passive=True).method
        except ChannelClosedByBroker:
            return None


def queue_consumers(
    url: str, subscriptions: Iterable[tuple[str, Mapping[str, Any]]], dead_letters: Iterable[str] = ()
) -> tuple[list[str], dict[tuple[str, str], int]]:
    """Return the lost queues and exchanges, and the number of consumers of each reader's (app, topic) queue.

    One that was deleted is lost even if it exists again: what was published in between, or waited in it, is gone.

    Raises:
        QueueError: RabbitMQ does not answer.

    """
    readers = {(app, str(entry["spec"]["topic"])) for app, entry in subscriptions}
    topics = {topic for _, topic in readers}
    held = set(dead_letters) - topics
    queues = {*(queue_name(app, topic) for app, topic in readers), *map(_holding, held)}
    consumers: dict[tuple[str, str], int] = {}
    with _connected(url) as connection:
        probe = _Probe(connection)
        lost = [topic for topic in sorted(topics | held) if not probe.exchange(_topic_marker(topic))]
        lost += [queue for queue in sorted(queues) if not probe.exchange(_queue_marker(queue))]
        for app, topic in sorted(readers):
            queue = probe.queue(queue_name(app, topic))
            consumers[app, topic] = queue.consumer_count if queue else 0
    return lost, consumers


def pending(url: str, readers: Iterable[tuple[str, str]]) -> dict[tuple[str, str], int]:
    """Return the number of messages that no sidecar has received yet, by topic and app; missing queues are left out.

    Raises:
        QueueError: RabbitMQ does not answer.

    """
    waiting: dict[tuple[str, str], int] = {}
    with _connected(url) as connection:
        probe = _Probe(connection)
        for app, topic in sorted(set(readers)):
            if queue := probe.queue(queue_name(app, topic)):
                waiting[topic, app] = queue.message_count
    return waiting


def stored(url: str, topics: Iterable[str]) -> dict[str, int]:
    """Return how many messages of each topic are held because no app reads it; other topics are left out.

    Raises:
        QueueError: RabbitMQ does not answer.

    """
    result: dict[str, int] = {}
    with _connected(url) as connection:
        probe = _Probe(connection)
        for topic in sorted(set(topics)):
            if queue := probe.queue(_holding(topic)):
                result[topic] = queue.message_count
    return result


def ensure_queues(
    url: str, subscriptions: Iterable[tuple[str, Mapping[str, Any]]], dead_letters: Iterable[str] = ()
) -> None:
    """Make the queue of each app's Dapr Subscription, bound to its topic's exchange; what is there already stays.

    Args:
        url: RabbitMQ's address, such as `amqp://user:password@host:5672/`.
        subscriptions: App id and Subscription.
        dead_letters: Topics whose messages are held as long as no app reads them, and then moved to its queue.

    Raises:
        QueueError: RabbitMQ does not answer.
        RefusedQueues: It refuses a name, or has a queue or exchange of that name with other settings. All other queues
            have been made: one topic must not affect the others.

    """
    readers = {(app, str(entry["spec"]["topic"])) for app, entry in subscriptions}
    queues = {(queue_name(app, topic), topic) for app, topic in readers}
    read = {topic for _, topic in readers}
    letters = set(dead_letters)
    consumed = sorted((queue, topic, None) for queue, topic in queues)
    held = sorted((_holding(topic), topic, _HELD) for topic in letters - read)
    refused: dict[str, str] = {}
    with _connected(url, "RabbitMQ's queues cannot be made ({}): is it running at that address?") as connection:
        channel = connection.channel()
        for queue, topic, arguments in [*consumed, *held]:
            try:
                channel.exchange_declare(topic, "fanout", durable=True)
                channel.queue_declare(queue, durable=True, arguments=arguments)
                channel.queue_bind(queue, topic)
                _mark(channel, topic, queue)
            except ChannelClosedByBroker as error:
                refused[queue] = error.reply_text
                channel = connection.channel()
        for topic in sorted(letters & read):
            _move_held(connection, topic, [queue for queue, of in sorted(queues) if of == topic])
    if refused:
        raise RefusedQueues(refused, [topic for queue, topic, _ in (*consumed, *held) if queue in refused])


def _mark(channel: BlockingChannel, topic: str, queue: str) -> None:
    """Bind an exchange to the topic's exchange, and one to its queue, which RabbitMQ deletes with what they lead to.

    daprd declares exchange and queue again as soon as they are gone, and nothing else distinguishes them then.
    """
    for marker in (_topic_marker(topic), _queue_marker(queue)):
        channel.exchange_declare(marker, "fanout", durable=True, auto_delete=True)
    channel.exchange_bind(topic, _topic_marker(topic))
    channel.queue_bind(queue, _queue_marker(queue))


def _topic_marker(topic: str) -> str:
    return f"tidings:exchange-{topic}"


def _queue_marker(queue: str) -> str:
    return f"tidings:queue-{queue}"


def _holding(topic: str) -> str:
    """Return the name of the queue that holds a topic's messages; no app can have it, because `:-` is in theirs."""
    return f"tidings:unread-{topic}"


def _move_held(connection: pika.BlockingConnection, topic: str, queues: list[str]) -> None:
    """Move held messages to the queues of their readers, then delete the holding queue.

    A message that is moved twice, because the connection was lost in between, is recognised by its event's identity.
    """
    holding = _holding(topic)
    if not _Probe(connection).queue(holding):
        return
    channel = connection.channel()
    channel.queue_unbind(holding, topic)
    channel.confirm_delivery()
    while True:
        method, properties, body = channel.basic_get(holding)
        if method is None:
            break
        for queue in queues:
            channel.basic_publish("", queue, body, properties, mandatory=True)
        channel.basic_ack(method.delivery_tag)
    channel.queue_delete(holding, if_empty=True)
