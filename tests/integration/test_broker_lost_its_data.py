"""A broker that loses everything while the system runs: noticed, reported by `tidings ps`, and repaired."""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pika  # type: ignore[import-untyped]  # it has no types
import pytest
from kafka.admin import KafkaAdminClient  # type: ignore[import-untyped]  # it has no types
from nats import connect
from pika.exceptions import UnroutableError  # type: ignore[import-untyped]  # it has no types
from redis import Redis
from scenarios.counting import PARCEL, Numbers
from tests.support.brokers import available

from tidings.brokers.jetstream import ensure_streams, missing, stream_name
from tidings.brokers.kafka import Address, ensure_topics
from tidings.brokers.rabbitmq import queue_consumers, queue_name
from tidings.brokers.redis import pending
from tidings.brokers.watch import BrokerWatch, Found
from tidings_cli.testing.programs import Ports, rabbitmq_server, redis_server
from tidings_cli.up import state
from tidings_cli.up.run import Run, running
from tidings_cli.up.system import Options

TOPIC = "sender.numberTold.v1"
LOST = "shop.itemLost.v1"
NUMBERED = Path(__file__).parents[1] / "chaos" / "numbered"
pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]


@pytest.fixture
def rabbitmq(ports: Ports) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="tidings-") as folder, rabbitmq_server(Path(folder), ports) as url:
        yield url


@pytest.fixture(scope="module")
def redis_alone(ports: Ports) -> Iterator[Redis]:
    """Run a Redis for the tests of this file only; gives a client."""
    with tempfile.TemporaryDirectory(prefix="tidings-") as folder, redis_server(Path(folder), ports.take()) as address:
        host, port = address.split(":")
        with Redis(host=host, port=int(port)) as client:
            yield client


async def lose_everything(run: Run, *, recreated: bool) -> None:
    if run.state.broker == "nats":
        client = await connect(run.broker_url)
        for item in await client.jetstream().streams_info():
            await client.jetstream().delete_stream(str(item.config.name))
        await client.close()
    elif run.state.broker == "redis":
        command = ["redis-cli", "-e", "-u", run.broker_url, "FLUSHALL"]
        await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True)
    elif run.state.broker == "kafka":
        topics = await asyncio.to_thread(_delete_topics, run.broker_url)
        if recreated:
            await asyncio.to_thread(ensure_topics, run.broker_url, topics)
    else:
        await asyncio.to_thread(_delete_queues, run.broker_url)


def _delete_topics(url: str) -> list[str]:
    client = KafkaAdminClient(**Address.of(url).client)
    topics = [str(topic) for topic in client.list_topics() if not topic.startswith("__")]
    client.delete_topics(topics)
    client.close()
    return topics


def _delete_queues(url: str) -> None:
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    channel.queue_delete(queue_name("receiver", TOPIC))
    channel.exchange_delete(TOPIC)
    connection.close()


@asynccontextmanager
async def numbered(broker: str, folder: Path) -> AsyncIterator[tuple[Run, Numbers]]:
    """Run the system whose numbers can be counted on a broker."""
    options = Options(free_ports=True, run_dir=folder / "run", broker=broker)
    async with running(NUMBERED, options) as run, httpx2.AsyncClient(timeout=30, trust_env=False) as client:
        yield run, Numbers(run.url, client)


async def until_repaired(run: Run) -> None:
    """Wait until the loss of the topic is reported and all is as it was."""
    async with asyncio.timeout(120):
        while True:
            result = state.read(run.run_dir)
            if any(TOPIC in repair for repair in result.latest_repairs) and not result.broker_problem:
                break
            await asyncio.sleep(0.1)
    await run.wait_ready()


async def until_read_again(run: Run) -> None:
    """Wait until the receiver's queue is bound and has one consumer, also after an orphaned one was removed."""
    receiver = [("receiver", {"spec": {"topic": TOPIC}})]
    async with asyncio.timeout(120):
        expected: tuple[list[str], dict[tuple[str, str], int]] = ([], {("receiver", TOPIC): 1})
        while await asyncio.to_thread(queue_consumers, run.broker_url, receiver) != expected:  # noqa: ASYNC110 - polled
            await asyncio.sleep(0.2)
        while not await asyncio.to_thread(_arrives, run.broker_url):  # noqa: ASYNC110 - the same
            await asyncio.sleep(0.2)


