"""The JetStream streams that Dapr's pubsub.jetstream needs and does not make: one for every topic.

One each, because a Dapr app has one durable consumer name: of two topics in one stream it could read only one.
The other brokers make what they need themselves.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import nats.errors
from nats.aio.client import Client
from nats.js.api import RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import APIError, NotFoundError, ServiceUnavailableError

from tidings.conventions import DEAD_LETTER_PREFIX, REPLAY_PREFIX
from tidings.errors import TidingsError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping

    from nats.js import JetStreamContext

    from tidings.brokers.positions import Reader

# As long as an app's inbox remembers what it has handled: nothing older can come back and be taken for new.
MAX_AGE = timedelta(days=7)
# A publisher that is unsure publishes again; within this time JetStream itself drops the copy by the event's id.
DUPLICATE_WINDOW = timedelta(minutes=10)
# The same event may well be dead-lettered or replayed twice within minutes, under its one id, and each time counts:
# there JetStream must drop nothing; the consumers do. 100 ms is the shortest window that it takes.
_AGAIN = (DEAD_LETTER_PREFIX, REPLAY_PREFIX)
_SHORTEST_WINDOW = timedelta(milliseconds=100)
# nats-py tries on for two minutes by default; this answers within seconds whether the server is there.
_ONE_MORE_TRY: dict[str, Any] = {
    "connect_timeout": 5,
    "allow_reconnect": False,
    "max_reconnect_attempts": 1,
    "reconnect_time_wait": 0.2,
}
_TOPIC = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_NAMES = str.maketrans({".": "_", "_": "="})


_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}


class StreamError(TidingsError):
    """A stream could not be made, or JetStream is not there."""


def stream_name(topic: str) -> str:
    """Return the name of a topic's stream, which may have no dot: `a.b_c` becomes `a_b=c`. No two topics share one.

    Raises:
        ValueError: The topic has characters that the planner refuses in one.

    """
    if not _TOPIC.fullmatch(topic):
        raise ValueError(f"{topic!r} is no topic: use letters, digits, '_' and '-', with single dots between them")
    return topic.translate(_NAMES)


class RefusedStreams(StreamError):
    """JetStream refuses some streams; all others are there."""

    def __init__(self, reasons: Mapping[str, str]) -> None:
        super().__init__("; ".join(reasons.values()))
        self.topics = frozenset(reasons)


class ConsumerSettings(NamedTuple):
    """Consumer settings of a Dapr component that can be changed on existing consumers; None: not set."""

    ack_wait: float | None  # seconds
    max_ack_pending: int | None

    @classmethod
    def of(cls, component: Mapping[str, Any]) -> ConsumerSettings:
        """The settings of a rendered pubsub.jetstream component. Raises ValueError for a malformed duration."""
        metadata = {item["name"]: item.get("value") for item in component["spec"]["metadata"]}
        wait, pending = metadata.get("ackWait"), metadata.get("maxAckPending")
        match = _DURATION.fullmatch(wait or "")
        if wait and not match:
            raise ValueError(f"ackWait {wait!r} is no duration: write one number and its unit, such as 20s or 2m")
        return cls(float(match[1]) * _UNITS[match[2]] if match else None, int(pending) if pending else None)


async def _retune(js: JetStreamContext, stream: str, settings: ConsumerSettings) -> None:
    for consumer in await js.consumers_info(stream):
        present = consumer.config
        expected = replace(
            present,
            ack_wait=settings.ack_wait or present.ack_wait,
            max_ack_pending=settings.max_ack_pending or present.max_ack_pending,
        )
        if expected != present:
            await js.add_consumer(stream, expected)


def _stream(topic: str, max_age: timedelta, duplicate_window: timedelta, replicas: int) -> StreamConfig:
    return StreamConfig(
        name=stream_name(topic),
        subjects=[topic],
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        max_age=max_age.total_seconds(),
        duplicate_window=(_SHORTEST_WINDOW if topic.startswith(_AGAIN) else duplicate_window).total_seconds(),
        num_replicas=replicas,
    )


async def _ensure(js: JetStreamContext, expected: StreamConfig) -> None:
    try:
        present = (await js.stream_info(str(expected.name))).config
    except NotFoundError:
        await js.add_stream(expected)
        return
    own = (expected.subjects, expected.max_age, expected.duplicate_window, expected.num_replicas)
    if (present.subjects, present.max_age, present.duplicate_window, present.num_replicas) != own:
        await js.update_stream(expected)


@contextlib.asynccontextmanager
async def _connected(url: str) -> AsyncIterator[Client]:
    """Connect to one of the servers in `url`; raises StreamError where none answers, or has no JetStream."""
    client = Client()
    try:
        try:
            await client.connect(url.split(","), error_cb=_silent, **_ONE_MORE_TRY)
        except (OSError, nats.errors.Error) as error:
            raise StreamError(
                f"NATS does not answer at {url} ({error}): is it running, and is that its address?"
            ) from error
        yield client
    except nats.errors.TimeoutError as error:
        raise StreamError(f"NATS at {url} does not answer in time: a cluster may be electing a leader") from error
    except (ServiceUnavailableError, nats.errors.NoRespondersError) as error:
        raise StreamError(f"NATS at {url} has no JetStream: start it with `--jetstream`") from error
    finally:
        await client.close()  # also what connect() opened before it failed: it does not close that itself


async def ensure_streams(
    url: str,
    topics: Iterable[str],
    *,
    component: Mapping[str, Any] | None = None,
    max_age: timedelta = MAX_AGE,
    duplicate_window: timedelta = DUPLICATE_WINDOW,
    replicas: int = 1,
) -> None:
    """Make a stream for every topic, on disk, kept for `max_age` whether read or not; what is there already stays.

    A stream whose age, duplicate window or replicas differ is changed in place: its events stay. So are the consumers
    that an earlier run left, where the rendered pubsub.jetstream `component` now asks for other settings: daprd does
    not change them, it fails to subscribe ("consumer name already in use") for ever.

    Raises:
        ValueError: A topic or setting is malformed.
        StreamError: NATS does not answer at `url`, or has no JetStream.
        RefusedStreams: It refuses a stream. All others have been made: one topic must not affect the others.

    """
    settings = ConsumerSettings.of(component) if component else None
    expected = {topic: _stream(topic, max_age, duplicate_window, replicas) for topic in sorted(set(topics))}
    refused: dict[str, str] = {}
    async with _connected(url) as client:
        for topic, config in expected.items():
            try:
                await _ensure(client.jetstream(), config)
                if settings:
                    await _retune(client.jetstream(), str(config.name), settings)
            except ServiceUnavailableError:
                raise
            except APIError as error:
                refused[topic] = (
                    f"JetStream refuses the stream {config.name}: {error.description}. If a stream of another name "
                    f"holds the subject {config.subjects}, delete that stream or take the subject out of it."
                )
    if refused:
        raise RefusedStreams(refused)


async def pending(url: str, topics: Iterable[str]) -> dict[tuple[str, str], int]:
    """Return how many messages each durable consumer has yet to acknowledge, by stream and consumer.

    Topics that have no stream are left out.

    Raises:
        StreamError: NATS does not answer at `url`, has no JetStream, or does not answer in time.
        ValueError: A topic is malformed.

    """
    result: dict[tuple[str, str], int] = {}
    async with _connected(url) as client:
        for stream in map(stream_name, sorted(set(topics))):
            with contextlib.suppress(NotFoundError):
                consumers = await client.jetstream().consumers_info(stream)
                for item in (item for item in consumers if item.config.durable_name):
                    result[stream, item.name] = (item.num_pending or 0) + (item.num_ack_pending or 0)
    return result


async def stored(url: str, topics: Iterable[str]) -> dict[str, int]:
    """Return how many messages each topic's stream holds, whether read or not; topics without a stream are left out.

    Raises:
        StreamError: NATS does not answer at `url`, or has no JetStream.
        ValueError: A topic is malformed.

    """
    result: dict[str, int] = {}
    async with _connected(url) as client:
        for topic in sorted(set(topics)):
            with contextlib.suppress(NotFoundError):
                result[topic] = (await client.jetstream().stream_info(stream_name(topic))).state.messages
    return result


class Stream(NamedTuple):
    """State of a topic's stream."""

    first: int
    """Number of the oldest event that it holds."""
    end: int
    """Number of the next event."""
    created: str


