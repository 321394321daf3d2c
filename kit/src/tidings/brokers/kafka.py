"""The Kafka topics that a plan needs, and how many messages of them wait for each app.

Topics are created beforehand, because a broker that creates them by itself gives each of them its default number of
partitions, and may be told not to create any. An app is one consumer group, named after it.

The Kafka client is imported where it is used: it takes longer to load than everything else here.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, unquote, urlsplit

from tidings.brokers.positions import Key, Position, Reader, next_numbers
from tidings.errors import TidingsError

if TYPE_CHECKING:
    from kafka import TopicPartition  # type: ignore[import-untyped]  # it has no types
    from kafka.admin import KafkaAdminClient  # type: ignore[import-untyped]

MAX_AGE = timedelta(days=7)
"""How long messages are kept, read or not; as long as an app's inbox remembers what it has handled."""
PARTITIONS = "tidings.dev/partitions"
"""Annotation of a pubsub.kafka component: how many partitions a topic gets when it is created."""
DEFAULT_PARTITIONS = 3
_CONNECT_MS = 5_000
_EXISTS = 36


class TopicError(TidingsError):
    """Kafka does not answer, or does not do what was asked."""


class RefusedTopics(TopicError):
    """Kafka refuses some topics; all others exist."""

    def __init__(self, reasons: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"Kafka refuses the topic {topic}: {why}" for topic, why in reasons.items()))
        self.topics = frozenset(reasons)


class Address(NamedTuple):
    """A parsed address, such as `kafka://user:password@host:9092,other:9092`."""

    brokers: str
    user: str
    password: str
    tls: bool

    @classmethod
    def of(cls, url: str) -> Address:
        """Parse an address: scheme `kafkas` for TLS, a user for SASL/PLAIN."""
        parts = urlsplit(url)
        login, _, hosts = parts.netloc.rpartition("@")
        user, _, password = login.partition(":")
        return cls(hosts, unquote(user), unquote(password), parts.scheme == "kafkas")

    @property
    def url(self) -> str:
        """The address as a URL."""
        login = f"{quote(self.user, safe='')}:{quote(self.password, safe='')}@" if self.user else ""
        return f"kafka{'s' if self.tls else ''}://{login}{self.brokers}"

    def reach(self) -> None:
        """Raise OSError where no broker accepts connections: the client would leave its sockets open then."""
        failures: list[OSError] = []
        for broker in self.brokers.split(","):
            host, _, port = broker.rpartition(":") if ":" in broker else (broker, "", "9092")
            try:
                socket.create_connection((host, int(port)), timeout=_CONNECT_MS / 1000).close()
            except OSError as error:
                failures.append(error)
            else:
                return
        raise failures[0]

    @property
    def client(self) -> dict[str, Any]:
        """The connection settings of the Kafka client."""
        security = f"{'SASL_' if self.user else ''}{'SSL' if self.tls else 'PLAINTEXT'}"
        login = {"sasl_mechanism": "PLAIN", "sasl_plain_username": self.user, "sasl_plain_password": self.password}
        servers = {"bootstrap_servers": self.brokers.split(","), "security_protocol": security}
        return {**servers, "bootstrap_timeout_ms": _CONNECT_MS, **(login if self.user else {})}


@contextmanager
def _connected(url: str) -> Iterator[KafkaAdminClient]:
    """Connect; any failure of Kafka within the context is a TopicError."""
    from kafka.admin import KafkaAdminClient  # noqa: PLC0415 - see the module's docstring
    from kafka.errors import KafkaError  # type: ignore[import-untyped]  # noqa: PLC0415

    address = Address.of(url)
    try:
        address.reach()
        client = KafkaAdminClient(**address.client)
        try:
            yield client
        finally:
            client.close()
    except (KafkaError, OSError) as error:
        raise TopicError(
            f"Kafka does not answer as expected at {address.brokers} ({error}): is it running, is that its address, "
            "and are user and password right?"
        ) from error


def partitions_of(component: Mapping[str, Any] | None) -> int:
    """Return how many partitions a component's annotation asks for.

    Raises:
        ValueError: The annotation is not a positive number.

    """
    annotations = (component or {}).get("metadata", {}).get("annotations") or {}
    asked = int(annotations.get(PARTITIONS, DEFAULT_PARTITIONS))
    if asked < 1:
        raise ValueError(f"{PARTITIONS} is {asked}: write a number from 1")
    return asked


def _existing(client: KafkaAdminClient, topics: Iterable[str]) -> list[dict[str, Any]]:
    """Return Kafka's descriptions of those topics that exist."""
    names = sorted(set(topics))
    return [item for item in client.describe_topics(names) if not item["error_code"]] if names else []


def _partitions(client: KafkaAdminClient, topics: Iterable[str]) -> dict[str, int]:
    """Return the number of partitions of each topic that exists."""
    return {topic["name"]: len(topic["partitions"]) for topic in _existing(client, topics)}


