"""RabbitMQ: connections that break while events are published leave no queue with an orphaned consumer."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from contextlib import closing
from urllib.parse import urlsplit

import pika  # type: ignore[import-untyped]  # it has no types
import pytest
from tests.conformance import event, poll, unique
from tests.conformance.support import PATIENCE
from tests.integration.test_app_away import SETS, Reader, planned
from tests.support.brokers import values_of
from tests.support.proxy import FaultProxy

from tidings.brokers.components import render
from tidings.brokers.rabbitmq import ensure_queues, pending, queue_consumers, queue_name, stored
from tidings.dapr.client import DaprSidecar
from tidings.errors import SidecarError, SidecarUnavailable
from tidings.messages.envelope import new_id
from tidings_cli.testing.fixtures import Serve, StartDaprd
from tidings_cli.testing.programs import Daprd, Ports
from tidings_plan.resources.brokers import parallel

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]
TOPICS = 8
CUTS = 5


def unconfirmed(process: Daprd) -> Counter[str]:
    """Return how many events of each topic daprd has reported as published although RabbitMQ did not confirm them.

    They may be lost: docs/upstream/rabbitmq-unconfirmed.md.
    """
    pattern = re.compile(r"publishing to (\S+) failed: did not receive confirmation")
    return Counter(match[1] for line in process.lines() if (match := pattern.search(str(line.get("msg")))))


async def test_every_queue_has_one_consumer_after_connections_have_broken_while_events_are_published(
    rabbitmq: str, daprd: StartDaprd, serve: Serve, ports: Ports
) -> None:
    """On a channel that is shared, overlapping calls take each other's answers: docs/upstream/rabbitmq-channel.md."""
    app, app_id, run = Reader(), unique("reader").replace(".", "-"), new_id()[-6:]
    port, target = ports.take(), urlsplit(rabbitmq).port or 0
    [component] = render(SETS / "rabbitmq", values_of("rabbitmq", rabbitmq.replace(str(target), str(port))))
    components = parallel(component)
    subscriptions = planned(app_id, [f"shop.item{run}n{number}Sold.v1" for number in range(TOPICS)], components)
    readers = [(app_id, subscription) for subscription in subscriptions]
    topics = [
        str(subscription["spec"]["topic"])
        for subscription in subscriptions
        if "replay" not in subscription["spec"]["topic"]
    ]
    await asyncio.to_thread(ensure_queues, rabbitmq, readers)
    served = await serve(app)
    async with FaultProxy(port, target) as proxy:
        process = await daprd(app_id, resources=[*components, *subscriptions], app_port=served.port)
        sidecar, published = DaprSidecar(process.address), dict[str, str]()
        stop = asyncio.Event()

        async def publish() -> None:
            """Publish to the app's topics, and to ones that the connection does not know yet."""
            number = 0
            while not stop.is_set():
                number += 1
                requested = [topics[number % TOPICS], *(f"fresh{item}.{run}.v{number}" for item in range(3))]
                ids = [f"e-{number}-{item}" for item in range(4)]
                sent = (sidecar.publish(at, event(id=item).encode()) for at, item in zip(requested, ids, strict=True))
                results = await asyncio.gather(*sent, return_exceptions=True)
                wrong = [result for result in results if result and not isinstance(result, SidecarError)]
                assert not wrong, wrong
                published.update({} if results[0] else {ids[0]: requested[0]})

        publishing = asyncio.create_task(publish())
        await poll(lambda: app.seen)
        for _ in range(CUTS):
            async with proxy.failing("cut"):
                pass
            known = app.seen.total()
            await poll(lambda known=known: app.seen.total() > known + TOPICS)  # type: ignore[misc]
        stop.set()
        await publishing
        await poll(
            lambda: Counter(topic for key, topic in published.items() if key not in app.seen) <= unconfirmed(process)
        )
        expected = {(app_id, str(subscription["spec"]["topic"])): 1 for subscription in subscriptions}
        end = time.monotonic() + PATIENCE  # the server may take its time to notice that a connection is cut
        while (actual := await asyncio.to_thread(queue_consumers, rabbitmq, expected)) != expected:
            assert time.monotonic() < end, actual
            await asyncio.sleep(0.2)
        assert await asyncio.to_thread(ensure_queues, rabbitmq, readers) == [], "no queue or exchange was lost"
        await sidecar.close()