def _arrives(url: str) -> bool:
    """Publish something, which ends among the dead letters, and return whether a queue is bound to the topic."""
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    channel.confirm_delivery()
    try:
        channel.basic_publish(TOPIC, "", b"{}", mandatory=True)
    except UnroutableError:
        return False
    finally:
        connection.close()
    return True


@pytest.mark.parametrize(
    ("broker", "recreated"), [("nats", False), ("redis", False), ("rabbitmq", False), ("kafka", False), ("kafka", True)]
)
async def test_events_flow_again_after_the_broker_has_lost_its_data(
    broker: str, recreated: bool, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """`recreated`: somebody else creates the topics again before the watch looks."""
    address = request.getfixturevalue(broker) if broker == "rabbitmq" else available(broker)
    async with numbered(address, tmp_path) as (run, numbers):
        await numbers.send(["before"])
        assert (await numbers.settled(["before"])).faultless
        await lose_everything(run, recreated=recreated)
        if broker in {"nats", "kafka"}:
            await until_repaired(run)
        if broker == "rabbitmq":  # daprd itself recreates its queues there, and its groups on Redis
            await until_read_again(run)
        await numbers.send(["after"])
        report = await numbers.settled(["after"])
    assert report.faultless, str(report)
    assert report.sent == PARCEL


@pytest.mark.parametrize("broker", ["nats", "redis", "rabbitmq", "kafka"])
async def test_the_events_that_wait_for_an_app_that_is_away_are_shown(
    broker: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    address = request.getfixturevalue(broker) if broker == "rabbitmq" else available(broker)
    async with numbered(address, tmp_path) as (run, numbers):
        async with run.stopped("receiver"):
            await numbers.send(["late"])
            async with asyncio.timeout(120):
                while not state.read(run.run_dir).broker_lag.get("receiver"):  # noqa: ASYNC110 - another process's
                    await asyncio.sleep(0.1)
        assert (await numbers.settled(["late"])).faultless
        async with asyncio.timeout(120):
            while state.read(run.run_dir).broker_lag.get("receiver"):  # noqa: ASYNC110 - the same
                await asyncio.sleep(0.1)


@pytest.mark.parametrize("broker", ["nats", "redis", "rabbitmq", "kafka"])
async def test_dead_letters_that_no_app_reads_are_shown(
    broker: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """The system has no archive."""
    address = request.getfixturevalue(broker) if broker == "rabbitmq" else available(broker)
    async with numbered(address, tmp_path) as (run, numbers):
        await numbers.send(["first", "second"], poisoned=1)
        async with asyncio.timeout(120):
            while state.read(run.run_dir).unread_dead_letters != {"deadletter.receiver": 2}:  # noqa: ASYNC110 - polled
                await asyncio.sleep(0.1)
        assert (await numbers.settled(["first", "second"], poisoned=1)).faultless


async def test_an_orphaned_consumer_is_reported_and_its_sidecar_restarted(rabbitmq: str, tmp_path: Path) -> None:
    """Another consumer takes its share of the messages, as daprd's own does after a call's answer went to another."""
    async with numbered(rabbitmq, tmp_path) as (run, numbers):
        connection = await asyncio.to_thread(_orphaned, run.broker_url)
        await numbers.send(["held"])
        await until_reported(run, f"an orphaned consumer holds messages of {TOPIC} for receiver")
        async with asyncio.timeout(120):
            while not state.read(run.run_dir).broker_repairs:  # noqa: ASYNC110 - another process writes it
                await asyncio.sleep(0.1)
        await asyncio.to_thread(connection.close)  # as the restarted sidecar's own connection is
        report = await numbers.settled(["held"])
    assert report.faultless, str(report)


def _orphaned(url: str) -> pika.BlockingConnection:
    connection = pika.BlockingConnection(pika.URLParameters(url + "?heartbeat=0"))
    connection.channel().basic_consume(queue_name("receiver", TOPIC), lambda *_: None)
    return connection


async def until_reported(run: Run, problem: str) -> None:
    async with asyncio.timeout(120):
        while state.read(run.run_dir).broker_problem != problem:  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(0.1)


async def test_streams_that_are_missing_and_consumers_that_no_one_serves_are_detected(nats: str) -> None:
    await ensure_streams(nats, ["a.b.v1"])
    assert await missing(nats, ["a.b.v1", "c.d.v1"], [("x", "a.b.v1")]) == (["c.d.v1"], [("x", "a.b.v1")])


@pytest.mark.parametrize(
    "subjects",
    [None, ["another.subject"], [f"{LOST}.more"], [f"{LOST[:-1]}2"], ["x.one", "x.two"]],
    ids=["no stream", "another", "a longer one", "another version", "several"],
)
async def test_a_stream_that_somebody_recreated_for_another_subject_was_lost(
    subjects: list[str] | None, nats: str
) -> None:
    """Its name is taken, but nothing that is published reaches it."""
    watched = BrokerWatch("nats", nats, [LOST], [])
    await watched.ensure()
    client = await connect(nats)
    js = client.jetstream()
    await js.delete_stream(stream_name(LOST))
    if subjects:
        await js.add_stream(name=stream_name(LOST), subjects=subjects)
    assert await watched.look() == Found((LOST,))
    assert (await js.publish(LOST, b"{}")).stream == stream_name(LOST)
    assert await watched.look() == Found()
    await js.delete_stream(stream_name(LOST))
    await client.close()


@pytest.mark.parametrize(
    ("commands", "is_lost"),
    [
        ([["FLUSHALL"]], True),
        ([["DEL", TOPIC]], True),
        ([["DEL", TOPIC], ["XGROUP", "CREATE", TOPIC, "receiver", "0", "MKSTREAM"]], True),
        ([["DEL", TOPIC], *[["XADD", TOPIC, "*", "data", "later"]] * 5], True),
        ([["SET", TOPIC, "no stream"]], True),
        ([["RENAME", TOPIC, "elsewhere"], *[["XADD", TOPIC, "*", "data", "later"]] * 3], True),
        ([["XADD", TOPIC, "*", "data", "later"]], False),
        ([["XTRIM", TOPIC, "MAXLEN", "1"], ["XADD", TOPIC, "*", "data", "later"]], False),
        ([*[["XADD", TOPIC, "*", "data", "later"]] * 5, ["XTRIM", TOPIC, "MAXLEN", "2"]], False),
        ([["XTRIM", TOPIC, "MAXLEN", "0"]], False),
        ([["XGROUP", "DESTROY", TOPIC, "receiver"]], False),
    ],
)
async def test_a_redis_stream_that_starts_anew_was_lost(
    commands: list[list[str]], is_lost: bool, redis_alone: Redis
) -> None:
    """daprd recreates the stream and its group within milliseconds, so that nothing is missing when the watch looks."""
    redis_alone.flushall()
    redis_alone.xgroup_create(TOPIC, "receiver", "0", mkstream=True)
    url = f"redis://127.0.0.1:{redis_alone.get_connection_kwargs()['port']}"
    watched = BrokerWatch("redis", url, [TOPIC, "a.b.v1"], [("receiver", {"spec": {"topic": TOPIC}})])
    assert await watched.look() == Found()
    for _ in range(3):
        redis_alone.xadd(TOPIC, {"data": b"\xff\xfe"})
    assert await watched.look() == Found()
    for command in commands:
        redis_alone.execute_command(*command)  # type: ignore[no-untyped-call]
    later = BrokerWatch("redis", url, [TOPIC, "a.b.v1"], [])
    later.resume(watched)
    assert await later.look() == Found((TOPIC,) if is_lost else ())
    assert await later.look() == Found()


def test_waiting_entries_of_any_bytes_are_counted(redis_alone: Redis) -> None:
    """Where entries were deleted, Redis does not know how many wait, and they are read one by one."""
    redis_alone.flushall()
    redis_alone.xgroup_create(TOPIC, "receiver", "0", mkstream=True)
    entries = [redis_alone.xadd(TOPIC, {"data": b"\xff\xfe"}) for _ in range(3)]
    redis_alone.xreadgroup("receiver", "one", {TOPIC: ">"}, count=1)
    redis_alone.xdel(TOPIC, entries[1])
    url = f"redis://127.0.0.1:{redis_alone.get_connection_kwargs()['port']}"
    assert pending(url, [TOPIC]) == {(TOPIC, "receiver"): 2}
