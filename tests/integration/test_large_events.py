"""Events near a broker's limit: one that is too large is refused for good, and its dead letter is shortened."""

from __future__ import annotations

import asyncio
from pathlib import Path

import nats as nats_client
import pytest
from kafka.admin import KafkaAdminClient, NewTopic  # type: ignore[import-untyped]  # it has no types
from tests.conformance import poll, unique
from tests.support import bad_events
from tests.support.bad_events import SETS, encoded, envelope
from tests.support.brokers import values_of

from tidings.brokers.components import render
from tidings.brokers.jetstream import ensure_streams, stream_name
from tidings.brokers.kafka import Address, ensure_topics
from tidings.dapr.client import DaprSidecar
from tidings.errors import PublishRefused
from tidings_cli.testing.fixtures import Serve, StartDaprd

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]
LIMIT = 1_048_576
"""Bytes that NATS and Kafka take by default, the latter with the message's key and headers."""


def padded(number: int, trouble: str, size: int) -> bytes:
    """Return an event of that many bytes."""

    def with_padding(length: int) -> bytes:
        return encoded(envelope(number, data={"number": number, "trouble": trouble, "padding": "x" * length}))

    return with_padding(size - len(with_padding(0)))


@pytest.mark.parametrize("broker", ["nats", "kafka"])
async def test_an_event_beyond_the_brokers_limit_is_refused_for_good(
    broker: str, request: pytest.FixtureRequest, daprd: StartDaprd
) -> None:
    topic, address = unique("orders.orderPlaced"), request.getfixturevalue(broker)
    if broker == "nats":
        await ensure_streams(address, [topic])
    else:
        await asyncio.to_thread(ensure_topics, address, [topic])
    process = await daprd("orders", resources=render(SETS / broker, values_of(broker, address)))
    sidecar = DaprSidecar(process.address)
    small, large = padded(1, "", 1000), padded(2, "", 2 * LIMIT)
    await sidecar.publish(topic, small)
    with pytest.raises(PublishRefused):
        await sidecar.publish(topic, large)
    results = await sidecar.publish_many(topic, [small, large, small])
    assert [type(result) for result in results] == [type(None), PublishRefused, type(None)]
    await sidecar.close()


@pytest.mark.parametrize("broker", ["nats", "kafka"])
async def test_an_event_beyond_the_limit_of_its_topic_is_refused_for_good(
    broker: str, request: pytest.FixtureRequest, daprd: StartDaprd
) -> None:
    """The server refuses it, not the client in the sidecar."""
    topic, address = unique("orders.orderPlaced"), request.getfixturevalue(broker)
    if broker == "nats":
        client = await nats_client.connect(address)
        await client.jetstream().add_stream(name=stream_name(topic), subjects=[topic], max_msg_size=2000)
        await client.close()
    else:
        admin = KafkaAdminClient(**Address.of(address).client)
        admin.create_topics([NewTopic(topic, 1, 1, topic_configs={"max.message.bytes": "2000"})])
        admin.close()
    process = await daprd("orders", resources=render(SETS / broker, values_of(broker, address)))
    sidecar = DaprSidecar(process.address)
    await sidecar.publish(topic, padded(1, "", 1000))
    with pytest.raises(PublishRefused, match="raise the limit"):
        await sidecar.publish(topic, padded(2, "", 10_000))
    await sidecar.close()


@pytest.mark.parametrize("broker", ["nats", "redis", "rabbitmq", "kafka"])
async def test_a_dead_letter_that_is_larger_than_its_event_may_be_is_shortened(
    broker: str, request: pytest.FixtureRequest, tmp_path: Path, daprd: StartDaprd, serve: Serve
) -> None:
    """The reason and the attempts are added to an event that just fits."""
    app, address = unique("till").replace(".", "-"), request.getfixturevalue(broker)
    async with bad_events.running(broker, address, app, tmp_path, daprd, serve) as (shop, letters, publish):
        await publish([padded(1, "reject", LIMIT - 150), encoded(envelope(2))])
        await poll(lambda: bool(letters) and 2 in shop.handled, patience=60)
    [letter] = letters
    assert (letter["originalid"], letter["failurereason"]) == ("e1", "never wanted")
    assert ("failureshortened" in letter) == (broker in {"nats", "kafka"})
