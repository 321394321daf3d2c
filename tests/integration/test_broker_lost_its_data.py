"""A broker that loses everything while the system runs: noticed, reported by `tidings ps`, and repaired."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import pika  # type: ignore[import-untyped]  # it has no types
import pytest
import pytest_asyncio
from kafka import (  # type: ignore[import-untyped]  # it has no types
    KafkaAdminClient,
    KafkaConsumer,
    KafkaProducer,
    OffsetAndMetadata,
    TopicPartition,
)
from nats import connect
from nats.js import JetStreamContext
from pika.adapters.blocking_connection import BlockingChannel  # type: ignore[import-untyped]  # it has no types
from pika.exceptions import StreamLostError, UnroutableError  # type: ignore[import-untyped]  # it has no types
from redis import Redis
from scenarios.counting import PARCEL, Numbers
from tests.support.brokers import available

from tidings.brokers import watch as brokerwatch
from tidings.brokers.jetstream import consumers, ensure_streams, stream_name, streams
from tidings.brokers.kafka import Address, ensure_topics
from tidings.brokers.rabbitmq import QueueError, queue_consumers, queue_name
from tidings.brokers.redis import pending
from tidings.brokers.watch import CONSUMERS_INTERVAL, BrokerWatch, Observation
from tidings.messages.envelope import new_id
from tidings_cli.testing.programs import Ports, rabbitmq_server, redis_server
from tidings_cli.up import state
from tidings_cli.up.run import Run, running
from tidings_cli.up.system import Options

TOPIC = "sender.numberTold.v1"
LOST = "shop.itemLost.v1"
Test = Callable[[tuple[Run, Numbers]], Awaitable[None]]
NUMBERED = Path(__file__).parents[1] / "chaos" / "numbered"
pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def rabbitmq(ports: Ports) -> Iterator[str]:
    """Run a RabbitMQ for the tests of this file only."""
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


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def system(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Run, Numbers]]:
    """Run the system whose numbers can be counted on a broker."""
    broker = request.param
    address = request.getfixturevalue(broker) if broker == "rabbitmq" else available(broker)
    options = Options(free_ports=True, run_dir=tmp_path_factory.mktemp(broker) / "run", broker=address)
    async with running(NUMBERED, options) as run, httpx2.AsyncClient(timeout=60, trust_env=False) as client:
        yield run, Numbers(run.url, client)


def systems(*brokers: str) -> Callable[[Test], Test]:
    """Run a test on the system of each broker, which such tests share."""
    on_each = pytest.mark.parametrize("system", brokers, indirect=True, scope="module")
    in_one_loop = pytest.mark.asyncio(loop_scope="module")
    return lambda test: in_one_loop(on_each(test))


async def until_repaired(run: Run, faults: int) -> None:
    """Wait until the loss of the topic is reported, after so many earlier faults, and all is as it was."""
    async with asyncio.timeout(120):
        while True:
            result = state.read(run.run_dir)
            is_reported = result.broker_faults > faults and any(TOPIC in fault for fault in result.latest_faults)
            if is_reported and not result.broker_problem:
                break
            await asyncio.sleep(0.1)
    await run.wait_ready()


async def until_read_again(run: Run) -> None:
    """Wait until the receiver's queue is bound and has one consumer, also after an orphaned one was removed."""
    expected = {("receiver", TOPIC): 1}
    async with asyncio.timeout(120):
        while await asyncio.to_thread(queue_consumers, run.broker_url, expected) != expected:  # noqa: ASYNC110 - polled
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


@systems("nats", "redis", "rabbitmq", "kafka")
async def test_the_events_that_wait_for_an_app_that_is_away_are_shown(system: tuple[Run, Numbers]) -> None:
    run, numbers = system
    async with run.stopped("receiver"):
        await numbers.send(["late"])
        async with asyncio.timeout(120):
            while not state.read(run.run_dir).broker_lag.get("receiver"):  # noqa: ASYNC110 - another process's
                await asyncio.sleep(0.1)
    assert (await numbers.settled(["late"])).faultless
    async with asyncio.timeout(120):
        while state.read(run.run_dir).broker_lag.get("receiver"):  # noqa: ASYNC110 - the same
            await asyncio.sleep(0.1)


@systems("nats", "redis", "rabbitmq", "kafka")
async def test_dead_letters_that_no_app_reads_are_shown(system: tuple[Run, Numbers]) -> None:
    """The system has no archive."""
    run, numbers = system
    await numbers.send(["first", "second"], poisoned=1)
    async with asyncio.timeout(120):
        while state.read(run.run_dir).unread_dead_letters != {"deadletter.receiver": 2}:  # noqa: ASYNC110 - polled
            await asyncio.sleep(0.1)
    assert (await numbers.settled(["first", "second"], poisoned=1)).faultless


