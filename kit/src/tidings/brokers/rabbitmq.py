"""The RabbitMQ queues that Dapr's pubsub.rabbitmq makes only when an app first subscribes.

RabbitMQ keeps nothing that is published before a queue is bound: without these, what services tell while others are
still starting for the first time would be gone, although publishing succeeds. They are made exactly as daprd makes
them with the settings of components/rabbitmq; with other settings daprd would refuse them (PRECONDITION_FAILED).

For the same reason, dead letters that no app reads are held in a queue of their own, until an app reads their topic.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping
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
_MARKER = "tidings:"
_PATIENCE = "?connection_attempts=3&retry_delay=1&socket_timeout=5"
# pika logs every refusal as a warning, and that of a binding to a marker is how a new queue is recognised.
logging.getLogger("pika.channel").addFilter(lambda record: f"no exchange '{_MARKER}" not in record.getMessage())


class QueueError(TidingsError):
    """A queue could not be made, or RabbitMQ is not there."""

    marked: Collection[str] = ()
    """What `ensure_queues` would have returned so far: it is not new at the next call."""


class RefusedQueues(QueueError):
    """RabbitMQ refuses some queues; all others are there."""

    def __init__(self, reasons: Mapping[str, str]) -> None:
        super().__init__(
            f"RabbitMQ refuses queues ({'; '.join(f'{queue}: {why}' for queue, why in reasons.items())}): if they were "
            "made with other settings than those of components/rabbitmq, delete them; if the name is reserved, choose "
            "another topic"
        )


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


class _Channel:
    """A channel that is opened again after RabbitMQ has closed it, which it does after every refusal."""

    def __init__(self, connection: pika.BlockingConnection) -> None:
        self._connection, self._channel = connection, connection.channel()

    @property
    def open(self) -> BlockingChannel:
        if not self._channel.is_open:
            self._channel = self._connection.channel()
        return self._channel

    def queue(self, name: str) -> Any | None:
        """Return a queue's `message_count` and `consumer_count`, or None if it does not exist."""
        try:
            return self.open.queue_declare(name, passive=True).method
        except ChannelClosedByBroker:
            return None


def queue_consumers(url: str, readers: Iterable[tuple[str, str]]) -> dict[tuple[str, str], int]:
    """Return the number of consumers of each reader's (app, topic) queue; a missing queue has none.

    Raises:
        QueueError: RabbitMQ does not answer.

    """
    consumers: dict[tuple[str, str], int] = {}
    with _connected(url) as connection:
        channel = _Channel(connection)
        for app, topic in sorted(set(readers)):
            queue = channel.queue(queue_name(app, topic))
            consumers[app, topic] = queue.consumer_count if queue else 0
    return consumers


def pending(url: str, readers: Iterable[tuple[str, str]]) -> dict[tuple[str, str], int]:
    """Return the number of messages that no sidecar has received yet, by topic and app; missing queues are left out.

    Raises:
        QueueError: RabbitMQ does not answer.

    """
    waiting: dict[tuple[str, str], int] = {}
    with _connected(url) as connection:
        channel = _Channel(connection)
        for app, topic in sorted(set(readers)):
            if queue := channel.queue(queue_name(app, topic)):
                waiting[topic, app] = queue.message_count
    return waiting


def stored(url: str, topics: Iterable[str]) -> dict[str, int]:
    """Return how many messages of each topic are held because no app reads it; other topics are left out.

    Raises:
        QueueError: RabbitMQ does not answer.

    """
    result: dict[str, int] = {}
    with _connected(url) as connection:
        channel = _Channel(connection)
        for topic in sorted(set(topics)):
            if queue := channel.queue(_holding(topic)):
                result[topic] = queue.message_count
    return result


def ensure_queues(
    url: str, subscriptions: Iterable[tuple[str, Mapping[str, Any]]], dead_letters: Iterable[str] = ()
) -> list[str]:
    """Make the queue of each app's Dapr Subscription, bound to its topic's exchange; what is there already stays.

    Args:
        url: RabbitMQ's address, such as `amqp://user:password@host:5672/`.
        subscriptions: App id and Subscription.
        dead_letters: Topics whose messages are held as long as no app reads them, and then moved to its queue.

    Returns:
        The queues and exchanges that are new, or were deleted since the last call: a deleted one is lost even if daprd
        has declared it again, since what was published in between, or waited in it, is gone.

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
    marked: set[str] = set()
    try:
        with _connected(url, "RabbitMQ's queues cannot be made ({}): is it running at that address?") as connection:
            refused = _make(connection, [*consumed, *held], marked)
            for topic in sorted(letters & read):
                _move_held(connection, topic, [queue for queue, of in sorted(queues) if of == topic])
        if refused:
            raise RefusedQueues(refused)
    except QueueError as error:
        error.marked = sorted(marked)
        raise
    return sorted(marked)


def _make(
    connection: pika.BlockingConnection, wanted: Iterable[tuple[str, str, dict[str, Any] | None]], marked: set[str]
) -> dict[str, str]:
    """Make queues (name, topic, arguments), and return the reasons of those that are refused.

    What had no marker is added to `marked` at once, so that it is known also if the connection breaks.
    """
    channel = _Channel(connection)
    refused: dict[str, str] = {}
    for queue, topic, arguments in wanted:
        try:
            channel.open.exchange_declare(topic, "fanout", durable=True)
            channel.open.queue_declare(queue, durable=True, arguments=arguments)
            channel.open.queue_bind(queue, topic)
        except ChannelClosedByBroker as error:
            refused[queue] = error.reply_text
        else:
            marked.update(_mark(channel, topic, queue))
    return refused


def _mark(channel: _Channel, topic: str, queue: str) -> Iterator[str]:
    """Bind a marker to the topic's exchange, and one to its queue; yield those of the two that had none, before that.

    A marker is an exchange that RabbitMQ deletes with what it is bound to. daprd declares exchanges and queues again as
    soon as they are gone, and nothing else distinguishes them then. Binding fails where there is no marker, so no loss
    can happen unnoticed between a look at the marker and its declaration.
    """
    markers = ((topic, _topic_marker(topic), "exchange_bind"), (queue, _queue_marker(queue), "queue_bind"))
    for name, marker, bind in markers:
        try:
            getattr(channel.open, bind)(name, marker)
        except ChannelClosedByBroker:
            yield name
            channel.open.exchange_declare(marker, "fanout", durable=True, auto_delete=True)
            try:
                getattr(channel.open, bind)(name, marker)
            except ChannelClosedByBroker:  # lost at this moment: a marker without a binding would never be deleted
                channel.open.exchange_delete(marker)


def _topic_marker(topic: str) -> str:
    return f"{_MARKER}exchange-{topic}"


def _queue_marker(queue: str) -> str:
    return f"{_MARKER}queue-{queue}"


def _holding(topic: str) -> str:
    """Return the name of the queue that holds a topic's messages; no app can have it, because `:-` is in theirs."""
    return f"tidings:unread-{topic}"


def _move_held(connection: pika.BlockingConnection, topic: str, queues: list[str]) -> None:
    """Move held messages to the queues of their readers, then delete the holding queue.

    A message that is moved twice, because the connection was lost in between, is recognised by its event's identity.
    """
    holding = _holding(topic)
    if not _Channel(connection).queue(holding):
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
