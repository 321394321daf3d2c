"""Brokers of three servers with three copies of everything: a server that is killed under load loses no event."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import nats
import pytest
from kafka.admin import KafkaAdminClient  # type: ignore[import-untyped]  # it has no types
from tests.conformance import event, poll, unique
from tests.integration.test_app_away import SETS, Reader, planned
from tests.support.brokers import available, values_of

from tidings.brokers.components import render
from tidings.brokers.jetstream import RefusedStreams, StreamError, ensure_streams, stream_name
from tidings.brokers.kafka import Address, ensure_topics
from tidings.dapr.client import DaprSidecar
from tidings.errors import SidecarError
from tidings.messages.envelope import new_id
from tidings_cli.programs import ensure
from tidings_cli.testing.fixtures import Serve, StartDaprd
from tidings_cli.testing.programs import Node, Ports, kafka_servers, listens, running
from tidings_cli.up.ports import HOST
from tidings_plan.resources.brokers import parallel

pytestmark = [pytest.mark.real, pytest.mark.timeout(400)]
SERVERS = 3
PUBLISHERS = 8


@contextmanager
def nats_servers(folder: Path, ports: Ports, many: int) -> Iterator[list[Node]]:
    """Run a cluster of NATS servers with JetStream."""
    program, routes = str(ensure("nats-server")["nats-server"]), [ports.take() for _ in range(many)]
    peers = ",".join(f"nats://{HOST}:{route}" for route in routes)
    with ExitStack() as stack:
        started: list[Node] = []
        for number, route in enumerate(routes):
            port, data = ports.take(), folder / f"nats-{number}"
            data.mkdir()
            command = [program, "--jetstream", "--store_dir", str(data), "--addr", HOST, "--port", str(port)]
            command += ["--server_name", data.name, "--cluster_name", "tests"]
            command += ["--cluster", f"nats://{HOST}:{route}", "--routes", peers]
            process = stack.enter_context(running(command, data / "nats.log", lambda port=port: listens(port)))  # type: ignore[misc]
            started.append(Node(f"nats://{HOST}:{port}", process))
        yield started


@contextmanager
def cluster(broker: str, folder: Path, ports: Ports) -> Iterator[tuple[str, list[Node]]]:
    """Run a cluster; gives its address and its servers."""
    if broker == "nats":
        with nats_servers(folder, ports, SERVERS) as servers:
            yield ",".join(server.url for server in servers), servers
    else:
        with kafka_servers(folder, ports, SERVERS) as servers:
            yield "kafka://" + ",".join(server.url.removeprefix("kafka://") for server in servers), servers


async def create(broker: str, address: str, topics: list[str]) -> None:
    """Create the topics with three copies, once the cluster has elected its leader."""
    if broker == "kafka":
        await asyncio.to_thread(ensure_topics, address, topics, replicas=SERVERS)
        return
    async with asyncio.timeout(60):
        while True:
            try:
                await ensure_streams(address, topics, replicas=SERVERS)
                break
            except (RefusedStreams, StreamError):
                await asyncio.sleep(0.5)


async def leader(broker: str, address: str, topic: str) -> int:
    """Return the index of the server that leads the topic, or its first partition."""
    if broker == "kafka":
        return await asyncio.to_thread(_leader_on_kafka, address, topic)
    client = await nats.connect(address.split(","))
    result = (await client.jetstream().stream_info(stream_name(topic))).cluster
    await client.close()
    assert result
    assert result.leader
    return int(result.leader.rpartition("-")[2])


def _leader_on_kafka(address: str, topic: str) -> int:
    client = KafkaAdminClient(**Address.of(address).client)
    [result] = client.describe_topics([topic])
    client.close()
    return int(result["partitions"][0]["leader_id"]) - 1


@pytest.mark.parametrize("broker", ["nats", "kafka"])
async def test_the_leader_of_a_topic_that_is_killed_under_load_loses_nothing(
    broker: str, daprd: StartDaprd, serve: Serve, tmp_path: Path, ports: Ports
) -> None:
    app, app_id = Reader(), unique("reader").replace(".", "-")
    with cluster(available(broker), tmp_path, ports) as (address, servers):
        [component] = render(SETS / broker, values_of(broker, address))
        components, topic = parallel(component), f"shop.item{new_id()[-6:]}Sold.v1"
        subscriptions = planned(app_id, [topic], components)
        await create(
            broker,
            address,
            [*(subscription["spec"]["topic"] for subscription in subscriptions), f"deadletter.{app_id}"],
        )
        served = await serve(app)
        process = await daprd(app_id, resources=[*components, *subscriptions], app_port=served.port)
        sidecar, published, stop = DaprSidecar(process.address), set[str](), asyncio.Event()
        numbers = itertools.count()

        async def publish() -> None:
            """Publish one event after the other; one that was refused is tried again, as an outbox does."""
            while not stop.is_set():
                body = event(id=(name := f"e-{next(numbers)}"), subject=name).encode()
                while True:
                    try:
                        await sidecar.publish(topic, body)
                        break
                    except SidecarError:
                        await asyncio.sleep(0.2)
                published.add(name)

        async with asyncio.TaskGroup() as publishing:
            for _ in range(PUBLISHERS):
                publishing.create_task(publish())
            await poll(lambda: len(app.seen) > 50)
            servers[await leader(broker, address, topic)].process.kill()
            before = len(published)
            await poll(lambda: len(published) > before + 200, patience=120)
            stop.set()
        await poll(lambda: app.seen.keys() >= published, patience=120)
        await sidecar.close()