async def test_nothing_counts_as_published_while_rabbitmq_cannot_be_reached(
    rabbitmq: str, daprd: StartDaprd, ports: Ports
) -> None:
    """At a call's deadline, daprd reports success, and on a busy machine that answer may arrive before the failure."""
    port, target = ports.take(), urlsplit(rabbitmq).port or 0
    components = render(SETS / "rabbitmq", values_of("rabbitmq", rabbitmq.replace(str(target), str(port))))
    async with FaultProxy(port, target) as proxy:
        process = await daprd(unique("writer").replace(".", "-"), resources=components)
        async with DaprSidecar(process.address, deadline=0.5) as sidecar, DaprSidecar(process.address) as patient:
            assert await published(patient)
            async with proxy.failing("cut"):
                for _ in range(4):
                    assert not any(await asyncio.gather(*(published(sidecar) for _ in range(150))))
                many = await sidecar.publish_many("shop.itemSold.v1", [event().encode() for _ in range(100)])
                assert all(isinstance(result, SidecarUnavailable) for result in many)
            async with asyncio.timeout(PATIENCE):
                while not await published(patient):
                    pass  # it has waited


async def published(sidecar: DaprSidecar) -> bool:
    try:
        await sidecar.publish("shop.itemSold.v1", event().encode())
    except SidecarUnavailable:
        return False
    return True


async def test_an_app_takes_no_events_of_one_whose_id_begins_with_its_own(
    rabbitmq: str, daprd: StartDaprd, serve: Serve
) -> None:
    """With `<app>-<topic>`, both had one queue, and every second event went to the wrong one."""
    run = new_id()[-6:].lower()
    attacker, victim = f"pay{run}", f"pay{run}-ments"
    topic = f"shop.item{run}Sold.v1"
    [component] = render(SETS / "rabbitmq", values_of("rabbitmq", rabbitmq))
    components, apps, sidecars = parallel(component), {attacker: Reader(), victim: Reader()}, []
    for app_id in (attacker, victim):
        subscriptions = planned(app_id, [topic], components)
        for item in subscriptions:
            if app_id == attacker and item["spec"]["topic"] == topic:
                item["spec"]["topic"] = f"ments-{topic}"  # as spec.source.topic may name it
        await asyncio.to_thread(ensure_queues, rabbitmq, [(app_id, item) for item in subscriptions])
        served = await serve(apps[app_id])
        process = await daprd(app_id, resources=[*components, *subscriptions], app_port=served.port)
        sidecars.append(DaprSidecar(process.address))
    sent = Counter(f"e-{number}" for number in range(20))
    for key in sent:
        await sidecars[1].publish(topic, event(id=key).encode())
    await poll(lambda: (apps[attacker].seen + apps[victim].seen).total() >= len(sent))
    assert (apps[victim].seen, apps[attacker].seen) == (sent, Counter())
    for sidecar in sidecars:
        await sidecar.close()


def test_the_messages_that_wait_in_a_queue_are_counted(rabbitmq: str) -> None:
    topic = f"shop.item{new_id()[-6:]}Sold.v1"
    ensure_queues(rabbitmq, [("kitchen", {"spec": {"topic": topic}})])
    connection = pika.BlockingConnection(pika.URLParameters(rabbitmq))
    channel = connection.channel()
    channel.confirm_delivery()
    for _ in range(3):
        channel.basic_publish(topic, "", b"{}")
    connection.close()
    assert pending(rabbitmq, [("kitchen", topic), ("nobody", topic)]) == {(topic, "kitchen"): 3}


def test_dead_letters_without_a_reader_are_held_and_moved_to_the_first_one(rabbitmq: str) -> None:
    letters = f"deadletter.shop{new_id()[-6:]}"
    ensure_queues(rabbitmq, [], [letters])
    with closing(pika.BlockingConnection(pika.URLParameters(rabbitmq))) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        for number in range(3):
            channel.basic_publish(letters, "", b"%d" % number, pika.BasicProperties(message_id=f"m{number}"))
        assert stored(rabbitmq, [letters, "deadletter.no-such"]) == {letters: 3}
        reader = [("archive", {"spec": {"topic": letters}})]
        for _ in range(2):
            ensure_queues(rabbitmq, reader, [letters])
        channel.basic_publish(letters, "", b"3")
        assert stored(rabbitmq, [letters]) == {}, "the holding queue is gone"
        received = [channel.basic_get(queue_name("archive", letters), auto_ack=True) for _ in range(5)]
        assert [body for _, _, body in received] == [b"0", b"1", b"2", b"3", None]
        assert received[0][1].message_id == "m0"
        ensure_queues(rabbitmq, [], [letters])
        assert stored(rabbitmq, [letters]) == {letters: 0}
