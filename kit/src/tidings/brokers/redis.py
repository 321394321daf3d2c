"""Reads the state of Redis streams: entries that wait for a consumer group, and whether a stream has lost its entries.

An app is one consumer group, named after it.

The Redis client is imported where it is used: most systems have another broker.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from tidings.brokers.positions import Key, Position, Reader, next_numbers
from tidings.errors import TidingsError

if TYPE_CHECKING:
    from redis import Redis

_TIMEOUT = 5
"""Seconds for a connection and for each answer."""
_MOST_COUNTED = 10_000
"""Entries that are counted one by one, where Redis does not know how many there are."""


class GroupError(TidingsError):
    """Redis does not answer, or does not do what was asked."""


@contextmanager
def _connected(url: str) -> Iterator[Redis]:
    """Connect; any failure of Redis within the context is a GroupError."""
    from redis import Redis  # noqa: PLC0415 - see the module's docstring
    from redis.exceptions import RedisError  # noqa: PLC0415

    # An entry may hold any bytes.
    text: dict[str, Any] = {"decode_responses": True, "encoding_errors": "replace"}
    client = Redis.from_url(url, socket_timeout=_TIMEOUT, socket_connect_timeout=_TIMEOUT, **text)
    try:
        yield client
    except (RedisError, OSError) as error:
        raise GroupError(
            f"Redis does not answer as expected ({error}): is it running, and is that its address?"
        ) from error
    finally:
        client.close()


@dataclass(frozen=True, slots=True)
class StreamPosition(Position):
    """Position of a stream, whose entries are numbered by their count: their ids have gaps.

    Attributes:
        first_id: Of the first entry.
        last_id: Of the latest entry ever.

    """

    first_id: tuple[int, ...] = ()
    last_id: tuple[int, ...] = ()

    def is_recreated(self, now: Position) -> bool:
        """Return True if `now` is the position of another stream.

        A stream that was created again may have more entries than the earlier one had. Its first one is then younger
        than the last one of the earlier stream, although no entry has been deleted.
        """
        other = cast("StreamPosition", now)
        is_replaced = self.end > 0 and other.first == 0 and other.first_id > self.last_id
        return other.end < self.end or other.last_id < self.last_id or is_replaced


def positions(url: str, topics: Iterable[str], readers: Iterable[Reader]) -> dict[Key, Position]:
    """Return the position of each topic's stream; topics without one are left out.

    Raises:
        GroupError: Redis does not answer.

    """
    from redis.exceptions import ResponseError  # noqa: PLC0415

    result: dict[Key, Position] = {}
    names, expected = sorted(set(topics)), set(readers)
    with _connected(url) as client, client.pipeline(transaction=False) as pipeline:
        for topic in names:
            pipeline.xinfo_stream(topic)
            pipeline.xinfo_groups(topic)
        answers = pipeline.execute(raise_on_error=False)
        for topic, stream, groups in zip(names, answers[::2], answers[1::2], strict=True):
            if isinstance(stream, ResponseError) or isinstance(groups, ResponseError):
                continue
            length = stream["length"]
            added = stream.get("entries-added", length)  # since Redis 7
            known = {group["name"]: added - group["pending"] - _undelivered(client, topic, group) for group in groups}
            following = next_numbers(topic, expected, known, added - length)
            first_id, last_id = _id(stream["first-entry"][0]) if length else (), _id(stream["last-generated-id"])
            result[topic, 0] = StreamPosition(added - length, added, following, "", first_id, last_id)
    return result


def _id(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("-"))


def pending(url: str, topics: Iterable[str]) -> dict[tuple[str, str], int]:
    """Return how many entries each group has not acknowledged yet, by topic and group.

    Topics that have no stream are left out.

    Raises:
        GroupError: Redis does not answer.

    """
    result: dict[tuple[str, str], int] = {}
    with _connected(url) as client:
        for topic in _existing(client, topics):
            for group in client.xinfo_groups(topic):
                result[topic, group["name"]] = group["pending"] + _undelivered(client, topic, group)
    return result


def _undelivered(client: Redis, topic: str, group: Mapping[str, Any]) -> int:
    """Return how many entries no consumer of a group has received yet."""
    lag = group.get("lag")
    if lag is not None:
        return int(lag)
    # Redis before 7, or entries in between were deleted.
    return len(client.xrange(topic, min=f"({group['last-delivered-id']}", count=_MOST_COUNTED) or ())


def stored(url: str, topics: Iterable[str]) -> dict[str, int]:
    """Return how many entries each topic's stream holds, whether read or not; topics without one are left out.

    Raises:
        GroupError: Redis does not answer.

    """
    with _connected(url) as client:
        return {topic: client.xlen(topic) for topic in _existing(client, topics)}


def _existing(client: Redis, topics: Iterable[str]) -> list[str]:
    return [topic for topic in sorted(set(topics)) if client.type(topic) == "stream"]