@systems("rabbitmq")
async def test_an_orphaned_consumer_is_reported_and_its_sidecar_restarted(system: tuple[Run, Numbers]) -> None:
    """Another consumer takes its share of the messages, as daprd's own does after a call's answer went to another."""
    run, numbers = system
    faults = state.read(run.run_dir).broker_faults
    connection = await asyncio.to_thread(_orphaned, run.broker_url)
    await numbers.send(["held"])
    await until_reported(run, f"an orphaned consumer holds messages of {TOPIC} for receiver")
    async with asyncio.timeout(120):
        while state.read(run.run_dir).broker_faults == faults:  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(0.1)
    await asyncio.to_thread(connection.close)  # as the restarted sidecar's own connection is
    report = await numbers.settled(["held"])
    assert report.faultless, str(report)


@systems("nats", "redis", "rabbitmq", "kafka")
async def test_events_flow_again_after_the_broker_has_lost_its_data(system: tuple[Run, Numbers]) -> None:
    await check_a_loss(*system, recreated=False)


@systems("kafka")
async def test_events_flow_again_where_somebody_recreates_the_lost_topics_before_the_watch_looks(
    system: tuple[Run, Numbers],
) -> None:
    await check_a_loss(*system, recreated=True)


async def check_a_loss(run: Run, numbers: Numbers, *, recreated: bool) -> None:
    before, after = f"before-{recreated}", f"after-{recreated}"
    faults = state.read(run.run_dir).broker_faults
    await numbers.send([before])
    assert (await numbers.settled([before])).faultless
    await lose_everything(run, recreated=recreated)
    if run.state.broker != "redis":  # the watch may not have seen the stream with entries
        await until_repaired(run, faults)
    if run.state.broker == "rabbitmq":  # daprd itself recreates its queues there, and its groups on Redis
        await until_read_again(run)
    await numbers.send([after])
    report = await numbers.settled([after])
    assert report.faultless, str(report)
    assert report.sent == PARCEL


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
    assert [*await streams(nats, ["a.b.v1", "c.d.v1"])] == ["a.b.v1"]
    assert await consumers(nats, [("x", "a.b.v1"), ("x", "c.d.v1")]) == {}


