"""The JetStream streams that Dapr's pubsub.jetstream needs and does not make: one for every topic.

One each, because a Dapr app has one durable consumer name: of two topics in one stream it could read only one.
The other brokers make what they need themselves.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING

import nats
import nats.errors
from nats.js.api import RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import APIError, NotFoundError, ServiceUnavailableError

from tidings.errors import TidingsError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nats.js import JetStreamContext

# As long as an app's inbox remembers what it has handled: nothing older can come back and be taken for new.
MAX_AGE = timedelta(days=7)
# A publisher that is unsure publishes again; within this time JetStream itself drops the copy by the event's id.
DUPLICATE_WINDOW = timedelta(minutes=10)
_TOPIC = re.compile(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*")


class StreamError(TidingsError):
    """A stream could not be made, or JetStream is not there."""


def stream_name(topic: str) -> str:
    """The stream of a topic: its dots, which a stream's name may not have, as underscores, which no topic has.

    Raises ValueError for a topic with other characters than letters, digits, dashes and dots between them.
    """
    if not _TOPIC.fullmatch(topic):
        raise ValueError(f"{topic!r} is no topic: use letters, digits and dashes, with single dots between them")
    return topic.replace(".", "_")


async def _ensure(js: JetStreamContext, wanted: StreamConfig) -> None:
    try:
        present = (await js.stream_info(str(wanted.name))).config
    except NotFoundError:
        await js.add_stream(wanted)
        return
    ours = (wanted.subjects, wanted.max_age, wanted.duplicate_window, wanted.num_replicas)
    if (present.subjects, present.max_age, present.duplicate_window, present.num_replicas) != ours:
        await js.update_stream(wanted)


async def ensure_streams(
    url: str,
    topics: Iterable[str],
    *,
    max_age: timedelta = MAX_AGE,
    duplicate_window: timedelta = DUPLICATE_WINDOW,
    replicas: int = 1,
) -> None:
    """Make a stream for every topic, on disk, kept for `max_age` whether read or not; what is there already stays.

    A stream whose age, duplicate window or replicas differ is changed in place: its events stay. Raises ValueError
    for a malformed topic, and StreamError where NATS does not answer at `url`, has no JetStream, or refuses a stream.
    """
    wanted = [
        StreamConfig(
            name=stream_name(topic),
            subjects=[topic],
            retention=RetentionPolicy.LIMITS,
            storage=StorageType.FILE,
            max_age=max_age.total_seconds(),
            duplicate_window=duplicate_window.total_seconds(),
            num_replicas=replicas,
        )
        for topic in sorted(set(topics))
    ]
    try:
        client = await nats.connect(url, allow_reconnect=False, connect_timeout=5, error_cb=_silent)
    except (OSError, nats.errors.Error) as error:
        raise StreamError(
            f"NATS does not answer at {url} ({error}): is it running, and is that its address?"
        ) from error
    try:
        for config in wanted:
            await _ensure(client.jetstream(), config)
    except (ServiceUnavailableError, nats.errors.NoRespondersError) as error:
        raise StreamError(f"NATS at {url} has no JetStream: start it with `--jetstream`") from error
    except APIError as error:
        raise StreamError(
            f"JetStream refuses the stream {config.name}: {error.description}. If a stream of another name holds "
            f"the subject {config.subjects}, delete that stream or take the subject out of it."
        ) from error
    finally:
        await client.close()


async def _silent(_error: Exception) -> None:
    """What goes wrong is raised to the caller; nats-py would also print it."""
