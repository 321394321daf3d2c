"""Checks that the broker has the streams, queues and consumers that the plan needs.

A broker may lose its data while the system runs: a volume is replaced, or a stream is deleted. daprd notices neither
that its JetStream consumer is gone nor that it has given its connection up for good (after 60 attempts); both show as a
consumer that no sidecar is bound to. It recreates the queues of RabbitMQ and the groups of Redis by itself, so that
a loss shows only in what was recreated: the position of a stream, and on RabbitMQ a marker that is gone.

On Kafka daprd goes on reading a topic that was deleted and created again at the old position, where there is nothing;
Kafka's refusal ends the reading for good (docs/upstream/kafka-closed-claim.md). So it does where a topic was shortened
beyond the position.

On RabbitMQ daprd may leave a consumer behind that it does not know of: it shares one channel, and an answer to
`basic.consume` that another call has taken is an error to it, although the broker has added the consumer. The broker
then gives that consumer its share of the messages, which wait there until the sidecar's connection ends. See
docs/upstream/rabbitmq-channel.md.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from tidings.brokers import jetstream, kafka, rabbitmq, redis
from tidings.brokers.jetstream import Consumer, RefusedStreams, Stream, ensure_streams, stream_name
from tidings.brokers.kafka import DEFAULT_PARTITIONS, RefusedTopics, TopicError, ensure_topics
from tidings.brokers.positions import Key, Position, Reader, compare, next_numbers
from tidings.brokers.rabbitmq import QueueError, RefusedQueues, ensure_queues, queue_consumers
from tidings.conventions import DEAD_LETTER_PREFIX

LOG = logging.getLogger(__name__)
REFUSED = (RefusedStreams, RefusedQueues, RefusedTopics)
"""Raised by `BrokerWatch.ensure` if the broker refuses some streams, queues or topics; all others exist then."""
GRACE = 20.0
"""Seconds that a consumer may have no sidecar, which may be starting or paused, before the sidecar is restarted."""
CONSUMERS_INTERVAL = 10.0
"""Seconds between two checks of JetStream's consumers, which take a request per topic, while nothing is wrong."""
LONGEST = 3600.0
"""The longest wait, in seconds, until the next restart: the app of that consumer may just be away."""


@dataclass(frozen=True, slots=True)
class Observation:
    """Result of one check."""

    lost: tuple[str, ...] = ()
    """Streams, topics or queues that were gone or are others now; what was missing has been recreated."""
    unread: tuple[Reader, ...] = ()
    """Readers without a consumer that a sidecar is bound to."""
    orphaned: tuple[Reader, ...] = ()
    """Readers whose queue has more consumers than sidecars: the messages of the others wait for nobody."""
    gaps: tuple[str, ...] = ()
    """Topics of which events are gone that an app had not acknowledged when it was looked at before."""

    @property
    def problem(self) -> str:
        """Return a description of each problem; empty if there is none."""
        parts = [f"lost {', '.join(self.lost)}"] if self.lost else []
        parts += [f"unhandled events of {', '.join(self.gaps)} are gone"] if self.gaps else []
        parts += [f"nothing reads {topic} for {app}" for app, topic in self.unread]
        parts += [f"an orphaned consumer holds messages of {topic} for {app}" for app, topic in self.orphaned]
        return "; ".join(parts)

    def of(self, apps: Collection[str]) -> Observation:
        """Return this without the readers of other apps."""
        unread, orphaned = (
            tuple(reader for reader in readers if reader[0] in apps) for readers in (self.unread, self.orphaned)
        )
        return replace(self, unread=unread, orphaned=orphaned)


