"""Pending messages of Redis streams, counted on a real Redis."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from redis import Redis

from tidings.brokers.redis import GroupError, pending, stored
from tidings.messages.envelope import new_id

pytestmark = pytest.mark.real


@pytest.fixture
def client(redis: str) -> Iterator[Redis]:
    with Redis.from_url(f"redis://{redis}", decode_responses=True) as client:
        yield client


def test_entries_wait_until_a_group_has_acknowledged_them(redis: str, client: Redis) -> None:
    topic, url = f"deadletter.shop{new_id()[-6:]}", f"redis://{redis}"
    entries = [client.xadd(topic, {"data": str(number)}) for number in range(5)]
    client.xgroup_create(topic, "archive", id="0")
    client.xreadgroup("archive", "one", {topic: ">"}, count=3)
    client.xack(topic, "archive", entries[0])
    assert pending(url, [topic, "no.such.v1"]) == {(topic, "archive"): 4}
    assert stored(url, [topic, "no.such.v1"]) == {topic: 5}
    client.xdel(topic, entries[3])  # from then on Redis does not know the lag
    assert client.xinfo_groups(topic)[0]["lag"] is None
    assert pending(url, [topic]) == {(topic, "archive"): 3}


def test_a_key_that_is_no_stream_is_left_out(redis: str, client: Redis) -> None:
    key = f"a{new_id()[-6:]}.b.v1"
    client.set(key, "x")
    assert (pending(f"redis://{redis}", [key]), stored(f"redis://{redis}", [key])) == ({}, {})


def test_a_redis_that_is_away_is_an_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(GroupError, match="is it running"):
            pending(f"redis://127.0.0.1:{taken.getsockname()[1]}", ["a.b.v1"])
