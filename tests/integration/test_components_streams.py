"""The streams that JetStream needs, made on a real NATS server."""

from __future__ import annotations

import asyncio
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import nats
import pytest
from nats.js.api import StorageType, StreamInfo
from tests.support.cancelling import uncollected

from tidings.brokers import jetstream as streams_module
from tidings.brokers.jetstream import (
    ConsumerSettings,
    StreamError,
    ensure_streams,
    pending,
    stored,
    stream_name,
)
from tidings_cli.programs import ensure

pytestmark = pytest.mark.real


@contextmanager
def server(*flags: str) -> Iterator[str]:
    """Yield a NATS server on a port of its own choice, as it says once it listens."""
    command = [ensure("nats-server")["nats-server"], "-a", "127.0.0.1", "-p", "-1"]
    with subprocess.Popen([*map(str, command), *flags], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        listening = next(line for line in process.stderr if "Listening for client connections on" in line)
        next(line for line in process.stderr if "Server is ready" in line)
        yield f"nats://{listening.split()[-1]}"
        process.terminate()


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with server("--jetstream", "--store_dir", str(tmp_path)) as address:
        yield address


async def streams(url: str) -> dict[str, StreamInfo]:
    client = await nats.connect(url)
    result = await client.jetstream().streams_info()
    await client.close()
    return {str(stream.config.name): stream for stream in result}


async def publish(url: str, topic: str, message_id: str) -> None:
    client = await nats.connect(url)
    await client.jetstream().publish(topic, b"{}", headers={"Nats-Msg-Id": message_id})
    await client.close()


async def test_every_topic_gets_a_stream_that_keeps(url: str) -> None:
    await ensure_streams(url, ["orders.orderPlaced.v1", "deadletter.order-desk", "orders.orderPlaced.v1"])
    result = await streams(url)
    assert {name: stream.config.subjects for name, stream in result.items()} == {
        "orders_orderPlaced_v1": ["orders.orderPlaced.v1"],
        "deadletter_order-desk": ["deadletter.order-desk"],
    }
    config = result["orders_orderPlaced_v1"].config
    assert config.storage == StorageType.FILE
    assert (config.max_age, config.duplicate_window) == (7 * 24 * 3600, 600)
    assert (config.max_msgs, config.max_bytes) == (-1, -1)


async def test_again_it_changes_only_what_differs_and_loses_nothing(url: str) -> None:
    await ensure_streams(url, ["a.b"])
    for message_id in ("1", "2", "2"):
        await publish(url, "a.b", message_id)
    before = (await streams(url))["a_b"]
    assert before.state.messages == 2, "the second '2' is a duplicate"
    await ensure_streams(url, ["a.b", "c"])
    assert (await streams(url))["a_b"] == before

    await ensure_streams(url, ["a.b"], max_age=timedelta(hours=1), duplicate_window=timedelta(minutes=2))
    after = (await streams(url))["a_b"]
    assert (after.config.max_age, after.config.duplicate_window, after.state.messages) == (3600, 120, 2)


async def test_what_waits_is_counted_by_consumer_also_what_is_being_handled(url: str) -> None:
    await ensure_streams(url, ["a.b", "c"])
    client = await nats.connect(url)
    reading = {name: await client.jetstream().pull_subscribe("a.b", durable=name) for name in ("slow", "away")}
    for number in range(5):
        await publish(url, "a.b", str(number))
    done, *_ = await reading["slow"].fetch(3)
    await done.ack_sync()
    await client.jetstream().pull_subscribe("a.b")  # somebody looks on: no app
    assert await pending(url, ["a.b", "c", "no.such"]) == {("a_b", "slow"): 4, ("a_b", "away"): 5}
    await client.close()


async def test_the_messages_of_a_stream_are_counted(url: str) -> None:
    await ensure_streams(url, ["deadletter.kitchen", "deadletter.empty"])
    await publish(url, "deadletter.kitchen", "1")
    counts = await stored(url, ["deadletter.kitchen", "deadletter.empty", "deadletter.no-such"])
    assert counts == {"deadletter.kitchen": 1, "deadletter.empty": 0}


async def test_a_subject_of_another_stream_is_an_error_that_names_it(url: str) -> None:
    client = await nats.connect(url)
    await client.jetstream().add_stream(name="everything", subjects=["a.>"])
    await client.close()
    with pytest.raises(StreamError, match=r"refuses the stream a_b.*overlap"):
        await ensure_streams(url, ["a.b"])


async def test_without_jetstream_the_error_shows_how_to_start_it() -> None:
    with server() as url, pytest.raises(StreamError, match="--jetstream"):
        await ensure_streams(url, ["a"])


async def test_without_a_server_the_error_names_the_address() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"nats://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(StreamError, match=f"does not answer at {address}"):
            await ensure_streams(address, ["a"])


@pytest.mark.parametrize("leaves", ["times out", "is cancelled"])
async def test_a_silent_server_leaves_no_connection_behind(leaves: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(streams_module._ONE_MORE_TRY, "connect_timeout", 0.2)
    accepted, closed = asyncio.Event(), asyncio.Event()

    async def accept_silently(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.set()
        while await reader.read(100):
            pass
        closed.set()
        writer.close()

    server = await asyncio.start_server(accept_silently, "127.0.0.1", 0)
    asking = asyncio.ensure_future(pending(f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}", ["a"]))
    await accepted.wait()
    if leaves == "is cancelled":
        asking.cancel()
    with pytest.raises((StreamError, asyncio.CancelledError)):
        await asking
    with uncollected():
        await asyncio.wait_for(closed.wait(), 60)
    server.close()


@pytest.mark.parametrize(
    ("metadata", "settings"),
    [
        ({}, (None, None)),
        ({"ackWait": "20s", "maxAckPending": "32"}, (20, 32)),
        ({"ackWait": "1.5m"}, (90, None)),
        ({"ackWait": "250ms"}, (0.25, None)),
    ],
)
def test_the_settings_of_a_component(metadata: dict[str, str], settings: tuple[float | None, int | None]) -> None:
    items = [{"name": name, "value": value} for name, value in metadata.items()]
    assert ConsumerSettings.of({"spec": {"metadata": items}}) == settings


@pytest.mark.parametrize("duration", ["20", "s", "1m30s", "-1s"])
def test_a_malformed_duration_is_refused(duration: str) -> None:
    with pytest.raises(ValueError, match="is no duration"):
        ConsumerSettings.of({"spec": {"metadata": [{"name": "ackWait", "value": duration}]}})


@pytest.mark.parametrize("topic", ["", "a..b", ".a", "a.", "a b", "a.*", "a.>", "a/b", "a\n"])
def test_a_malformed_topic_is_refused(topic: str) -> None:
    with pytest.raises(ValueError, match="is no topic"):
        stream_name(topic)


def test_no_two_topics_share_a_stream() -> None:
    topics = ["a.b.c", "a-b.c", "a.b-c", "a-b-c", "abc"]
    assert len({stream_name(topic) for topic in topics}) == len(topics)