@dataclass(slots=True)
class BrokerWatch:
    """Looks after the broker of one system.

    Attributes:
        kind: The broker's kind, such as `nats`.
        url: Its address.
        topics: What must have a stream.
        subscriptions: App and Dapr Subscription.
        component: The rendered pub/sub component of NATS; other brokers need none.
        replicas: Of each stream or Kafka topic.
        partitions: Of each Kafka topic that is created.
        sidecars: The number of sidecars per app, which is the number of consumers of a RabbitMQ queue; None: unknown.

    """

    kind: str
    url: str
    topics: Collection[str]
    subscriptions: Sequence[tuple[str, Mapping[str, Any]]]
    component: Mapping[str, Any] | None = None
    replicas: int = 1
    sidecars: int | None = None
    partitions: int = DEFAULT_PARTITIONS
    _unread: dict[Reader, tuple[float, float]] = field(default_factory=dict)
    _positions: dict[Key, Position] = field(default_factory=dict)
    """When last observed."""
    _consumers: dict[Reader, Consumer] = field(default_factory=dict)
    """JetStream's, when last observed."""
    _consumers_due: float = 0.0
    """When to check them again."""
    _stale: set[Reader] = field(default_factory=set)
    """Readers of Kafka topics that were lost or shortened whose sidecars have not been restarted since."""
    _lost: set[str] = field(default_factory=set)
    """Queues and exchanges of RabbitMQ whose loss was found by looks that failed."""

    @property
    def readers(self) -> list[Reader]:
        """App and topic of each subscription."""
        return [(app, str(subscription["spec"]["topic"])) for app, subscription in self.subscriptions]

    @property
    def _dead_letters(self) -> list[str]:
        return [topic for topic in self.topics if topic.startswith(DEAD_LETTER_PREFIX)]

    async def ensure(self) -> list[str]:
        """Create the streams, queues or topics that do not exist.

        Redis needs nothing beforehand.

        Returns:
            The topics that were created on Kafka; on RabbitMQ, queues and exchanges that are new or were lost since the
            last call, even if a sidecar has recreated them.

        Raises:
            StreamError, QueueError, TopicError: The broker does not answer.
            RefusedStreams, RefusedQueues, RefusedTopics: It refuses some; all others exist.

        """
        if self.kind == "nats":
            await ensure_streams(self.url, self.topics, component=self.component, replicas=self.replicas)
        elif self.kind == "rabbitmq":
            return await asyncio.to_thread(ensure_queues, self.url, self.subscriptions, self._dead_letters)
        elif self.kind == "kafka":
            created = await asyncio.to_thread(
                ensure_topics, self.url, self.topics, partitions=self.partitions, replicas=self.replicas
            )
            if not self._positions:  # from the start on: a topic may be replaced before the first look
                with suppress(TopicError):  # such as while partitions have no leader yet: the first look tries again
                    positions = await self._of_topics()
                    self._positions = {key: item for key, item in positions.items() if not item.is_outside}
            return created
        return []

    async def look(self) -> Observation:
        """Look what is missing, and recreate streams and queues.

        Raises:
            StreamError: NATS does not answer.
            QueueError: RabbitMQ does not answer.
            TopicError: Kafka does not answer.
            GroupError: Redis does not answer.

        """
        if self.kind == "nats":
            return await self._look_at_streams()
        if self.kind == "rabbitmq":
            return await self._look_at_queues()
        if self.kind == "kafka":
            return await self._look_at_topics()
        return await self._look_at_redis()

    async def pending(self) -> Mapping[tuple[str, str], int]:
        """Return how many messages wait for each app, by topic (on NATS, its stream) and app.

        Raises:
            StreamError, QueueError, TopicError, GroupError: The broker does not answer.

        """
        if self.kind == "nats":
            return await jetstream.pending(self.url, self.topics)
        if self.kind == "rabbitmq":
            return await asyncio.to_thread(rabbitmq.pending, self.url, self.readers)
        if self.kind == "kafka":
            return await asyncio.to_thread(kafka.pending, self.url, self.readers)
        return await asyncio.to_thread(redis.pending, self.url, self.topics)

    def _in_pending(self, topic: str) -> str:
        """Return the name of a topic in `pending`."""
        return stream_name(topic) if self.kind == "nats" else topic

    def lag(self, pending: Mapping[tuple[str, str], int]) -> dict[str, int]:
        """Return how many events wait for each app of the plan, where any do."""
        total: Counter[str] = Counter()
        for app, topic in set(self.readers):
            total[app] += pending.get((self._in_pending(topic), app), 0)
        return {app: count for app, count in sorted(total.items()) if count}

    async def unread_dead_letters(self, pending: Mapping[tuple[str, str], int]) -> dict[str, int]:
        """Return how many dead letters of each dead-letter topic no app has read yet: no list shows them.

        Raises:
            StreamError, QueueError, TopicError, GroupError: The broker does not answer.

        """
        read = {
            topic: [count for (name, _), count in pending.items() if name == self._in_pending(topic)]
            for topic in self._dead_letters
        }
        without_reader = [topic for topic, counts in read.items() if not counts]
        held: Mapping[str, int] = {}
        if without_reader and self.kind == "nats":
            held = await jetstream.stored(self.url, without_reader)
        elif without_reader:
            stored = {"rabbitmq": rabbitmq.stored, "kafka": kafka.stored, "redis": redis.stored}[self.kind]
            held = await asyncio.to_thread(stored, self.url, without_reader)
        return {topic: min(counts, default=held.get(topic, 0)) for topic, counts in read.items()}

    async def _look_at_streams(self) -> Observation:
        streams = await jetstream.streams(self.url, self.topics)
        missing = {topic for topic in self.topics if topic not in streams}
        refused: Collection[str] = ()
        try:
            if missing:
                await self.ensure()
        except RefusedStreams as error:  # these never were there: no sidecar has lost them
            LOG.warning("%s", error)
            refused = error.topics
        unread = await self._without_sidecar(streams, missing=bool(missing))
        lost, gaps = self._changes({(topic, 0): self._position(topic, stream) for topic, stream in streams.items()})
        return Observation(
            tuple(sorted(missing.union(lost).difference(refused))),
            tuple(reader for reader in unread if reader[1] not in refused),
            gaps=gaps,
        )

    async def _without_sidecar(self, streams: Mapping[str, Stream], *, missing: bool) -> list[Reader]:
        """Return the readers whose consumer no sidecar is bound to; check the consumers only if that is due."""
        identities = {topic: position.identity for (topic, _), position in self._positions.items()}
        recreated = any(stream.created != identities.get(topic, stream.created) for topic, stream in streams.items())
        now = time.monotonic()
        if missing or recreated or now >= self._consumers_due or self._unbound:
            self._consumers = await jetstream.consumers(self.url, self.readers)
            self._consumers_due = now + CONSUMERS_INTERVAL
        return self._unbound

    @property
    def _unbound(self) -> list[Reader]:
        bound = {reader for reader, consumer in self._consumers.items() if consumer.is_bound}
        return sorted(set(self.readers) - bound)

    def _position(self, topic: str, stream: Stream) -> Position:
        known = {app: consumer.next for (app, of), consumer in self._consumers.items() if of == topic}
        following = next_numbers(topic, self.readers, known, stream.first)
        return Position(stream.first, stream.end, following, stream.created)

    async def _look_at_queues(self) -> Observation:
        try:  # each time: nothing else tells of a binding that is gone, and what is published then goes nowhere
            self._lost.update(await self.ensure())
        except QueueError as error:
            self._lost.update(error.marked)
            if not isinstance(error, RefusedQueues):
                raise
            LOG.warning("%s", error)
        consumers = await asyncio.to_thread(queue_consumers, self.url, self.readers)
        idle = tuple(reader for reader, count in consumers.items() if not count)
        orphaned = tuple(reader for reader, count in consumers.items() if self.sidecars and count > self.sidecars)
        lost, self._lost = self._lost, set()
        return Observation(tuple(sorted(lost)), idle, orphaned)

    async def _look_at_topics(self) -> Observation:
        created: list[str] = []
        try:
            created = await self.ensure()
        except RefusedTopics as error:
            LOG.warning("%s", error)
        lost, gaps = self._changes(self._positions | await self._of_topics())
        affected = {*lost, *gaps, *created}
        self._stale = {reader for reader in self.readers if reader[1] in affected or reader in self._stale}
        return Observation(tuple(sorted({*lost, *created})), tuple(sorted(self._stale)), gaps=gaps)

    async def _of_topics(self) -> dict[Key, Position]:
        return await asyncio.to_thread(kafka.positions, self.url, self.topics, self.readers)

    async def _look_at_redis(self) -> Observation:
        positions = await asyncio.to_thread(redis.positions, self.url, self.topics, self.readers)
        missing = {topic for topic, _ in self._positions.keys() - positions.keys()}.intersection(self.topics)
        lost, gaps = self._changes(positions)
        return Observation(tuple(sorted(missing.union(lost))), gaps=gaps)

    def _changes(self, positions: dict[Key, Position]) -> tuple[Collection[str], tuple[str, ...]]:
        """Remember the positions; return the topics that were created again, and those with gaps."""
        lost, gaps = compare(self._positions, positions)
        self._positions = positions
        return lost, tuple(sorted(gaps))

    def resume(self, before: BrokerWatch) -> None:
        """Take over what an earlier watch of the same broker has observed."""
        self._unread = dict(before._unread)
        self._positions, self._stale, self._lost = dict(before._positions), set(before._stale), set(before._lost)

    def to_reopen(self, actual: Observation, apps: Iterable[str] | None = None) -> set[str]:
        """Return the apps whose sidecars must subscribe again: after `GRACE`, then after twice that, and so on.

        Only `apps` are looked at, of which it is known that they run; without it, all. A sidecar whose stream was lost
        has nothing to wait for.
        """
        now, running = time.monotonic(), actual if apps is None else actual.of(set(apps))
        self._unread = {item: self._unread.get(item, (now, GRACE)) for item in (*running.unread, *running.orphaned)}
        late = {item for item, (since, wait) in self._unread.items() if actual.lost or now - since > wait}
        self._unread |= {item: (now, min(2 * self._unread[item][1], LONGEST)) for item in late}
        self._stale -= late
        return {app for app, _ in late}