async def test_a_check_of_a_healthy_jetstream_takes_one_request(nats: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Consumers, of which each topic needs a request, are checked every ten seconds, and again while one is unread."""
    now = 1000.0
    monkeypatch.setattr(brokerwatch, "time", SimpleNamespace(monotonic=lambda: now))
    topics = [f"shop.item{number}Sold.v1" for number in range(5)]
    watched = BrokerWatch("nats", nats, topics, [("x", {"spec": {"topic": topic}}) for topic in topics])
    await watched.ensure()
    client = await connect(nats)
    js = client.jetstream()
    read = [await js.subscribe(topic, durable="x") for topic in topics]
    assert await watched.look() == Observation()
    before = (await js.account_info()).api.total
    for _ in range(4):
        assert await watched.look() == Observation()
    assert (await js.account_info()).api.total - before == 4 + 1, "the latter for the account's information itself"
    await read[0].unsubscribe()
    now += CONSUMERS_INTERVAL
    assert await watched.look() == Observation(unread=(("x", topics[0]),))
    await js.subscribe(topics[0], durable="x")
    assert await watched.look() == Observation()
    for topic in topics:
        await js.delete_stream(stream_name(topic))
    await client.close()


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
    assert await watched.look() == Observation((LOST,))
    assert (await js.publish(LOST, b"{}")).stream == stream_name(LOST)
    assert await watched.look() == Observation()
    await js.delete_stream(stream_name(LOST))
    await client.close()


async def publish(js: JetStreamContext, count: int) -> None:
    for _ in range(count):
        await js.publish(LOST, b"{}")


@pytest.mark.parametrize(
    ("acknowledged", "later", "keep", "has_gap"),
    [
        (0, 0, 0, True),
        (3, 0, 0, True),
        (3, 0, 2, False),
        (3, 0, 1, True),
        (5, 0, 0, False),
        (5, 4, 0, True),
        (5, 4, 4, False),
        (5, 4, 3, True),
    ],
)
async def test_a_purged_jetstream_stream_has_lost_what_was_not_acknowledged(
    acknowledged: int, later: int, keep: int, has_gap: bool, nats: str
) -> None:
    watched = BrokerWatch("nats", nats, [LOST], [("x", {"spec": {"topic": LOST}})])
    await watched.ensure()
    client = await connect(nats)
    js = client.jetstream()
    await publish(js, 5)
    read = await js.pull_subscribe(LOST, "x")
    for message in await read.fetch(acknowledged) if acknowledged else []:
        await message.ack_sync()
    assert not (await watched.look()).problem.startswith("unhandled")
    await publish(js, later)
    await js.purge_stream(stream_name(LOST), keep=keep or None)
    result = await watched.look()
    assert (result.lost, result.gaps) == ((), (LOST,) if has_gap else ())
    result = await watched.look()
    assert (result.lost, result.gaps) == ((), ()), "it is reported once"
    await js.delete_stream(stream_name(LOST))
    await client.close()


async def test_a_jetstream_stream_that_somebody_recreated_with_as_many_events_was_lost(nats: str) -> None:
    watched = BrokerWatch("nats", nats, [LOST], [])
    await watched.ensure()
    client = await connect(nats)
    js = client.jetstream()
    await publish(js, 2)
    assert await watched.look() == Observation()
    await js.delete_stream(stream_name(LOST))
    await ensure_streams(nats, [LOST])
    await publish(js, 5)
    assert await watched.look() == Observation((LOST,))
    assert await watched.look() == Observation()
    await js.delete_stream(stream_name(LOST))
    await client.close()


async def test_dead_letters_that_no_app_has_read_are_missed_after_a_purge(nats: str) -> None:
    letters, read = "deadletter.purged", "shop.itemPurged.v1"
    watched = BrokerWatch("nats", nats, [letters, read], [])
    await watched.ensure()
    client = await connect(nats)
    js = client.jetstream()
    for topic in (letters, read):
        await js.publish(topic, b"{}")
    assert await watched.look() == Observation()
    for topic in (letters, read):
        await js.purge_stream(stream_name(topic))
    assert await watched.look() == Observation(gaps=(letters,))
    for topic in (letters, read):
        await js.delete_stream(stream_name(topic))
    await client.close()


@pytest.mark.parametrize(
    ("handled", "commands", "is_lost", "has_gap"),
    [
        (0, [["FLUSHALL"]], True, False),
        (3, [["DEL", TOPIC]], True, False),
        (3, [["DEL", TOPIC], ["XGROUP", "CREATE", TOPIC, "receiver", "0", "MKSTREAM"]], True, False),
        (3, [["DEL", TOPIC], *[["XADD", TOPIC, "*", "data", "later"]] * 5], True, False),
        (3, [["SET", TOPIC, "no stream"]], True, False),
        (3, [["RENAME", TOPIC, "elsewhere"], *[["XADD", TOPIC, "*", "data", "later"]] * 3], True, False),
        (0, [["XADD", TOPIC, "*", "data", "later"]], False, False),
        (0, [["XTRIM", TOPIC, "MAXLEN", "1"], ["XADD", TOPIC, "*", "data", "later"]], False, True),
        (2, [["XTRIM", TOPIC, "MAXLEN", "1"], ["XADD", TOPIC, "*", "data", "later"]], False, False),
        (1, [["XTRIM", TOPIC, "MAXLEN", "1"]], False, True),
        (3, [*[["XADD", TOPIC, "*", "data", "later"]] * 5, ["XTRIM", TOPIC, "MAXLEN", "5"]], False, False),
        (3, [*[["XADD", TOPIC, "*", "data", "later"]] * 5, ["XTRIM", TOPIC, "MAXLEN", "4"]], False, True),
        (3, [["XTRIM", TOPIC, "MAXLEN", "0"]], False, False),
        (2, [["XTRIM", TOPIC, "MAXLEN", "0"]], False, True),
        (-3, [["XTRIM", TOPIC, "MAXLEN", "1"]], False, True),
        (3, [["XGROUP", "DESTROY", TOPIC, "receiver"]], False, False),
    ],
)
async def test_a_redis_stream_that_starts_anew_or_is_trimmed_too_far_has_lost_entries(
    handled: int, commands: list[list[str]], is_lost: bool, has_gap: bool, redis_alone: Redis
) -> None:
    """daprd recreates the stream and its group within milliseconds, so that nothing is missing when the watch looks.

    `handled`: entries that were acknowledged; below zero, that were delivered and not acknowledged.
    """
    redis_alone.flushall()
    redis_alone.xgroup_create(TOPIC, "receiver", "0", mkstream=True)
    url = f"redis://127.0.0.1:{redis_alone.get_connection_kwargs()['port']}"
    subscriptions = [("receiver", {"spec": {"topic": TOPIC}})]
    watched = BrokerWatch("redis", url, [TOPIC, "a.b.v1"], subscriptions)
    assert await watched.look() == Observation()
    for _ in range(3):
        redis_alone.xadd(TOPIC, {"data": b"\xff\xfe"})
    if handled:
        redis_alone.xreadgroup("receiver", "one", {TOPIC: ">"}, count=abs(handled))
        for entry in redis_alone.xpending_range(TOPIC, "receiver", "-", "+", 10) if handled > 0 else ():
            redis_alone.xack(TOPIC, "receiver", entry["message_id"])
    assert await watched.look() == Observation()
    for command in commands:
        redis_alone.execute_command(*command)  # type: ignore[no-untyped-call]
    later = BrokerWatch("redis", url, [TOPIC, "a.b.v1"], subscriptions)
    later.resume(watched)
    assert await later.look() == Observation((TOPIC,) if is_lost else (), gaps=(TOPIC,) if has_gap else ())
    assert await later.look() == Observation()


@pytest.mark.parametrize(
    ("deleted", "is_recreated"),
    [(["queue"], True), (["queue"], False), (["exchange"], True), (["exchange"], False), (["exchange", "queue"], True)],
)
async def test_a_queue_or_exchange_of_rabbitmq_that_was_deleted_is_reported(
    deleted: list[str], is_recreated: bool, rabbitmq: str
) -> None:
    """daprd recreates both within milliseconds, so that nothing is missing when the watch looks."""
    app, topic, letters = "kitchen", f"shop.item{new_id()[-6:]}Lost.v1", f"deadletter.shop{new_id()[-6:]}"
    queue = queue_name(app, topic)
    readers = [(reader, {"spec": {"topic": topic}}) for reader in (app, "menu")]
    watched = BrokerWatch("rabbitmq", rabbitmq, [topic, letters], readers)
    await watched.ensure()
    assert (await watched.look()).lost == ()
    with closing(pika.BlockingConnection(pika.URLParameters(rabbitmq))) as connection:
        channel = connection.channel()
        for what in deleted:
            channel.exchange_delete(topic) if what == "exchange" else channel.queue_delete(queue)
        if is_recreated:
            channel.exchange_declare(topic, "fanout", durable=True)
            channel.queue_declare(queue, durable=True)
            channel.queue_bind(queue, topic)
        later = BrokerWatch("rabbitmq", rabbitmq, [topic, letters], readers)
        assert {*(await later.look()).lost} == {{"queue": queue, "exchange": topic}[what] for what in deleted}
        assert (await later.look()).lost == ()
        channel.queue_delete(f"tidings:unread-{letters}")
        assert (await later.look()).lost == (f"tidings:unread-{letters}",)
        channel.queue_declare("other:-settings", durable=False)
        refused = [("other", {"spec": {"topic": "settings"}}), *readers]
        assert (await BrokerWatch("rabbitmq", rabbitmq, [topic], refused).look()).lost == ()
        channel.queue_delete("other:-settings")


@pytest.mark.parametrize("breaks", [False, True], ids=["", "connection breaks"])
@pytest.mark.parametrize("deleted", [["queue"], ["exchange"], ["exchange", "queue"]])
async def test_a_queue_or_exchange_of_rabbitmq_that_is_deleted_during_a_look_is_reported(
    deleted: list[str], breaks: bool, rabbitmq: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At whatever moment: before or between the calls of a look, or after them, which the next look reports.

    If the connection breaks, all is deleted before the look, which fails at the call of that number.
    """
    app, topic = "kitchen", f"shop.item{new_id()[-6:]}Lost.v1"
    queue = queue_name(app, topic)
    expected = {queue if what == "queue" else topic for what in deleted}
    failures = [QueueError] if breaks else []
    calls = 0

    def deleting(call: int, method: str) -> None:
        """Delete before the look's call of that number."""
        original = getattr(BlockingChannel, method)

        def called(channel: BlockingChannel, *arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == (1 if breaks else call):
                with closing(pika.BlockingConnection(pika.URLParameters(rabbitmq))) as connection:
                    other = connection.channel()
                    for what in deleted:
                        other.exchange_delete(topic) if what == "exchange" else other.queue_delete(queue)
            if breaks and calls == call:
                raise StreamLostError
            return original(channel, *arguments, **options)

        patch.setattr(BlockingChannel, method, called)

    watched = BrokerWatch("rabbitmq", rabbitmq, [topic], [(app, {"spec": {"topic": topic}})])
    await watched.ensure()
    for call in itertools.count(1):
        calls, seen = 0, set[str]()
        with monkeypatch.context() as patch:
            for method in ("exchange_declare", "queue_declare", "queue_bind", "exchange_bind"):
                deleting(call, method)
            with suppress(*failures):
                seen |= {*(await watched.look()).lost}
            if calls < call:
                break
        seen |= {*(await watched.look()).lost}
        assert seen == expected, f"deleted before call {call}, or broken at it"
        await watched.look()  # reports again what was lost while it was marked
        assert (await watched.look()).lost == ()
    assert call > 5


@pytest.fixture
def kafka_topic(kafka: str) -> str:
    """Return a topic with one partition and five messages."""
    topic = f"shop.item{new_id()[-6:]}Lost.v1"
    ensure_topics(kafka, [topic], partitions=1)
    send(kafka, topic, 5)
    return topic


def send(url: str, topic: str, count: int) -> None:
    with closing(KafkaProducer(bootstrap_servers=Address.of(url).brokers)) as producer:
        for _ in range(count):
            producer.send(topic, b"{}").get(60)


def commit(url: str, topic: str, offset: int) -> None:
    settings = {
        "bootstrap_servers": Address.of(url).brokers,
        "group_id": f"reader-{topic}",
        "enable_auto_commit": False,
    }
    with closing(KafkaConsumer(**settings)) as consumer:
        consumer.assign([TopicPartition(topic, 0)])
        consumer.commit({TopicPartition(topic, 0): OffsetAndMetadata(offset, "", -1)})


@pytest.mark.parametrize(
    ("committed", "first", "has_gap"), [(3, 3, False), (3, 4, True), (5, 5, False), (4, 5, True), (None, 2, True)]
)
async def test_a_kafka_topic_that_was_shortened_has_lost_what_was_not_read(
    committed: int | None, first: int, has_gap: bool, kafka: str, kafka_topic: str
) -> None:
    """Its readers, whose sidecars read no more, are restarted."""
    app = f"reader-{kafka_topic}"
    readers = [(app, {"spec": {"topic": kafka_topic}})]
    watched = BrokerWatch("kafka", kafka, [kafka_topic], readers)
    await watched.ensure()
    if committed is not None:
        await asyncio.to_thread(commit, kafka, kafka_topic, committed)
    assert await watched.look() == Observation()
    await asyncio.to_thread(_shorten, kafka, kafka_topic, first)
    expected = Observation(unread=((app, kafka_topic),), gaps=(kafka_topic,)) if has_gap else Observation()
    assert await watched.look() == expected
    watched._stale.clear()
    assert await watched.look() == Observation(), "it is reported once"
    anew = BrokerWatch("kafka", kafka, [kafka_topic], readers)
    assert await anew.look() == (expected if committed is not None else Observation()), (
        "also by a watch that starts later"
    )


def _shorten(url: str, topic: str, first: int) -> None:
    with closing(KafkaAdminClient(**Address.of(url).client)) as client:
        client.delete_records({TopicPartition(topic, 0): first})


async def test_a_kafka_topic_whose_reader_is_beyond_its_end_has_lost_events(kafka: str, kafka_topic: str) -> None:
    """Nobody has watched while its end was lost."""
    await asyncio.to_thread(commit, kafka, kafka_topic, 9)
    readers = [(f"reader-{kafka_topic}", {"spec": {"topic": kafka_topic}})]
    watched = BrokerWatch("kafka", kafka, [kafka_topic], readers)
    assert (await watched.look()).gaps == (kafka_topic,)


def test_waiting_entries_of_any_bytes_are_counted(redis_alone: Redis) -> None:
    """After deletions, Redis does not know the number of pending entries, so they are counted one by one."""
    redis_alone.flushall()
    redis_alone.xgroup_create(TOPIC, "receiver", "0", mkstream=True)
    entries = [redis_alone.xadd(TOPIC, {"data": b"\xff\xfe"}) for _ in range(3)]
    redis_alone.xreadgroup("receiver", "one", {TOPIC: ">"}, count=1)
    redis_alone.xdel(TOPIC, entries[1])
    url = f"redis://127.0.0.1:{redis_alone.get_connection_kwargs()['port']}"
    assert pending(url, [TOPIC]) == {(TOPIC, "receiver"): 2}