class Consumer(NamedTuple):
    """State of an app's consumer of a topic."""

    next: int
    """Number of the first event that the app has not acknowledged."""
    is_bound: bool
    """True if a sidecar is subscribed."""


async def streams(url: str, topics: Iterable[str]) -> dict[str, Stream]:
    """Return the stream of each topic; topics whose events no stream keeps are left out.

    One request lists up to 256 streams, so that a check of a whole system costs little.

    Raises:
        StreamError: NATS does not answer at `url`, or has no JetStream.
        ValueError: A topic is malformed.

    """
    names = {stream_name(topic): topic for topic in sorted(set(topics))}
    async with _connected(url) as client:
        js = client.jetstream()
        listed = {str(info.config.name): info for info in await js.streams_info()}
        # A list is incomplete if there are more streams, or if a server of the cluster did not answer in time.
        for name in names.keys() - listed.keys():
            with contextlib.suppress(NotFoundError):
                listed[name] = await js.stream_info(name)
    return {
        topic: Stream(max(info.state.first_seq, 1), info.state.last_seq + 1, str(info.created))
        for name, topic in names.items()
        # Otherwise, somebody recreated it for another subject. The first number is 0 until an event is published.
        if (info := listed.get(name)) is not None and topic in (info.config.subjects or ())
    }


async def consumers(url: str, readers: Iterable[Reader]) -> dict[Reader, Consumer]:
    """Return the consumer of each reader; readers without one are left out. This takes one request per topic.

    Raises:
        StreamError: NATS does not answer at `url`, or has no JetStream.
        ValueError: A topic is malformed.

    """
    expected = set(readers)
    found: dict[Reader, Consumer] = {}
    async with _connected(url) as client:
        for topic in sorted({topic for _, topic in expected}):
            with contextlib.suppress(NotFoundError):
                for item in await client.jetstream().consumers_info(stream_name(topic)):
                    acknowledged = item.ack_floor.stream_seq if item.ack_floor else 0
                    found[item.name, topic] = Consumer(acknowledged + 1, bool(item.push_bound))
    return {reader: consumer for reader, consumer in found.items() if reader in expected}


async def _silent(_error: Exception) -> None:
    """Ignore the error: the caller gets it as an exception, and nats-py would print it as well."""
