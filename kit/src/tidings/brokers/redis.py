"""Reads the state of Redis streams: entries that wait for a consumer group, and whether a stream has lost its entries.

An app is one consumer group, named after it.

The Redis client is imported where it is used: most systems have another broker.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

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


class Position(NamedTuple):
    """How far a stream has come: the ids of its first entry and of the latest one ever, and numbers of entries."""

    first: tuple[int, ...]
    last: tuple[int, ...]
    added: int
    length: int

    def is_lost(self, now: Position | None) -> bool:
        """Return True if `now`, read later, is the position of another stream, or of none.

        A stream that was created again may have more entries than the earlier one had. Its first one is then younger
        than the last one of the earlier stream, although no entry has been deleted.
        """
        if now is None or now.last < self.last or now.added < self.added:
            return True
        return self.added > 0 and now.length == now.added and now.first > self.last


def positions(url: str, topics: Iterable[str]) -> dict[str, Position]:
    """Return the position of each topic's stream; topics without one are left out.

    Raises:
        GroupError: Redis does not answer.

    """
    from redis.exceptions import ResponseError  # noqa: PLC0415

    names = sorted(set(topics))
    with _connected(url) as client, client.pipeline(transaction=False) as pipeline:
        for topic in names:
            pipeline.xinfo_stream(topic)
        answers = zip(names, pipeline.execute(raise_on_error=False), strict=True)
        return {topic: _position(answer) for topic, answer in answers if not isinstance(answer, ResponseError)}


def _position(stream: Mapping[str, Any]) -> Position:
    length = stream["length"]
    first = _id(stream["first-entry"][0]) if length else ()
    return Position(first, _id(stream["last-generated-id"]), stream.get("entries-added", length), length)


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