def positions(url: str, topics: Iterable[str], readers: Iterable[Reader]) -> dict[Key, Position]:
    """Return the position of each partition of each topic that exists.

    While Kafka starts or moves its groups, they count as not having read anything.

    Raises:
        TopicError: Kafka does not answer.

    """
    from kafka.errors import CoordinatorLoadInProgressError, NotCoordinatorError  # noqa: PLC0415

    expected = set(readers)
    with _connected(url) as client:
        ids = {topic["name"]: str(topic["topic_id"]) for topic in _existing(client, topics)}
        offsets = _offsets(client, topics)
        try:
            committed = _committed(client, {app for app, _ in expected})
        except (CoordinatorLoadInProgressError, NotCoordinatorError):
            committed = {}
    result: dict[Key, Position] = {}
    for at, (first, end) in offsets.items():
        known = {app: offset for (app, of), offset in committed.items() if of == at}
        result[at.topic, at.partition] = Position(
            first, end, next_numbers(at.topic, expected, known, first), ids[at.topic]
        )
    return result


def ensure_topics(
    url: str,
    topics: Iterable[str],
    *,
    partitions: int = DEFAULT_PARTITIONS,
    replicas: int = 1,
    max_age: timedelta = MAX_AGE,
) -> list[str]:
    """Create the topics that do not exist, and return them; existing ones stay as they are.

    With three replicas or more, a message counts as published once all of them but one have it, so that a broker may
    be lost. Partitions are not added to an existing topic: a subject would move to another partition, and its events
    would overtake those that are waiting.

    Raises:
        TopicError: Kafka does not answer.
        RefusedTopics: It refuses a topic. All others have been created: one topic must not affect the others.

    """
    from kafka.admin import NewTopic  # noqa: PLC0415 - see the module's docstring

    settings = {
        "retention.ms": str(round(max_age.total_seconds() * 1000)),
        "min.insync.replicas": str(max(replicas - 1, 1)),
    }
    expected = set(topics)
    with _connected(url) as client:
        missing = sorted(expected - _partitions(client, expected).keys())
        if not missing:
            return []
        asked = [NewTopic(name, partitions, replicas, topic_configs=settings) for name in missing]
        answers = client.create_topics(asked, raise_errors=False)["topics"]
        failed = [answer for answer in answers if answer["error_code"] not in (0, _EXISTS)]
        refused = {item["name"]: str(item["error_message"]) for item in failed}
        created = [name for name in missing if name not in refused]
        if created:
            client.wait_for_topics(created)
    if refused:
        raise RefusedTopics(refused)
    return created


def pending(url: str, readers: Iterable[Reader]) -> dict[tuple[str, str], int]:
    """Return the lag by topic and consumer group: messages that a reader has not acknowledged yet.

    Topics that do not exist are left out.

    Raises:
        TopicError: Kafka does not answer.

    """
    expected = set(readers)
    lag: Counter[tuple[str, str]] = Counter()
    with _connected(url) as client:
        offsets = _offsets(client, {topic for _, topic in expected})
        committed = _committed(client, {app for app, _ in expected})
    for app, topic in expected:
        for at, (first, last) in offsets.items():
            if at.topic == topic:
                lag[topic, app] += max(last - max(committed.get((app, at), 0), first), 0)
    return dict(lag)


def stored(url: str, topics: Iterable[str]) -> dict[str, int]:
    """Return how many messages each topic holds, whether read or not; topics that do not exist are left out.

    Raises:
        TopicError: Kafka does not answer.

    """
    total: Counter[str] = Counter()
    with _connected(url) as client:
        for at, (first, last) in _offsets(client, topics).items():
            total[at.topic] += last - first
    return dict(total)


def _offsets(client: KafkaAdminClient, topics: Iterable[str]) -> dict[TopicPartition, tuple[int, int]]:
    """Return the offsets of the first message and after the last one, by partition of each topic that exists."""
    from kafka import TopicPartition  # noqa: PLC0415 - see the module's docstring
    from kafka.admin import OffsetSpec  # noqa: PLC0415

    many = _partitions(client, topics)
    every = [TopicPartition(topic, number) for topic, count in many.items() for number in range(count)]
    if not every:
        return {}
    first, last = (
        client.list_partition_offsets(dict.fromkeys(every, which)) for which in (OffsetSpec.EARLIEST, OffsetSpec.LATEST)
    )
    return {at: (first[at].offset, last[at].offset) for at in every}


def _committed(client: KafkaAdminClient, groups: Iterable[str]) -> dict[tuple[str, TopicPartition], int]:
    """Return the next offset to read, by group and partition, where a group has committed one."""
    from kafka.errors import CoordinatorNotAvailableError  # noqa: PLC0415

    names = sorted(groups)
    try:
        result = client.list_group_offsets(dict.fromkeys(names)) if names else {}
    except CoordinatorNotAvailableError:  # no group has ever been used on this Kafka
        return {}
    return {(name, at): offset.offset for name, offsets in result.items() for at, offset in offsets.items()}
